package ledger_test

import (
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/topology"
)

// A view knows what the ledger knows and catches up by itself, writes nothing,
// and keeps nobody from writing.
func TestViewWritesNothing(t *testing.T) {
	t.Parallel()
	js := setup(t)
	publish(t, js, live("a", 1, 0))
	catchUp(t, open(t, js))
	view, err := ledger.OpenView(t.Context(), js, "orders", "a.b", "order")
	if err != nil {
		t.Fatal(err)
	}
	writer := open(t, js)
	publish(t, js, live("a", 2, time.Second), live("b", 1, 0))
	kv, err := js.Stream(t.Context(), "KV_"+topology.BucketLedger)
	if err != nil {
		t.Fatal(err)
	}
	before := kv.CachedInfo().State.LastSeq
	if got, want := catchUp(t, view), uint64(3); got != want {
		t.Errorf("the view reads up to %d, want %d", got, want)
	}
	if view.Lookup("a", number(2)) != ledger.Matched || view.Lookup("b", number(1)) != ledger.Matched || view.Lookup("c", number(1)) != ledger.Missed || view.Len() != 2 {
		t.Error("the view doesn't know what was published")
	}
	if i, err := kv.Info(t.Context()); err != nil || i.State.LastSeq != before {
		t.Errorf("%v; the view has written to the ledger", err)
	}
	catchUp(t, writer) // it was opened before the view caught up
}

// Blocks that can't be used are left to whoever writes; the view reads the stream
// in their place.
func TestViewLeavesBrokenBlocksAlone(t *testing.T) {
	t.Parallel()
	js := setup(t)
	publish(t, js, live("a", 1, 0))
	catchUp(t, open(t, js))
	kv, err := js.KeyValue(t.Context(), topology.BucketLedger)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), "orders.a=2Eb.order.1", "no block"); err != nil {
		t.Fatal(err)
	}
	view, err := ledger.OpenView(t.Context(), js, "orders", "a.b", "order")
	if err != nil {
		t.Fatal(err)
	}
	if catchUp(t, view); view.Len() != 1 {
		t.Errorf("the view knows %d records, want 1", view.Len())
	}
	if e, err := kv.Get(t.Context(), "orders.a=2Eb.order.1"); err != nil || string(e.Value()) != "no block" {
		t.Errorf("the block is %v, %v, want it as it was", e, err)
	}
}
