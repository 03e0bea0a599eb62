package event_test

import (
	"maps"
	"reflect"
	"testing"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/tercelhq/tercel/pkg/event"
)

// Each publication has its own event's headers, whatever was in the form before.
func TestFormLeavesNothingToTheNext(t *testing.T) {
	otel.SetTextMapPropagator(propagation.TraceContext{}) // global, so this test isn't parallel
	all := sample()
	thin := event.Event{ID: "1", Source: "s", Account: "_", Type: "t", Origin: event.Replay}
	other := all
	other.Account, other.DeliveryID, other.Deleted, other.Part = "müller", "", false, "1/2"
	traced := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled,
	}))
	var f event.Form
	for i, e := range []event.Event{all, thin, thin, all, other, all, other, thin, all} {
		ctx, want := t.Context(), maps.Clone(e.Header())
		if i%3 == 0 {
			ctx, want[event.HeaderTraceParent] = traced, []string{"00-01000000000000000000000000000000-0200000000000000-01"}
		}
		want[nats.MsgIdHdr] = []string{e.MsgID()}
		got := f.Publication(ctx, &e, e.MsgID())
		if !reflect.DeepEqual(got, want) {
			t.Errorf("publication %d has the headers %v, want %v", i, got, want)
		}
		switch i % 4 {
		case 1:
			got.Set("Nats-Batch-Id", "b")
		case 3:
			got.Set("Nats-Batch-Id", "b")
			got.Del("Nats-Batch-Id")
		}
	}
}

func BenchmarkHeaders(b *testing.B) {
	e := sample()
	e.Resource, e.RecordID, e.Deleted, e.TriggerSequence = "", "", false, 0
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.Header().Set(nats.MsgIdHdr, "id")
		}
	})
	b.Run("form", func(b *testing.B) {
		b.ReportAllocs()
		var f event.Form
		for b.Loop() {
			f.Publication(b.Context(), &e, "id")
		}
	})
}
