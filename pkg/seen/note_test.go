package seen_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/seen"
	"github.com/tercelhq/tercel/pkg/topology"
)

// What somebody without an index has stored, every index finds, however much it
// is at once.
func TestNotedMessagesAreFound(t *testing.T) {
	t.Parallel()
	f := setup(t)
	at := map[string]uint64{}
	for i := range 5_000 { // more than a block holds
		at[fmt.Sprint("other", i)] = uint64(1_000_000 + i)
	}
	ack, err := f.js.Publish(t.Context(), "tercel.raw.orders._.order.paid", []byte("{}"), jetstream.WithMsgID("orders:_:1"))
	if err != nil {
		t.Fatal(err)
	}
	at["orders:_:1"] = ack.Sequence
	if err := seen.Note(t.Context(), f.js, at); err != nil {
		t.Fatal(err)
	}
	if err := seen.Note(t.Context(), f.js, nil); err != nil {
		t.Fatal(err)
	}
	stream, err := f.js.Stream(t.Context(), topology.StreamSeen)
	if err != nil || stream.CachedInfo().State.Msgs != 2 {
		t.Errorf("%d blocks, %v, want 2", stream.CachedInfo().State.Msgs, err)
	}
	x := f.index()
	if n := x.Len(); n != len(at) {
		t.Errorf("%d marks, want %d", n, len(at))
	}
	if there, ok := x.Find(t.Context(), "orders:_:1", time.Hour, false); !ok || there.Sequence != ack.Sequence {
		t.Errorf("Find() = %+v, %t, want the message at %d", there, ok, ack.Sequence)
	}
	if _, ok := x.Find(t.Context(), "other1", time.Hour, false); ok {
		t.Error("what is marked and not there was found")
	}
}
