package ledger

import "github.com/tercelhq/tercel/pkg/event"

// state is what was seen of one record.
type state struct {
	version  uint64 // see ordinal
	observed int64  // when version was seen, in Unix nanoseconds, or 0 if none was
	deleted  int64  // when the record was last seen to be gone, or 0
}

// held reports whether the record was seen alive, and not to be gone since.
func (s state) held() bool { return s.observed > 0 && s.deleted <= s.observed }

// unorderedBit marks the ordinal of a version that can only be compared for
// equality. Those that have an order are below 2^63.
const unorderedBit = 1 << 63

func unordered(ordinal uint64) bool { return ordinal&unorderedBit != 0 }

func ordinal(v event.Version) uint64 {
	n, ordered := v.Ordinal()
	if !ordered {
		return n | unorderedBit
	}
	return n
}

// join returns what was seen by s and t, in whatever order they come. The newest
// version wins (promise 7); of versions without an order it is the one that was
// observed last.
//
// Where a resource was changed from versions with an order to such without, or
// back, the order counts: of a record with versions of both kinds any may win
// until the next that is observed. Neither kind could win over the other for
// good: then none of what the resource has now would ever count.
func (s state) join(t state) state {
	out := s
	out.deleted = max(s.deleted, t.deleted)
	if t.observed != 0 && (s.observed == 0 || t.newer(s)) {
		out.version, out.observed = t.version, t.observed
	}
	return out
}

func (s state) newer(t state) bool {
	if unordered(s.version) || unordered(t.version) {
		return s.observed > t.observed || s.observed == t.observed && s.version > t.version
	}
	return s.version > t.version || s.version == t.version && s.observed > t.observed
}
