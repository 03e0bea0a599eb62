package sink

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/mapping"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// sendsBody are the kinds that send a body, which a map then makes. The others
// store an event in parts; for them it makes the record.
var sendsBody = map[string]bool{"http": true, "nats": true}

// shape is which of the events that a destination subscribes to it takes, and
// what it has of each.
type shape struct {
	when, mapped mapping.Expr
	sendsBody    bool
}

func newShape(dest pipeline.Destination) (shape, error) {
	kind, err := dest.Kind()
	return shape{dest.When, dest.Map, sendsBody[kind]}, err
}

// apply reports whether the destination wants an item, and makes of it what it
// is to have. Attributes stay: what orders, identifies and places an event is
// not for an expression to say (promises 4 and 7). An error is the item's own.
func (s shape) apply(ctx context.Context, it *delivery.Item) (wanted bool, err error) {
	if s.when.IsZero() && s.mapped.IsZero() {
		return true, nil
	}
	doc := &mapping.Document{Event: it.Event, Trigger: it.Trigger, Record: it.Record, Related: it.Related}
	if !s.when.IsZero() {
		if wanted, err = s.when.Bool(ctx, doc); err != nil || !wanted {
			return false, err
		}
	}
	if s.mapped.IsZero() {
		return true, nil
	}
	made, err := s.mapped.Value(ctx, doc)
	if err != nil {
		return false, err
	}
	it.Trigger, it.Record, it.Related, it.Body = nil, made, nil, made
	if !s.sendsBody {
		it.Body = event.Body{Record: made, Deleted: it.Event.Deleted}.Encode()
	}
	return true, nil
}

// Explanation is what a destination would do with an event.
type Explanation struct {
	// Subscribed says that it subscribes to the event, Wanted that its when
	// takes it too.
	Subscribed, Wanted bool
	// Payload is what it would have: what its map makes, or without one the
	// event's whole body. It is nil unless the event is wanted.
	Payload jsontext.Value
}

// Explain tells what a [Service] would do with the message of an enriched
// event at one destination, which isn't opened. The error is the one with which
// the event would become a dead letter.
func Explain(ctx context.Context, dest pipeline.Destination, msg *nats.Msg) (Explanation, error) {
	var ex Explanation
	for _, pattern := range dest.Subjects() {
		ex.Subscribed = ex.Subscribed || event.Match(pattern, msg.Subject)
	}
	if !ex.Subscribed {
		return ex, nil
	}
	s, err := newShape(dest)
	if err != nil {
		return ex, err
	}
	it, err := delivery.Decode(consume.Message{Subject: msg.Subject, Header: msg.Header, Data: msg.Data})
	if err != nil {
		return ex, err
	}
	if ex.Wanted, err = s.apply(ctx, &it); err != nil || !ex.Wanted {
		return ex, err
	}
	if ex.Payload = it.Body; !dest.Map.IsZero() {
		ex.Payload = it.Record
	}
	return ex, nil
}
