package seen

import "time"

// mark says that an id with this hash is stored at this sequence.
type mark struct {
	hash     uint32
	sequence uint64
}

// A segment is a hash table that is filled once, dropped as a whole, and never
// changed otherwise: so that nothing has to be moved or deleted in it. Each
// slot has a mark's hash and, above 0, its sequence as a distance from base.
type segment struct {
	slots  []uint64
	used   int
	base   uint64 // the sequence that is written as 1
	newest time.Time
}

const (
	segmentBits  = 18
	segmentSlots = 1 << segmentBits
	segmentBytes = segmentSlots * 8
	segmentFull  = segmentSlots / 4 * 3
	// below is how much smaller than a segment's first sequence others may be:
	// marks of several replicas come somewhat out of order.
	below = 1 << 31
)

func newSegment(first uint64) *segment {
	return &segment{slots: make([]uint64, segmentSlots), base: max(first, below) - below}
}

// fits reports whether the segment can take one more mark.
func (s *segment) fits(m mark) bool {
	return s.used < segmentFull && m.sequence >= s.base && m.sequence-s.base < 1<<32-1
}

func (s *segment) slot(m mark) uint64 { return uint64(m.hash)<<32 | (m.sequence - s.base + 1) }

// home is the first slot that a hash may be in. The others follow, up to the
// first free one.
func home(hash uint32) int { return int(hash >> (32 - segmentBits)) }

func (s *segment) add(m mark) {
	i := home(m.hash)
	for s.slots[i] != 0 {
		i = (i + 1) % segmentSlots
	}
	s.slots[i] = s.slot(m)
	s.used++
}

// find appends the sequences that a hash is marked with to out, up to its
// capacity.
func (s *segment) find(hash uint32, out []uint64) []uint64 {
	for i := home(hash); s.slots[i] != 0 && len(out) < cap(out); i = (i + 1) % segmentSlots {
		if uint32(s.slots[i]>>32) == hash {
			out = append(out, s.base+s.slots[i]&(1<<32-1)-1)
		}
	}
	return out
}

// table is segments by age, the newest last.
type table struct {
	segments []*segment
	most     int // segments
}

// add puts a mark in. If the oldest segment had to go for it, it returns the
// time of its newest mark.
func (t *table) add(m mark, at time.Time) (forgotten time.Time, ok bool) {
	n := len(t.segments)
	if n == 0 || !t.segments[n-1].fits(m) {
		if n == t.most {
			forgotten, ok = t.segments[0].newest, true
			t.segments[0] = nil
			t.segments = t.segments[1:]
		}
		t.segments = append(t.segments, newSegment(m.sequence))
	}
	s := t.segments[len(t.segments)-1]
	s.add(m)
	if at.After(s.newest) {
		s.newest = at
	}
	return forgotten, ok
}

// find writes the sequences that a hash is marked with to out, the newest
// segments' first, and returns how many.
func (t *table) find(hash uint32, out []uint64) int {
	found := out[:0:len(out)]
	for i := len(t.segments) - 1; i >= 0 && len(found) < len(out); i-- {
		found = t.segments[i].find(hash, found)
	}
	return len(found)
}

func (t *table) has(m mark) bool {
	var sequences [maxCandidates]uint64
	for _, seq := range sequences[:t.find(m.hash, sequences[:])] {
		if seq == m.sequence {
			return true
		}
	}
	return false
}

// expire drops the segments all of whose marks are older than a time.
func (t *table) expire(before time.Time) {
	for len(t.segments) > 0 && t.segments[0].newest.Before(before) {
		t.segments[0] = nil
		t.segments = t.segments[1:]
	}
}

func (t *table) len() int {
	n := 0
	for _, s := range t.segments {
		n += s.used
	}
	return n
}
