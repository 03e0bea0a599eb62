// Package delivery is what every destination takes and answers: one enriched
// event in the parts that a destination stores, and the fate of its writing.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
)

// ErrUnwanted means that a destination wants no more events, until somebody has
// changed its mind.
var ErrUnwanted = errors.New("the destination wants no more events")

// ErrHeld means that a destination isn't out, but takes the events of another
// process.
var ErrHeld = errors.New("another process writes to it")

// Item is one enriched event on its way into a destination.
type Item struct {
	// Event is the event's attributes.
	Event event.Event
	// Body is the event's whole body, a JSON object as package event defines it.
	Body []byte
	// Trigger, Record and Related are the parts of Body, each as JSON. Record
	// is nil on a tombstone and on an event that speaks of no resource, Related
	// is nil or an object.
	Trigger, Record, Related jsontext.Value
	// Sequence is the event's place in its stream.
	Sequence uint64
	// Header are the headers of the event's message.
	Header nats.Header
	// Attempt counts the event's deliveries to its consumer, from 1.
	Attempt int
	// TraceID is the trace that the event belongs to, in hex, or "".
	TraceID string
}

// Result is what became of one [Item].
type Result struct {
	// Duplicate says that the destination had the event already.
	Duplicate bool
	// Outage says that Err speaks of the destination and not of the item. Only
	// kinds that can tell say so.
	Outage bool
	// Err is why the item is not in the destination, marked by package fault,
	// or nil once it is there durably.
	Err error
}

// Failed are the results of n items which all failed with err.
func Failed(n int, err error) []Result {
	results := make([]Result, n)
	for i := range results {
		results[i].Err = err
	}
	return results
}

// Out are the results of n items which failed with err since the destination is
// out: nothing was wrong with them, and it was no attempt.
func Out(n int, err error) []Result {
	results := Failed(n, fault.Postpone(err, 0)) // the loop knows when it is due
	for i := range results {
		results[i].Outage = true
	}
	return results
}

// Time is t as destinations write it: UTC with nanoseconds in a fixed width,
// so that the order of texts is the order of times; "" for the zero time.
func Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000000Z")
}

// Decode reads the message of an enriched event. The error is permanent: the
// message was written by something else than Tercel.
func Decode(m consume.Message) (Item, error) {
	it, err := decode(m)
	if err != nil {
		return Item{}, fault.Permanent(fmt.Errorf("message %d of %s: %w", m.Sequence, m.Stream, err))
	}
	return it, nil
}

func decode(m consume.Message) (Item, error) {
	e, err := event.FromHeader(m.Header)
	if err != nil {
		return Item{}, err
	}
	body, err := event.DecodeBody(m.Data)
	if err != nil {
		return Item{}, err
	}
	if len(body.Trigger) == 0 {
		return Item{}, errors.New("enriched body: no trigger")
	}
	it := Item{
		Event: e, Body: m.Data, Trigger: body.Trigger, Record: body.Record, Related: related(body.Related),
		Sequence: m.Sequence, Attempt: m.Attempt, Header: m.Header, TraceID: traceID(m.Header),
	}
	if it.Record.Kind() == 'n' {
		it.Record = nil
	}
	return it, it.problem()
}

// problem names what keeps an event from having a place among the records.
func (it Item) problem() error {
	e := it.Event
	switch {
	case e.Resource == "" && e.Deleted:
		return errors.New("a tombstone of no resource")
	case e.Resource == "":
		return nil
	case e.RecordID == "":
		return fmt.Errorf("header %s: missing on an event of a resource", event.HeaderSubject)
	case e.ObservedAt.IsZero():
		return fmt.Errorf("header %s: missing on an event of a resource", event.HeaderObservedAt)
	case !e.Deleted && it.Record == nil:
		return errors.New("enriched body: no record, but no tombstone")
	}
	return nil
}

// related splices related records into one object, or nil if there are none.
func related(parts map[string]jsontext.Value) jsontext.Value {
	if len(parts) == 0 {
		return nil
	}
	out := jsontext.Value{'{'}
	for i, name := range slices.Sorted(maps.Keys(parts)) {
		if i > 0 {
			out = append(out, ',')
		}
		out, _ = jsontext.AppendQuote(out, name) // it was decoded, so it is valid
		out = append(append(out, ':'), parts[name]...)
	}
	return append(out, '}')
}

// traceID reads the W3C header itself: messages of a batch share one context.
func traceID(h nats.Header) string {
	carrier := propagation.MapCarrier{"traceparent": h.Get(event.HeaderTraceParent)}
	sc := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	if !sc.HasTraceID() {
		return ""
	}
	return sc.TraceID().String()
}
