package sink_test

import (
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

// reader reads the metrics of all tests; TestMain installs it.
var reader = metric.NewManualReader()

// delivered is tercel.events.delivered of one destination, by outcome.
func delivered(t *testing.T, destination string) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if m.Name != "tercel.events.delivered" || !ok {
				continue
			}
			for _, p := range sum.DataPoints {
				if name, _ := p.Attributes.Value(attribute.Key("destination")); name.AsString() == destination {
					outcome, _ := p.Attributes.Value(attribute.Key("outcome"))
					counts[outcome.AsString()] += p.Value
				}
			}
		}
	}
	return counts
}

func TestDeliveriesAreCountedByOutcome(t *testing.T) {
	t.Parallel()
	_, js := stream(t)
	destinations := map[string]pipeline.Destination{
		"metered-db": sqlitePlace(t).destination(t), "metered-files": filesPlace(t).destination(t),
	}
	publish(t, js, nil, numbered(0, 30)...)
	publish(t, js, func(e enriched) string { return event.AgainID(e.MsgID(), event.Replay) }, numbered(0, 12)...)
	before := map[string]map[string]int64{} // earlier runs in this process count too
	for name := range destinations {
		before[name] = delivered(t, name)
	}
	svc := start(t, js, quick(), destinations)
	for name := range destinations {
		settled(t, js, name)
	}
	svc.stop()
	for name := range destinations {
		got := delivered(t, name)
		written, duplicate := got["written"]-before[name]["written"], got["duplicate"]-before[name]["duplicate"]
		if written != 30 || duplicate != 12 || len(got) != 2 {
			t.Errorf("%s counted %v after %v, want 30 written and 12 duplicates more", name, got, before[name])
		}
	}
}

// held is tercel.messages.held of one destination.
func held(t *testing.T, destination string) (n int64) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if m.Name != "tercel.messages.held" || !ok {
				continue
			}
			for _, p := range sum.DataPoints {
				if name, _ := p.Attributes.Value(attribute.Key("name")); name.AsString() == destination {
					n += p.Value
				}
			}
		}
	}
	return n
}

// However much waits, no more than twice a batch is in hand, and that can be
// seen (promise 10).
func TestPromise10WhatIsInHandIsBoundedAndCounted(t *testing.T) {
	t.Parallel()
	_, js := stream(t)
	p := sqlitePlace(t)
	cfg := quick()
	cfg.Batch = 20
	svc := start(t, js, cfg, map[string]pipeline.Destination{"held": p.destination(t)})
	publish(t, js, nil, numbered(0, 1)...)
	settled(t, js, "held")
	heal := p.breakIt(t)
	publish(t, js, nil, numbered(1, 300)...)
	most := int64(0)
	eventually(t, "more than a batch is in hand", func() bool { most = max(most, held(t, "held")); return most > 20 })
	heal()
	settled(t, js, "held")
	svc.stop()
	if n := held(t, "held"); n != 0 || most > 40 {
		t.Errorf("%d messages were in hand at most, want no more than 40, and %d are when all is done", most, n)
	}
}
