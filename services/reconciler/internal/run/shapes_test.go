package run_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

const (
	graphqlList = `graphql: "query($first: Int!, $after: String, $since: DateTime) {orders(first: $first) {nodes {id} pageInfo {hasNextPage endCursor}}}"`
	searchBody  = `'{"filterGroups":[{"filters":[{"operator":"GTE","value":""},{"operator":"LTE","value":""}]}],"sorts":["updated"]}'`
)

// shape is how an API lists, and the configuration for it.
type shape struct {
	reconcile string
	answer    answer
	orders    []string
	// still says that deletions can't be seen: the page in front of a border is
	// asked for again, which two contrary changes deceive.
	still bool
}

var everyOrder = []string{"ascending", "descending", "unordered"}

var shapes = map[string]shape{
	"cursor":          {"since: since, items: orders, next: {cursor: meta.next, param: cursor}", byCursor, everyOrder, false},
	"offset":          {"since: {param: since, exclusive: true}, items: orders, next: {offset: offset}, limit: {param: limit, size: 6}", byOffset, everyOrder, false},
	"offset, capped":  {"items: orders, next: {offset: offset}, limit: {param: limit, size: 50}", byOffset, everyOrder, false},
	"page":            {"since: since, items: orders, next: {page: page}, limit: {param: per_page, size: 20}", byPage, everyOrder, false},
	"page, counted":   {"since: since, items: orders, next: {page: page, pages: pages}, limit: {param: per_page, size: 23}", byPage, everyOrder, false},
	"page, capped":    {"since: since, items: orders, next: {page: page}, limit: {param: per_page, size: 100}", byCappedPage, everyOrder, false},
	"numbered link":   {"since: since, next: {link: header}", byNumberedLink, everyOrder, true},
	"link":            {"since: since, items: orders, next: {link: header, stable: true}", byLink, everyOrder, false},
	"link in body":    {"since: since, items: collection, next: {link: pagination.next_page, stable: true}", byLinkInBody, everyOrder, false},
	"unproved link":   {"since: since, items: collection, next: {link: pagination.next_page}", byLinkInBody, everyOrder, false},
	"last id":         {"items: data, next: {after: starting_after, more: has_more}, limit: {param: limit, size: 7}", byLastID, []string{"unordered"}, false},
	"first id":        {"next: {after: min_id, of: first, start: \"0\"}", byMinID, []string{"unordered"}, false},
	"connection":      {graphqlList + ", since: since, next: {connection: data.orders}, limit: {param: first, size: 7}", byConnection, everyOrder, false},
	"search, sliced":  {"body: " + searchBody + ", items: results, since: {param: filterGroups.0.filters.0.value, format: unix_ms}, until: {param: filterGroups.0.filters.1.value, format: unix_ms}, start: 72h, slice: {every: 24h, most: 15, total: total}, next: {offset: after}, limit: {param: limit, size: 5}", bySearch, []string{"ascending"}, false},
	"states":          {"since: since, items: orders, states: {param: state, values: [open, closed]}, next: {cursor: meta.next, param: cursor}", byState, everyOrder, false},
	"states, stopped": {"since: since, items: orders, states: {param: state, values: [open, closed]}, next: {cursor: meta.next, param: cursor}, max_pages: 1", byState, everyOrder, false},
}

// fill puts n records into a table, of which many have equal times and ids that
// differ in case or one byte only.
func (t *table) fill(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows, t.asked, t.change = map[string]row{}, 0, nil
	for i := range n {
		id := fmt.Sprintf("%c%03d", "aA"[i%2], i/2)
		t.rows[id] = row{ID: id, Updated: noon.Add(-48*time.Hour + time.Duration(i/4)*time.Minute), State: []string{"open", "closed"}[i%3%2]}
	}
}

func (t *table) ids() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []string
	for id := range t.rows {
		ids = append(ids, id)
	}
	return ids
}

// eachShape runs test for each shape in each of its orders.
func eachShape(t *testing.T, test func(t *testing.T, f *fixture, s shape, order string)) {
	t.Helper()
	for name, s := range shapes {
		for _, order := range s.orders {
			t.Run(name+" "+order, func(t *testing.T) {
				t.Parallel()
				test(t, setup(t), s, order)
			})
		}
	}
}

func (s shape) reconcileIn(order string) string {
	if order == "unordered" {
		return s.reconcile
	}
	return s.reconcile + ", order: " + order
}

// finish makes runs until a window is complete, of which none may fail for any
// other reason than a position that the source has forgotten.
func (f *fixture) finish(reconcile string) report.Report {
	f.t.Helper()
	r := f.runner(reconcile)
	for range 300 {
		begun := f.begin(r)
		err := begun.Do()
		if err != nil && !fault.IsPermanent(err) && !strings.Contains(err.Error(), "410") {
			f.t.Fatal(err)
		}
		if rep := f.report(begun.ID()); err == nil && rep.Complete {
			return rep
		}
	}
	f.t.Fatal("no window was complete after 300 runs")
	return report.Report{}
}

// Of each list in each order the run finds exactly the records that were missed,
// and all of a window's records are listed once: at equal times, over the borders
// of pages, slices and states.
func TestEveryShapeFindsWhatWasMissed(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, f *fixture, s shape, order string) {
		f.enrich()
		tab := newTable(t, f, order, s.answer)
		tab.fill(61)
		var missed []string
		for i, id := range slices.Sorted(slices.Values(tab.ids())) {
			if i%3 == 0 {
				missed = append(missed, id)
			} else {
				f.saw(id, tab.rows[id].Updated, false)
			}
		}
		rep := f.finish(s.reconcileIn(order))
		// What lies on the border of two slices is listed with both.
		if want := (report.Counts{Listed: 61 + rep.Duplicates, Matched: 40, Missed: 21, Repaired: 21, Duplicates: rep.Duplicates}); rep.Counts != want ||
			rep.Duplicates > 0 && !strings.Contains(s.reconcile, "slice") {
			t.Errorf("counts %+v, want %+v", rep.Counts, want)
		}
		if got := f.sentIDs(); got != strings.Join(missed, " ") {
			t.Errorf("sent %s, want %s", got, missed)
		}
		f.pass(time.Hour)
		tab.mu.Lock()
		edge := f.cursor().Through.Add(-10 * time.Minute) // where the next window begins
		tab.rows["edge"] = row{ID: "edge", Updated: edge, State: "open"}
		tab.mu.Unlock()
		if rep := f.finish(s.reconcileIn(order)); rep.Missed != 1 {
			t.Errorf("counts of the next window %+v, want the record at its very beginning missed", rep.Counts)
		}
	})
}

// reset makes a fixture as good as new for one more window.
func (f *fixture) reset() {
	f.t.Helper()
	raw, err := f.js.Stream(f.t.Context(), topology.StreamRaw)
	if err == nil {
		err = raw.Purge(f.t.Context())
	}
	if err != nil {
		f.t.Fatal(err)
	}
	kv, err := f.js.KeyValue(f.t.Context(), topology.BucketCursors)
	if err == nil {
		err = kv.Delete(f.t.Context(), key.String())
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// Promise 6, whatever happens to a list while it is read: records that change
// and move to its other end, or to the other state, that are deleted or become
// visible late. Of those that nothing happened to none is passed over, and the
// window ends.
func TestPromise6NoShapePassesOverRecords(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, f *fixture, s shape, order string) {
		tab := newTable(t, f, order, s.answer)
		for seed := range uint64(6) {
			random := rand.New(rand.NewPCG(seed, 1))
			tab.fill(30 + random.IntN(60))
			untouched := map[string]bool{}
			for _, id := range tab.ids() {
				untouched[id] = true
			}
			left := 2 + random.IntN(30)
			tab.change = func(n int, rows map[string]row) {
				for ; n > 0 && left > 0 && random.IntN(3) > 0; left-- {
					for id, o := range rows { // in whatever order
						delete(untouched, id)
						happen(random.IntN(4), rows, o, s.still)
						break
					}
				}
			}
			rep := f.finish(s.reconcileIn(order))
			sent := strings.Fields(f.sentIDs())
			for id := range untouched {
				if !slices.Contains(sent, id) {
					t.Errorf("seed %d: %s was passed over: %+v", seed, id, rep.Counts)
				}
			}
			f.reset()
		}
	})
}

// happen lets something happen to a record while the list is read.
func happen(what int, rows map[string]row, o row, still bool) {
	switch {
	case what == 0 && !still:
		delete(rows, o.ID)
	case what == 1 && !still:
		late := row{ID: o.ID + "'", Updated: o.Updated, State: o.State}
		rows[late.ID] = late
	default:
		o.Updated = noon.Add(-time.Minute) // too young for this window
		o.State = map[string]string{"open": "closed", "closed": "open"}[o.State]
		rows[o.ID] = o
	}
}

// Promise 6: where more than a page moves up behind a link that counts pages, the
// page in front of the border shows nothing of what it was.
func TestPromise6MoreThanAPageMoves(t *testing.T) {
	t.Parallel()
	f := setup(t)
	s := shapes["numbered link"]
	tab := newTable(t, f, "ascending", s.answer)
	for i := range 40 {
		id := fmt.Sprintf("o%02d", i)
		tab.rows[id] = row{ID: id, Updated: noon.Add(-time.Hour + time.Duration(i)*time.Second)}
	}
	tab.change = func(n int, rows map[string]row) {
		for i := 0; n == 3 && i < 14; i++ { // two pages have been compared
			id := fmt.Sprintf("o%02d", i)
			rows[id] = row{ID: id, Updated: noon}
		}
	}
	f.finish(s.reconcileIn("ascending"))
	if sent := strings.Fields(f.sentIDs()); len(sent) != 40 {
		t.Errorf("sent %s, want all 40", sent)
	}
}

// Promise 10: a list that moves faster than it can be read is not begun again
// without end.
func TestPromise10AListThatMovesTooFastFails(t *testing.T) {
	t.Parallel()
	f := setup(t)
	tab := newTable(t, f, "descending", byNumberedLink)
	for i := range 40 {
		id := fmt.Sprintf("o%02d", i)
		tab.rows[id] = row{ID: id, Updated: noon.Add(-time.Hour - time.Duration(i)*time.Second)}
	}
	tab.change = func(n int, rows map[string]row) { // more than a page before each request
		for i := range 9 {
			id := fmt.Sprintf("new %d %d", n, i)
			rows[id] = row{ID: id, Updated: noon}
		}
	}
	begun := f.begin(f.runner("since: since, next: {link: header}, order: descending, max_pages: 200"))
	if err := begun.Do(); !fault.IsPermanent(err) || !strings.Contains(f.report(begun.ID()).Error, "moves faster") || tab.asked > 100 {
		t.Errorf("Do() = %v after %d requests, want an error that says why", err, tab.asked)
	}
}

// Promise 6: pages by number that are smaller than the API's largest are asked for so
// that they overlap. One that is full, and shows only what has moved there from
// pages before, is not the end.
func TestPromise6AFullPageWithNothingNewIsNoEnd(t *testing.T) {
	t.Parallel()
	f := setup(t)
	s := shapes["page, capped"]
	// What the pages' sizes are, and with how many nothing new is left, depends on how
	// many were read.
	for at := 3; at <= 6; at++ {
		for moved := 1; moved <= 9; moved++ {
			tab := newTable(t, f, "descending", s.answer)
			for i := range 50 {
				id := fmt.Sprintf("o%02d", i)
				tab.rows[id] = row{ID: id, Updated: noon.Add(-time.Hour - time.Duration(i)*time.Second)}
			}
			tab.change = func(n int, rows map[string]row) {
				for i := 50 - moved; n == at && i < 50; i++ {
					id := fmt.Sprintf("o%02d", i)
					rows[id] = row{ID: id, Updated: noon.Add(-time.Minute)} // in front of all, and too young
				}
			}
			f.finish(s.reconcileIn("descending"))
			if sent := strings.Fields(f.sentIDs()); len(sent) < 50-moved {
				t.Errorf("%d of the %d that stayed were sent, where %d moved before request %d", len(sent), 50-moved, moved, at)
			}
			f.reset()
		}
	}
}
