package run

import (
	"hash/maphash"
	"testing"
	"time"
)

// A trigger that comes while a page's are kept, and is only then read on to, is still
// known when those of another page have taken their place.
func TestTriggerIsKnownBeyondThePageThatItCameAt(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	s := &stored{seed: maphash.MakeSeed(), most: 2, ids: map[uint64]struct{}{}}
	for _, id := range []string{"a", "b", "c"} {
		s.add(id, noon)
	}
	s.from, s.to = noon.Add(-time.Minute), noon.Add(time.Minute)
	s.keep(s.hash("late"), noon)
	s.add("late", noon)
	s.ids = map[uint64]struct{}{}
	for _, id := range []string{"a", "b", "c", "late"} {
		if !s.perhaps(id) {
			t.Errorf("%s is taken for missed", id)
		}
	}
}
