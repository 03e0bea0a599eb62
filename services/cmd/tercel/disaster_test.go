package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// What docs/operations.md says of lost buckets and consumers: the running pipeline
// goes on, and what comes afterwards is delivered, and reconciled.
func TestLostBucketsAndConsumersAreMadeAnew(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	p := startLive(t, s, liveOptions{reconciler: ", audit_every: 1s"})
	js, err := jetstream.New(p.Conn, natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	db, n := p.local(), 0
	goesOn := func(lost string) {
		t.Helper()
		n++
		id, missed := fmt.Sprint(2*n), fmt.Sprint(2*n+1)
		s.put(id, 1)
		s.put(missed, 1) // no webhook tells of it
		event := p.send("d-"+id, fmt.Sprintf(`{"type":"order.paid","id":%q}`, id))
		until(t, "an event is delivered without "+lost, func() bool { return p.status(event) == delivered })
		until(t, "a missed record is repaired without "+lost, func() bool {
			if o := tercel(t, "", "reconcile", "run", "orders", "order", "--api", p.ConsoleURL); o.code != 0 {
				t.Logf("without %s: %s", lost, o.err)
				return false
			}
			return count(db, `SELECT count(*) FROM records WHERE record_id = '`+missed+`'`) == 1
		})
	}
	goesOn("nothing")
	for _, bucket := range []string{
		topology.BucketCursors, topology.BucketLeases, topology.BucketLedger, topology.BucketDeadLetters, topology.BucketTokens, topology.BucketWaits,
	} {
		if err := js.DeleteKeyValue(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
		goesOn(bucket)
	}
	for _, stream := range []string{topology.StreamRaw, topology.StreamEnriched} {
		st, err := js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		for name := range st.ConsumerNames(t.Context()).Name() {
			if err := st.DeleteConsumer(t.Context(), name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
				t.Fatal(err)
			}
		}
		goesOn("the consumers of " + stream)
	}
}
