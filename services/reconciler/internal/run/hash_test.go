package run_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
)

// Promise 7: a list may lag behind what was seen a moment ago. It brings no deleted
// record back, and no older state over a newer one, neither to the pipeline nor to a
// destination; the next window has them as they are then.
func TestPromise7AListThatLagsBehindBringsNothingBack(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		version string
		alive   bool // it was seen before it was deleted
		deleted bool
	}{
		"a deletion":                 {"", true, true},
		"a deletion, by its hash":    {"hash", true, true},
		"only ever seen deleted":     {"", false, true},
		"a newer state, by its hash": {"hash", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.version = tt.version
			f.enrich()
			f.catchUp = 200 * time.Millisecond // no sink serves the destination
			f.shelves = map[string]shelf{"warehouse": {"o1": {ID: "o1", ObservedAt: noon.Add(-time.Second), Deleted: true}}}
			f.shop.put("o1", noon.Add(-time.Hour))
			if tt.alive {
				f.saw("o1", noon.Add(-time.Hour), false)
			}
			seen := event.Event{
				ID: "hook", Source: "orders", Account: "_", Type: "order.paid", Origin: event.Webhook, Resource: "order",
				RecordID: "o1", ObservedAt: noon.Add(-time.Second), Deleted: tt.deleted,
			}
			if !tt.deleted {
				seen.Version = event.SeenVersion(seen.ObservedAt, []byte("newer"))
			}
			f.enriched(seen)
			r := f.runner(ascending + ", against: [ledger, destination:warehouse]")
			rep := f.do(r)
			if want := (report.Counts{Listed: 1, SkippedYoung: 1}); rep.Counts != want || f.sentIDs() != "" || len(rep.Destinations) > 0 && rep.Destinations["warehouse"].Stale > 0 {
				t.Errorf("report %+v, sent %q; want counts %+v", rep, f.sentIDs(), want)
			}
			f.pass(time.Hour)
			f.shop.mark("o1", "still listed")
			if rep := f.do(f.runner("items: orders, next: cursor")); rep.Repaired != 1 {
				t.Errorf("counts an hour later %+v, want the record that is still listed sent again", rep.Counts)
			}
		})
	}
}

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
