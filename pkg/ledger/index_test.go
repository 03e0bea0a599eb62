package ledger

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"runtime"
	"testing"
)

// These tests are inside the package: nobody else sees an index.

// oracle is an index in the plainest way.
type oracle map[uint64]state

func (o oracle) join(id uint64, s state) bool {
	before := o[id]
	o[id] = before.join(s)
	return o[id] != before
}

func agree(t *testing.T, x *index, o oracle) {
	t.Helper()
	if got := maps.Collect(x.all()); !maps.Equal(got, map[uint64]state(o)) || x.len() != len(o) {
		t.Fatalf("the index has %d records, and %d by its count, want the %d of a map", len(got), x.len(), len(o))
	}
	for id, want := range o {
		if got, known := x.get(id); got != want || !known {
			t.Fatalf("get(%x) = %v, %t, want %v", id, got, known, want)
		}
		for bit := range 64 { // an id that differs in one bit is another
			other := id ^ 1<<bit
			if _, known := x.get(other); known != (o[other] != state{}) {
				t.Fatalf("get(%x) is known: %t; it differs from %x in one bit", other, known, id)
			}
		}
	}
}

// An index does what a map does, over any sequence of events, most of which
// speak of few records, and whatever place the table has for them.
func TestIndexAgreesWithAMap(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		records int
		factor  uint64 // of the table; 0 takes a random one
		shift   int    // of ids: large ones are all of the same place
	}{
		"few records":                     {records: 40},
		"some records":                    {records: 3000},
		"more than a chunk":               {records: 2*chunkSlots + 1},
		"ids that share a place":          {records: 300, factor: 1},
		"ids that share the last place":   {records: 300, factor: ^uint64(0)},
		"ids that differ in high bits":    {records: 300, factor: 1, shift: 48},
		"ids that are beside one another": {records: 3000, factor: 1, shift: 52},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, o := &index{factor: tt.factor}, oracle{}
			rnd := rand.New(rand.NewPCG(3, uint64(tt.records)))
			for range 4 * tt.records {
				id, s := uint64(rnd.IntN(tt.records))<<tt.shift, anyState(rnd)
				if got, want := x.join(id, s), o.join(id, s); got != want {
					t.Fatalf("join(%x, %v) = %t, want %t", id, s, got, want)
				}
			}
			agree(t, x, o)
		})
	}
}

func anyState(rnd *rand.Rand) state {
	switch rnd.IntN(5) {
	case 0:
		return state{deleted: 1 + rnd.Int64N(1000)}
	case 1:
		return state{unorderedBit | rnd.Uint64N(3), 1 + rnd.Int64N(1000), 0}
	case 2: // as a block has it
		return state{rnd.Uint64N(5), 1 + rnd.Int64N(1000), 1 + rnd.Int64N(1000)}
	default:
		return state{rnd.Uint64N(5), 1 + rnd.Int64N(1000), 0}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte("an index does what a map does, whatever comes in"))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, o := &index{}, oracle{}
		for ; len(data) >= 6; data = data[6:] {
			id := uint64(data[0])<<56 | uint64(data[1])
			s := state{uint64(data[2]), int64(data[3]), int64(binary.BigEndian.Uint16(data[4:]))}
			if s.observed == 0 {
				s.version = 0
			}
			if got, want := x.join(id, s), o.join(id, s); got != want {
				t.Fatalf("join(%x, %v) = %t, want %t", id, s, got, want)
			}
		}
		for _, s := range o { // what tells nothing is in no index
			if s == (state{}) {
				maps.DeleteFunc(o, func(_ uint64, s state) bool { return s == state{} })
				break
			}
		}
		agree(t, x, o)
	})
}

// Promise 10: a million records take less than 32 MiB, of which nothing has to be
// looked through for pointers.
func TestPromise10AMillionRecordsTake32MiB(t *testing.T) {
	const n = 1_000_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x := &index{}
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range n {
		x.join(rnd.Uint64(), state{version: uint64(i), observed: int64(i + 1)})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if mib := float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / (1 << 20); mib > 32 || x.len() < n-1 {
		t.Errorf("%d records take %.1f MiB, want less than 32", x.len(), mib)
	}
	runtime.KeepAlive(x)
}
