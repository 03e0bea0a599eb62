package event

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/tercelhq/tercel/proto/tercel/event/v1"
)

// Proto returns an enriched event as the contract that downstream teams
// import. body is the message's body. Numbers in it become doubles, as in
// every google.protobuf.Value; who needs all digits of a large number reads
// the JSON.
func (e Event) Proto(body []byte) (*eventv1.Event, error) {
	b := &eventv1.Body{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, b); err != nil {
		return nil, fmt.Errorf("event %s: body is not an enriched event's", e.ID)
	}
	stamp := func(t time.Time) *timestamppb.Timestamp {
		if t.IsZero() {
			return nil
		}
		return timestamppb.New(t)
	}
	origin := eventv1.Origin_value["ORIGIN_"+strings.ToUpper(string(e.Origin))]
	return &eventv1.Event{
		Attributes: &eventv1.Attributes{
			Id: e.ID, Source: e.Source, Account: e.Account, Type: e.Type,
			Subject: e.RecordID, Resource: e.Resource, Version: string(e.Version), Origin: eventv1.Origin(origin),
			Time: stamp(e.Time), ReceivedAt: stamp(e.ReceivedAt), ObservedAt: stamp(e.ObservedAt),
			DeliveryId: e.DeliveryID, TriggerSequence: e.TriggerSequence,
		},
		Body: b,
	}, nil
}
