package topology_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Promise 3: the server's word that a message was given up is kept, for each
// stream that stages work on.
func TestPromise3TerminationsAreKept(t *testing.T) {
	t.Parallel()
	js, ctx := natstest.Run(t), t.Context()
	if err := topology.Ensure(ctx, js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	d := topology.Delivery{AckWait: time.Second, MaxAttempts: 3}
	for stream, worked := range map[string]struct {
		consumer jetstream.ConsumerConfig
		subject  string
	}{
		topology.StreamRaw:      {topology.EnrichConsumer("orders", d), "tercel.raw.orders._.ping"},
		topology.StreamEnriched: {topology.DeliverConsumer("out", nil, d), "tercel.enriched.orders._.ping"},
	} {
		c, err := js.CreateOrUpdateConsumer(ctx, stream, worked.consumer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(ctx, worked.subject, nil); err != nil {
			t.Fatal(err)
		}
		m, err := c.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.TermWithReason("test"); err != nil {
			t.Fatal(err)
		}
	}
	advisories, err := js.CreateOrUpdateConsumer(ctx, topology.StreamAdvisories, topology.CollectConsumer(d))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := advisories.Next(jetstream.FetchMaxWait(10 * time.Second)); err != nil {
			t.Fatalf("an advisory is missing: %v", err)
		}
	}
}
