package run_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
)

// Records without a version of their own are recognised by their state whenever
// it was seen, so that only those are sent again whose state is another; and of a
// list that shows one twice only one is.
func TestRecordsAreComparedByTheirHash(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.version = "hash"
	f.enrich()
	hour := noon.Add(-time.Hour)
	f.shop.put("a", hour)
	f.shop.put("b", hour.Add(time.Minute))
	f.shop.put("c", hour.Add(2*time.Minute))
	f.shop.before(func(n int) {
		f.pass(time.Second) // each page is seen at another time
		if n == 1 {         // b moves to the second page as well
			f.shop.put("0", hour.Add(-time.Minute))
		}
	})
	const unordered = "items: orders, next: cursor"
	first := f.do(f.runner(unordered))
	if got := f.sentIDs(); first.Counts.Missed != 3 || first.Counts.Duplicates != 1 || got != "a b c" {
		t.Errorf("sent %s with %+v, want a, b and c once", got, first.Counts)
	}
	f.shop.before(nil)
	f.pass(time.Hour)
	f.shop.put("c", hour.Add(3*time.Minute))
	second := f.do(f.runner(unordered))
	if got := f.sentIDs(); second.Counts.Matched != 2 || second.Counts.Missed != 1 || second.Counts.Stale != 1 || got != "0 a b c c" {
		t.Errorf("sent %s with %+v, want a and b matched, 0 missed and c stale", got, second.Counts)
	}
	var ids []string
	for _, m := range f.sent() {
		ids = append(ids, m.Header.Get(event.HeaderID))
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 5 || strings.Contains(strings.Join(ids, " "), "2026-") {
		t.Errorf("ids %q, want one for each state, without the time at which it was seen", ids)
	}
}
