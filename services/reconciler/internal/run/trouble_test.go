package run_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/report"
)

// A record without an id or a version doesn't keep its window open: it is counted
// and named, and the window is finished, but not called complete.
func TestUnreadableRecordsAreCountedAndNamed(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]string{"by cursor": ascending, "by offset": "items: orders, next: {offset: offset}"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.enrich()
			old := noon.Add(-time.Hour).Format(time.RFC3339)
			f.shop.troubled(func(_ int, w http.ResponseWriter, r *http.Request) bool {
				if o := r.FormValue("offset"); o != "" {
					_, _ = fmt.Fprint(w, `{"orders":[{"id":"unversioned","note":"secret"}]}`)
					return true
				}
				_, _ = fmt.Fprintf(w, `{"orders":[{"id":"good","updated_at":%q},{"updated_at":%q},{"id":"unversioned","note":"secret"}]}`, old, old)
				return true
			})
			r := f.runner(list)
			rep := f.do(r)
			if want := (report.Counts{Listed: 3, Missed: 1, Repaired: 1, Unreadable: 2}); rep.Counts != want || rep.Complete || rep.Error != "" {
				t.Errorf("report %+v, want counts %+v", rep, want)
			}
			var unreadable []string
			for _, rec := range rep.Records {
				if rec.Verdict == report.Unreadable {
					unreadable = append(unreadable, rec.ID)
				}
			}
			if want := []string{"(page 1, record 2)", "unversioned"}; !slices.Equal(unreadable, want) {
				t.Errorf("unreadable records %q, want %q", unreadable, want)
			}
			if got := fmt.Sprint(rep.Records); strings.Contains(got, "secret") {
				t.Errorf("records %s show what the API wrote", got)
			}
			if c := f.cursor(); !c.Through.Equal(rep.To) || c.Window != nil {
				t.Errorf("cursor %+v, want it at the window's end", c.Cursor)
			}
		})
	}
}

// A page without any record that can be read rather speaks of a mistake in the
// configuration: the window waits for three runs, then goes on.
func TestUnreadablePagePassesAfterThreeRuns(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.shop.troubled(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		_, _ = fmt.Fprint(w, `{"orders":[{"name":"a"},{"name":"b"}]}`)
		return true
	})
	r := f.runner(ascending)
	for range 3 {
		if err := f.begin(r).Do(); !fault.IsPermanent(err) {
			t.Fatalf("Do() = %v, want a permanent error", err)
		}
		if c := f.cursor(); !c.Through.IsZero() {
			t.Fatalf("cursor %+v, want it at the beginning", c.Cursor)
		}
	}
	if rep := f.do(r); rep.Unreadable != 2 || rep.Complete || f.cursor().Through.IsZero() {
		t.Errorf("report %+v, cursor %+v, want the window finished", rep, f.cursor().Cursor)
	}
}

// Promise 6: that is so of every page, also where a run comes to it only after others
// have had their share.
func TestPromise6UnreadablePageBehindOthersPasses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	for i := range 5 {
		f.shop.put(fmt.Sprint("o", i), noon.Add(-time.Hour+time.Duration(i)*time.Minute))
	}
	f.shop.troubled(func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.FormValue("cursor") != "at 4" {
			return false
		}
		_, _ = fmt.Fprint(w, `{"orders":[{"name":"a"}]}`)
		return true
	})
	r := f.runner(ascending + ", max_pages: 2")
	failed := 0
	for range 10 { // of which every other one comes to the page
		err := f.begin(r).Do()
		if err != nil && !fault.IsPermanent(err) {
			t.Fatalf("Do() = %v, want a permanent error", err)
		}
		if err != nil {
			failed++
		}
		if !f.cursor().Through.IsZero() {
			break
		}
		f.pass(time.Hour)
	}
	if c := f.cursor(); failed != 3 || c.Through.IsZero() || c.Window != nil {
		t.Errorf("after %d failures the cursor is %+v, want it at the window's end after three", failed, c.Cursor)
	}
}

// The window's end stays behind the source's clock: what changes there after it
// was listed has an earlier time than this clock says, and must be in the next
// window. It never goes back behind a finished one.
func TestWindowEndsBehindTheSourcesClock(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	behind := time.Hour
	f.shop.now = func() time.Time { return f.clock().Add(-behind) }
	f.shop.put("before", noon.Add(-2*time.Hour))
	r := f.runner(ascending)
	first := f.do(r)
	if !first.To.Equal(noon.Add(-time.Hour-2*time.Minute+time.Second)) || !f.cursor().Through.Equal(first.To) {
		t.Errorf("the window ends at %s, want the source's clock less 2m", first.To)
	}
	f.shop.put("after", noon.Add(-time.Hour+time.Second)) // by the source's clock
	f.pass(time.Hour)
	if rep := f.do(r); rep.Missed != 1 {
		t.Errorf("counts of the next window %+v, want the record that changed after it was listed", rep.Counts)
	}
	through := f.cursor().Through
	behind = 24 * time.Hour
	f.pass(time.Hour)
	if rep := f.do(r); !rep.To.Equal(through) || !f.cursor().Through.Equal(through) {
		t.Errorf("the window ends at %s, want %s", rep.To, through)
	}
}

// A circle of several pages is found, though no run is long enough to see one of
// them twice.
func TestCircleIsFoundOverSeveralRuns(t *testing.T) {
	t.Parallel()
	for name, reconcile := range map[string]string{"in one run": ascending, "over several": ascending + ", max_pages: 2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.shop.troubled(func(_ int, w http.ResponseWriter, r *http.Request) bool {
				next := map[string]string{"": "a", "a": "b", "b": "c", "c": "d", "d": "e", "e": "b"}[r.FormValue("cursor")]
				_, _ = fmt.Fprintf(w, `{"orders":[],"cursor":%q}`, next)
				return true
			})
			r := f.runner(reconcile)
			for runs := 1; ; runs++ {
				err := f.begin(r).Do()
				if err != nil && strings.Contains(err.Error(), "runs in a circle") {
					break
				}
				if err != nil || runs > 12 {
					t.Fatalf("Do() = %v after %d runs, want a circle", err, runs)
				}
			}
			if c := f.cursor(); !c.Through.IsZero() || c.Window == nil || c.Window.Position != "" {
				t.Errorf("cursor %+v, want the window's beginning", c.Cursor)
			}
		})
	}
}

// APIs that don't know the parameter of next, or don't keep to sizes, are found
// out.
func TestListsThatDontMoveEndInAnError(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		reconcile, want string
		size            int // of a page, whatever is asked for
	}{
		"an offset that isn't known": {"items: orders, next: {offset: skip}", "the same page again and again", 30},
		"pages larger than asked":    {"items: orders, next: {page: page}, limit: {param: per_page, size: 25}", "doesn't follow the first", 30},
		"pages smaller than asked":   {"items: orders, next: {page: page}, limit: {param: per_page, size: 100}", "doesn't follow the first", 30},
		"pages of a few records":     {"items: orders, next: {page: page}, limit: {param: per_page, size: 100}", "doesn't follow the first", 15},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.shop.troubled(func(_ int, w http.ResponseWriter, r *http.Request) bool {
				var orders []string
				page := 0
				_, _ = fmt.Sscan(r.FormValue("page"), &page)
				for i := range tt.size {
					orders = append(orders, fmt.Sprintf(`{"id":"o%d","updated_at":"2026-11-20T00:00:00Z"}`, max(page-1, 0)*tt.size+i))
				}
				_, _ = fmt.Fprintf(w, `{"orders":[%s]}`, strings.Join(orders, ","))
				return true
			})
			if err := f.begin(f.runner(tt.reconcile)).Do(); !fault.IsPermanent(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Do() = %v, want one with %q", err, tt.want)
			}
			if c := f.cursor(); !c.Through.IsZero() {
				t.Errorf("cursor %+v, want it at the beginning", c.Cursor)
			}
		})
	}
}

// Answers that lack what their shape must have never pass for the end of a list.
func TestCutAnswersAreNoEnd(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ reconcile, answer, link string }{
		"more without a boolean":    {"items: orders, next: {after: after, more: more}", `{"orders":[]}`, ""},
		"more, but no records":      {"items: orders, next: {after: after, more: more}", `{"orders":[],"more":true}`, ""},
		"more, but no cursor":       {"items: orders, next: {cursor: next, more: more}", `{"orders":[],"more":true}`, ""},
		"a broken Link header":      {"items: orders, next: {link: header}", `{"orders":[]}`, `<https://x; rel=next`},
		"a link to another host":    {"items: orders, next: {link: header}", `{"orders":[]}`, `<https://evil.example.com/orders?page=2>; rel=next`},
		"a link of another kind":    {"items: orders, next: {link: next}", `{"orders":[],"next":{"href":"/x"}}`, ""},
		"no number of pages":        {"items: orders, next: {page: page, pages: pages}, limit: {param: n, size: 20}", `{"orders":[]}`, ""},
		"a connection without info": {graphqlList + ", next: {connection: data.orders}", `{"data":{"orders":{"nodes":[]}}}`, ""},
		"errors of GraphQL":         {graphqlList + ", next: {connection: data.orders}", `{"errors":[{"message":"x"}],"data":{"orders":{"nodes":null,"pageInfo":{"hasNextPage":false}}}}`, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.shop.troubled(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				if tt.link != "" {
					w.Header().Set("Link", tt.link)
				}
				_, _ = fmt.Fprint(w, tt.answer)
				return true
			})
			if err := f.begin(f.runner(tt.reconcile)).Do(); err == nil || strings.Contains(err.Error(), "evil") {
				t.Errorf("Do() = %v, want an error that quotes nothing", err)
			}
			if c := f.cursor(); !c.Through.IsZero() {
				t.Errorf("cursor %+v, want it at the beginning", c.Cursor)
			}
		})
	}
}
