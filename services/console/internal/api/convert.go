package api

import (
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tercelhq/tercel/pkg/event"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	eventv1 "github.com/tercelhq/tercel/proto/tercel/event/v1"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

// stamp is a time, or nil for the zero one.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// took is a duration, or nil for 0.
func took(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// moment reads a time that may be absent.
func moment(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if !t.IsValid() {
		return time.Time{}, invalid(field, "a time between the years 1 and 9999")
	}
	return t.AsTime(), nil
}

// short checks the length of texts that are looked up.
func short(fields map[string]string) error {
	for field, text := range fields {
		if len(text) > maxText {
			return invalid(field, "at most 1,024 bytes")
		}
	}
	return nil
}

const maxText = 1024

// utf8s is text that came from outside, as a message can hold it.
func utf8s(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// names lists what there is, for a message.
func names[T any](all map[string]T) string {
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(all)), ", ")
}

// attributes are an event's, as callers get them.
func attributes(e event.Event) *eventv1.Attributes {
	return &eventv1.Attributes{
		Id: utf8s(e.ID), Source: utf8s(e.Source), Account: utf8s(e.Account), Type: utf8s(e.Type),
		Subject: utf8s(e.RecordID), Resource: utf8s(e.Resource), Version: utf8s(string(e.Version)),
		Origin: origin(e.Origin), Time: stamp(e.Time), ReceivedAt: stamp(e.ReceivedAt), ObservedAt: stamp(e.ObservedAt),
		DeliveryId: utf8s(e.DeliveryID), TriggerSequence: e.TriggerSequence,
	}
}

func origin(o event.Origin) eventv1.Origin {
	return eventv1.Origin(eventv1.Origin_value["ORIGIN_"+strings.ToUpper(string(o))])
}

// status is where an event is on its way.
func status(s timeline.State) adminv1.EventStatus {
	switch s {
	case timeline.UnderWay:
		return adminv1.EventStatus_EVENT_STATUS_PENDING
	case timeline.Done:
		return adminv1.EventStatus_EVENT_STATUS_DELIVERED
	case timeline.DeadLettered:
		return adminv1.EventStatus_EVENT_STATUS_DEAD_LETTER
	case timeline.Discarded:
		return adminv1.EventStatus_EVENT_STATUS_DISCARDED
	case timeline.Dropped:
		return adminv1.EventStatus_EVENT_STATUS_DROPPED
	case timeline.Refused:
		return adminv1.EventStatus_EVENT_STATUS_REFUSED
	default:
		return adminv1.EventStatus_EVENT_STATUS_UNSPECIFIED
	}
}
