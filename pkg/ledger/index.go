package ledger

import (
	"iter"
	"math/bits"
	"math/rand/v2"
)

// index is what was seen of the records of a ledger, by their [Hash]. A record
// takes 24 bytes, 16 more once it was seen to be gone, and 5 to 8 for finding it;
// none of them is a pointer. That is half of what a map takes, which matters
// because the garbage collector lets a process grow to twice what it has.
type index struct {
	// chunks are full of entries, but for the last.
	chunks [][]slot
	graves []grave
	// places has 1 + the number of an entry, or 0 where none is: an open-addressed
	// table with linear probing.
	places []uint32
	// factor scatters ids over the table. It is odd, and random so that nobody can
	// aim at one part of the table.
	factor uint64
}

// slot is one entry. Its observed is a time, or below 0 for a record that was
// seen to be gone: then its complement is the number of a grave.
type slot struct {
	id, version uint64
	observed    int64
}

type grave struct{ observed, deleted int64 }

const (
	chunkSlots = 4096
	minPlaces  = 16
)

// len is the number of records.
func (x *index) len() int {
	if len(x.chunks) == 0 {
		return 0
	}
	return (len(x.chunks)-1)*chunkSlots + len(x.chunks[len(x.chunks)-1])
}

func (x *index) at(n uint32) *slot { return &x.chunks[n/chunkSlots][n%chunkSlots] }

// find returns where the table has id, or the free place where it belongs.
func (x *index) find(id uint64) (place int, s *slot) {
	hi, _ := bits.Mul64(id*x.factor, uint64(len(x.places)))
	for place = int(hi); ; {
		n := x.places[place]
		if n == 0 {
			return place, nil
		}
		if s := x.at(n - 1); s.id == id { // all 64 bits, of which the place speaks for some
			return place, s
		}
		if place++; place == len(x.places) {
			place = 0
		}
	}
}

// get returns what was seen of a record, which is nothing for an unknown one.
func (x *index) get(id uint64) (s state, known bool) {
	if len(x.places) == 0 {
		return state{}, false
	}
	_, e := x.find(id)
	if e == nil {
		return state{}, false
	}
	return x.state(e), true
}

func (x *index) state(e *slot) state {
	if e.observed < 0 {
		g := x.graves[^e.observed]
		return state{e.version, g.observed, g.deleted}
	}
	return state{version: e.version, observed: e.observed}
}

// join adds what was seen of a record, and reports whether it tells anything new.
func (x *index) join(id uint64, seen state) bool {
	if 5*x.len() >= 4*len(x.places) {
		x.grow()
	}
	place, e := x.find(id)
	var before state
	if e != nil {
		before = x.state(e)
	}
	after := before.join(seen)
	if after == before {
		return false
	}
	if e == nil {
		e = x.add(slot{id: id})
		x.places[place] = uint32(x.len())
	}
	x.set(e, after)
	return true
}

func (x *index) set(e *slot, s state) {
	e.version = s.version
	switch {
	case e.observed < 0:
		x.graves[^e.observed] = grave{s.observed, s.deleted}
	case s.deleted == 0:
		e.observed = s.observed
	default:
		e.observed = ^int64(len(x.graves))
		x.graves = append(x.graves, grave{s.observed, s.deleted})
	}
}

// add appends an entry. The first chunk grows by and by: most ledgers are small.
func (x *index) add(s slot) *slot {
	last := len(x.chunks) - 1
	if last < 0 || len(x.chunks[last]) == chunkSlots {
		var chunk []slot
		if last >= 0 {
			chunk = make([]slot, 0, chunkSlots)
		}
		x.chunks = append(x.chunks, chunk)
		last++
	}
	x.chunks[last] = append(x.chunks[last], s)
	return &x.chunks[last][len(x.chunks[last])-1]
}

// grow makes the table half as large again.
func (x *index) grow() {
	if x.factor == 0 {
		x.factor = rand.Uint64() | 1
	}
	x.places = make([]uint32, max(minPlaces, len(x.places)+len(x.places)/2))
	n := uint32(0)
	for _, chunk := range x.chunks {
		for i := range chunk {
			place, _ := x.find(chunk[i].id)
			n++
			x.places[place] = n
		}
	}
}

// all yields what was seen of every record, in the order in which they came.
func (x *index) all() iter.Seq2[uint64, state] {
	return func(yield func(uint64, state) bool) {
		for _, chunk := range x.chunks {
			for i := range chunk {
				if !yield(chunk[i].id, x.state(&chunk[i])) {
					return
				}
			}
		}
	}
}
