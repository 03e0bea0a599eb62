package ledger

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// These tests are inside the package: nobody else sees a block.

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(block{created: 1, through: 2}.encode())
	f.Add(block{created: 1, through: 2, at: 3, entries: []entry{{3, state{4, 5, 6}}, {7, state{0, 0, 8}}}}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decode(data, nil)
		if err != nil {
			return
		}
		if again := b.encode(); !bytes.Equal(again, data) {
			t.Errorf("a block of %d bytes is encoded differently", len(data))
		}
	})
}

func TestDecodeRefusesWhatIsNoBlock(t *testing.T) {
	t.Parallel()
	good := block{created: 1, through: 2, entries: []entry{{3, state{4, 5, 6}}}}.encode()
	change := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	tests := map[string][]byte{
		"nothing":              nil,
		"a header cut short":   good[:headerBytes-1],
		"an entry cut short":   good[:len(good)-1],
		"another format":       change(0, 1),
		"a negative time":      change(headerBytes+16, 0xff),
		"an entry of nothing":  append(bytes.Clone(good), make([]byte, entryBytes)...),
		"more than is allowed": append(bytes.Clone(good), bytes.Repeat(good[headerBytes:], maxEntries)...),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := decode(data, nil); err == nil {
				t.Error("decode() = nil, want an error")
			}
		})
	}
	if _, err := decode(good, nil); err != nil {
		t.Errorf("decode() of a block = %v", err)
	}
}

const rounds = 12

// superseded makes a ledger of as many blocks of the same records as there are rounds,
// which the next to write it compacts. It returns the bucket and what is in it.
func superseded(t *testing.T, js jetstream.JetStream) (jetstream.KeyValue, map[string][]byte) {
	t.Helper()
	ctx := t.Context()
	if err := topology.Ensure(ctx, js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "tercel.enriched.other._.x", nil); err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, topology.BucketLedger)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, topology.StreamEnriched)
	if err != nil {
		t.Fatal(err)
	}
	created, at := stream.CachedInfo().Created.UnixNano(), stream.CachedInfo().State.LastTime.UnixNano()
	blocks := map[string][]byte{}
	for r := range rounds {
		b := block{created: created, through: 1, at: at}
		for i := range maxEntries {
			b.entries = append(b.entries, entry{Hash(fmt.Sprint("id", i)), state{ordinal(version(r)), int64(r + 1), 0}})
		}
		key := "orders._.order." + strconv.Itoa(r+1)
		blocks[key] = b.encode()
		if _, err := kv.Create(ctx, key, blocks[key]); err != nil {
			t.Fatal(err)
		}
	}
	return kv, blocks
}

// Compaction keeps what is known, and a crash between its two halves, which
// leaves old blocks beside new ones, does too.
func TestCompactionChangesNothing(t *testing.T) {
	t.Parallel()
	js, ctx := natstest.Run(t), t.Context()
	kv, old := superseded(t, js)
	check := func(when string) {
		t.Helper()
		l, err := Open(ctx, js, "orders", "_", "order")
		if err != nil {
			t.Fatal(err)
		}
		if through, err := l.CatchUp(ctx); err != nil || through != 1 || l.Len() != maxEntries {
			t.Fatalf("%s: CatchUp() = %d, %v with %d records", when, through, err, l.Len())
		}
		for i := range maxEntries {
			id := fmt.Sprint("id", i)
			if got := l.Lookup(id, version(rounds-1)); got != Matched {
				t.Fatalf("%s: Lookup(%s) = %s, want matched", when, id, got)
			}
		}
	}
	check("while it is compacted")
	if n := keys(t, kv); n != 1 {
		t.Errorf("%d blocks after compaction, want 1", n)
	}
	check("afterwards")
	for key, data := range old {
		if _, err := kv.Put(ctx, key, data); err != nil {
			t.Fatal(err)
		}
	}
	check("after a crash")
	if n := keys(t, kv); n != 1 {
		t.Errorf("%d blocks after the second compaction, want 1", n)
	}
}

func version(round int) event.Version {
	// Texts have no order in the ledger: here the order of blocks matters.
	v, err := event.ParseVersion(fmt.Sprint("v", round))
	if err != nil {
		panic(err)
	}
	return v
}

func keys(t *testing.T, kv jetstream.KeyValue) int {
	t.Helper()
	lister, err := kv.ListKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for range lister.Keys() {
		n++
	}
	return n
}
