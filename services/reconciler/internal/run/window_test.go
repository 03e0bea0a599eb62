package run_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// A record that becomes visible late, with the time of a record that was
// listed already, is found in the overlap.
func TestOverlapCatchesEqualTimes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	end := noon.Add(-2 * time.Minute)
	f.shop.put("first", end)
	r := f.runner(ascending)
	f.do(r)
	f.shop.put("equal", end)
	f.shop.put("early", end.Add(-9*time.Minute))
	f.pass(time.Hour)
	rep := f.do(r)
	if want := (report.Counts{Listed: 3, Matched: 1, Missed: 2, Repaired: 2}); rep.Counts != want {
		t.Errorf("counts %+v, want %+v", rep.Counts, want)
	}
	if got := f.sentIDs(); got != "early equal first" {
		t.Errorf("sent %s", got)
	}
}

// The first window begins as long before the source's time as it should, and not
// before that of a clock that is ahead: not even when that is further ahead than
// the window is long.
func TestFirstWindowBeginsByTheSourcesClock(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"by minutes": 40 * time.Minute, "by a day": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.enrich()
			f.shop.now = func() time.Time { return f.clock().Add(-ahead) }
			f.shop.put("within", noon.Add(-ahead-59*time.Minute))
			f.shop.put("before", noon.Add(-ahead-61*time.Minute))
			r := f.runner(ascending + ", start: 1h")
			rep := f.do(r)
			if want := noon.Add(-ahead - time.Hour).Add(time.Second); !rep.From.Equal(want) || !rep.To.Equal(want.Add(58*time.Minute)) || f.sentIDs() != "within" {
				t.Errorf("window from %s to %s, sent %q, want it from %s on for 58m, and the record within", rep.From, rep.To, f.sentIDs(), want)
			}
			f.shop.put("next", noon.Add(-ahead+time.Minute))
			f.pass(time.Hour)
			f.do(r)
			if got := f.sentIDs(); got != "next within" {
				t.Errorf("sent %q in the end, want the next record too", got)
			}
		})
	}
}

// What changed after the window's end is left to the next window, whose
// webhook may still be on the way.
func TestYoungRecordsAreLeftToTheNextWindow(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		reconcile string
		requests  int // of the first run, of six records on three pages
		skipped   int
	}{
		"in ascending order the list ends with a page of such": {ascending, 2, 3},
		"without an order it is read to its end":               {"since: updated_after, items: orders, next: cursor", 3, 5},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.enrich()
			f.shop.put("a", noon.Add(-2*time.Minute)) // at the very end: it belongs to this window
			for i, id := range []string{"b", "c", "d", "e", "f"} {
				f.shop.put(id, noon.Add(-2*time.Minute+time.Duration(i+1)*time.Nanosecond))
			}
			r := f.runner(tt.reconcile)
			rep := f.do(r)
			if want := (report.Counts{Listed: 1 + tt.skipped, Missed: 1, Repaired: 1, SkippedYoung: tt.skipped}); rep.Counts != want {
				t.Errorf("counts %+v, want %+v", rep.Counts, want)
			}
			if n := len(f.shop.requests()); n != tt.requests {
				t.Errorf("%d requests, want %d", n, tt.requests)
			}
			f.pass(time.Hour)
			if rep := f.do(r); rep.Missed != 5 || rep.Matched != 1 {
				t.Errorf("counts of the next run %+v, want the five", rep.Counts)
			}
			if got := f.sentIDs(); got != "a b c d e f" {
				t.Errorf("sent %s", got)
			}
		})
	}
}

func TestPagingReachesEveryRecord(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		reconcile string
		want      string // the queries
	}{
		"by cursor": {"items: orders, next: cursor", "|cursor=at 2|cursor=at 4"},
		"by offset": {"items: orders, next: {offset: offset}", "|offset=1|offset=2|offset=3|offset=4"},
		"one page":  {"items: orders, query: {all: \"1\"}", "all=1"},
		"with a size and a fixed query": {
			"items: orders, next: {cursor: cursor, param: cursor}, limit: {param: n, size: 2}, query: {state: all}",
			"n=2&state=all|cursor=at 2&n=2&state=all|cursor=at 4&n=2&state=all",
		},
		"from a first start": {"items: orders, next: cursor, since: {param: since, format: unix}, start: 1h", "since=1795690800|cursor=at 2&since=1795690800|cursor=at 4&since=1795690800"},
		"in milliseconds":    {"items: orders, query: {all: \"1\"}, since: {param: since, format: unix_ms}, start: 1h", "all=1&since=1795690800000"},
		"in RFC 3339":        {"items: orders, query: {all: \"1\"}, since: since, start: 1h", "all=1&since=2026-11-26T11:00:00Z"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			for i := range 5 {
				f.shop.put(fmt.Sprint("o", i), noon.Add(-30*time.Minute+time.Duration(i)*time.Minute))
			}
			rep := f.do(f.runner(tt.reconcile))
			if rep.Listed != 5 || rep.Repaired != 5 || rep.Duplicates != 0 || !rep.Complete {
				t.Errorf("report %+v, want all five", rep)
			}
			if got := f.sentIDs(); got != "o0 o1 o2 o3 o4" {
				t.Errorf("sent %s", got)
			}
			queries, err := url.QueryUnescape(strings.Join(f.shop.requests(), "|"))
			if err != nil || queries != tt.want {
				t.Errorf("queries %s, want %s", queries, tt.want)
			}
		})
	}
}

// Where the version is no time, the record's own tells what is young.
func TestTimesOfChangeAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	f := setup(t)
	young, old := noon.Add(-time.Minute), noon.Add(-time.Hour)
	f.shop.troubled(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		record := func(id string, at any) string {
			return fmt.Sprintf(`{"id":%q,"updated_at":7,"at":%v}`, id, at)
		}
		_, _ = fmt.Fprintf(w, `{"orders":[%s]}`, strings.Join([]string{
			record("seconds", old.Unix()), record("young seconds", young.Unix()),
			record("millis", old.UnixMilli()), record("young millis", young.UnixMilli()),
			record("text", fmt.Sprintf("%q", old.Format(time.RFC3339))), record("young text", fmt.Sprintf("%q", young.Format(time.RFC3339))),
			record("none", "null"),
		}, ","))
		return true
	})
	rep := f.do(f.runner("items: orders, time: record.at"))
	if want := (report.Counts{Listed: 7, Missed: 4, Repaired: 4, SkippedYoung: 3}); rep.Counts != want {
		t.Errorf("counts %+v, want %+v", rep.Counts, want)
	}
	if got := f.sentIDs(); got != "millis none seconds text" {
		t.Errorf("sent %s", got)
	}
}

// A time in a unit that nobody reads, or that stands for never, is no time: the
// record is told to be unreadable, not taken for one of another window.
func TestImpossibleTimesAreUnreadable(t *testing.T) {
	t.Parallel()
	old := noon.Add(-time.Hour)
	for name, at := range map[string]any{
		"microseconds": old.UnixMicro(), "nanoseconds": old.UnixNano(), "the year 1, in milliseconds": -62135596800000,
		"before 1970": -1, "the year 2300": `"2300-01-01T00:00:00Z"`,
	} {
		for _, order := range []string{"ascending", "descending"} {
			t.Run(name+" "+order, func(t *testing.T) {
				t.Parallel()
				f := setup(t)
				f.shop.troubled(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
					_, _ = fmt.Fprintf(w, `{"orders":[{"id":"x","updated_at":7,"at":%v},{"id":"a","updated_at":7,"at":%d}]}`, at, old.Unix())
					return true
				})
				rep := f.do(f.runner("items: orders, start: 2h, time: record.at, order: " + order))
				if want := (report.Counts{Listed: 2, Missed: 1, Repaired: 1, Unreadable: 1}); rep.Counts != want || rep.Complete || f.sentIDs() != "a" {
					t.Errorf("report %+v, sent %s; want counts %+v, and it not complete", rep, f.sentIDs(), want)
				}
			})
		}
	}
}

// No next window has a record whose time is ahead of the source's clock, until that
// time comes: it is compared like one without a time, and is no end of a list.
func TestTimesAheadOfTheSourceAreLeftToNoOtherWindow(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	f.shop.troubled(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		_, _ = fmt.Fprintf(w, `{"orders":[{"id":"ahead","updated_at":%q},{"id":"settled","updated_at":%q}]}`,
			noon.AddDate(1, 0, 0).Format(time.RFC3339), noon.Add(-time.Hour).Format(time.RFC3339))
		return true
	})
	r := f.runner("items: orders, order: ascending")
	rep := f.do(r)
	if want := (report.Counts{Listed: 2, Missed: 2, Repaired: 2}); rep.Counts != want || f.sentIDs() != "ahead settled" {
		t.Errorf("counts %+v, sent %s; want %+v and both", rep.Counts, f.sentIDs(), want)
	}
	f.pass(time.Hour)
	if rep := f.do(r); rep.Matched != 2 {
		t.Errorf("counts of the next run %+v, want both matched", rep.Counts)
	}
}

// An index may have a record where it was before its last change, which the record
// tells: what stands behind a young one may be old, and is in no later window.
func TestAYoungRecordThatStandsTooFarInFrontEndsNoList(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	f.shop.troubled(func(n int, w http.ResponseWriter, _ *http.Request) bool {
		record := func(id string, before time.Duration) string {
			return fmt.Sprintf(`{"id":%q,"updated_at":%q}`, id, noon.Add(-before).Format(time.RFC3339))
		}
		_, _ = fmt.Fprintf(w, `{"orders":[%s],"cursor":"%d"}`, strings.Join([][]string{
			{record("a", time.Hour), record("young", time.Minute), record("b", 50*time.Minute), record("young 2", time.Minute)},
			{record("c", 40*time.Minute), record("young 3", time.Minute)},
			{record("young 4", time.Minute)},
		}[n], ","), n+1)
		return true
	})
	rep := f.do(f.runner(ascending))
	if want := (report.Counts{Listed: 7, Missed: 3, Repaired: 3, SkippedYoung: 4}); rep.Counts != want || !rep.Complete || rep.Pages != 3 || f.sentIDs() != "a b c" {
		t.Errorf("report %+v, sent %s; want counts %+v of three pages", rep, f.sentIDs(), want)
	}
}

func TestEmptyListIsAWindowThatIsComplete(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{"an empty array": `{"orders":[]}`, "null": `{"orders":null}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.shop.troubled(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				_, _ = w.Write([]byte(answer))
				return true
			})
			if rep := f.do(f.runner("items: orders, next: {offset: skip}")); !rep.Complete || rep.Pages != 1 || rep.Listed != 0 {
				t.Errorf("report %+v", rep)
			}
		})
	}
}

// A list from the youngest down ends where the window begins.
func TestDescendingListEndsAtTheWindowsStart(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	f.shop.troubled(func(n int, w http.ResponseWriter, _ *http.Request) bool {
		at := func(d time.Duration) string { return noon.Add(d).Format(time.RFC3339) }
		pages := []string{
			`{"id":"young","updated_at":"` + at(-time.Minute) + `"},{"id":"in","updated_at":"` + at(-5*time.Minute) + `"}`,
			`{"id":"edge","updated_at":"` + at(-time.Hour) + `"},{"id":"out","updated_at":"` + at(-time.Hour-time.Second) + `"}`,
			`{"id":"far","updated_at":"` + at(-2*time.Hour) + `"}`,
		}
		_, _ = fmt.Fprintf(w, `{"orders":[%s],"cursor":"%d"}`, pages[n], n+1)
		return true
	})
	rep := f.do(f.runner("items: orders, next: cursor, order: descending, start: 1h"))
	if want := (report.Counts{Listed: 3, Missed: 2, Repaired: 2, SkippedYoung: 1}); rep.Counts != want || !rep.Complete {
		t.Errorf("report %+v, want counts %+v", rep, want)
	}
	if got := f.sentIDs(); got != "edge in" {
		t.Errorf("sent %s", got)
	}
}

func TestFaultyAnswersEndTheRunAndSayWhy(t *testing.T) {
	t.Parallel()
	old := noon.Add(-time.Hour).Format(time.RFC3339)
	tests := map[string]struct {
		reconcile string
		answer    string
		want      string
	}{
		"a cursor that stays":    {ascending, `{"orders":[],"cursor":"x"}`, "runs in a circle"},
		"no list":                {ascending, `{"data":[]}`, "no records under items"},
		"a list of another kind": {ascending, `{"orders":{"id":"secret"}}`, "not an array"},
		"a record without an id": {ascending, `{"orders":[{"updated_at":"` + old + `","note":"secret"}]}`, "record 1: record.id: no value"},
		"without a version":      {ascending, `{"orders":[{"id":"a","note":"secret"}]}`, "record 1: a: record.updated_at: no value"},
		"with an endless id":     {ascending, `{"orders":[{"id":"` + strings.Repeat("€", 3000) + `"}]}`, "record 1: €"},
		"with a foreign time":    {ascending + ", time: record.at", `{"orders":[{"id":"a","updated_at":"` + old + `","at":"secret"}]}`, "a: time: want a time between 1970 and 2262"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.shop.troubled(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				_, _ = w.Write([]byte(tt.answer))
				return true
			})
			begun := f.begin(f.runner(tt.reconcile))
			err := begun.Do()
			if !fault.IsPermanent(err) {
				t.Fatalf("Do() = %v, want a permanent error", err)
			}
			rep := f.report(begun.ID())
			if !strings.Contains(rep.Error, tt.want) || strings.Contains(rep.Error, "secret") || rep.Complete {
				t.Errorf("report's error is %q, want one with %q", rep.Error, tt.want)
			}
			if c := f.cursor(); !c.Through.IsZero() || c.Window == nil || c.Window.Position != "" || !c.RetryAt.IsZero() {
				t.Errorf("cursor %+v, want the window's beginning on schedule", c.Cursor)
			}
		})
	}
}

// A record that is larger than the server takes holds up none of the others. It is
// named as one that was missed and not repaired, and the window is not complete.
func TestRecordThatIsTooLargeHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for i := range 5 {
		f.shop.put(fmt.Sprint("o", i), noon.Add(-time.Hour+time.Duration(i)*time.Minute))
	}
	f.shop.mark("o1", strings.Repeat("large", 300_000))
	r := f.runner(ascending)
	rep := f.do(r)
	if want := (report.Counts{Listed: 5, Missed: 5, Repaired: 4, Unreadable: 1}); rep.Counts != want || rep.Complete || rep.Error != "" {
		t.Errorf("report %+v, want counts %+v, and it not complete", rep, want)
	}
	for _, rec := range rep.Records {
		if rec.Verdict != "missed" || rec.Repaired == (rec.ID == "o1") {
			t.Errorf("record %+v, want all but o1 repaired", rec)
		}
	}
	if got := f.sentIDs(); got != "o0 o2 o3 o4" || !f.cursor().Through.Equal(rep.To) {
		t.Errorf("sent %s, complete through %s, want the others up to %s", got, f.cursor().Through, rep.To)
	}
}

// A position that the source no longer knows begins the window again instead
// of failing for ever.
func TestForgottenPositionBeginsTheWindowAgain(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusBadRequest, http.StatusNotFound, http.StatusGone, http.StatusUnprocessableEntity} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.enrich()
			for i := range 5 {
				f.shop.put(fmt.Sprint("o", i), noon.Add(-time.Hour+time.Duration(i)*time.Minute))
			}
			f.shop.troubled(func(_ int, w http.ResponseWriter, r *http.Request) bool {
				if r.FormValue("cursor") != "at 2" {
					return false
				}
				w.WriteHeader(status)
				return true
			})
			r := f.runner(ascending)
			failing := f.begin(r)
			if err := failing.Do(); err == nil {
				t.Fatal("Do() = nil, want the source's error")
			}
			f.shop.troubled(nil)
			rep := f.do(r)
			if want := (report.Counts{Listed: 5, Matched: 2, Missed: 3, Repaired: 3}); rep.Counts != want || rep.Continues != failing.ID() || !rep.Complete {
				t.Errorf("report %+v, want counts %+v", rep, want)
			}
		})
	}
}

// Promise 10: a run has its share of pages, and the next goes on.
func TestRunOfMaxPagesGoesOnAtTheNext(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	for i := range 9 {
		f.shop.put(fmt.Sprint("o", i), noon.Add(-time.Hour+time.Duration(i)*time.Minute))
	}
	r := f.runner(ascending + ", max_pages: 2")
	last := ""
	for i, want := range []struct {
		pages    int
		complete bool
	}{{2, false}, {4, false}, {5, true}} {
		rep := f.do(r)
		if rep.Pages != want.pages || rep.Complete != want.complete || rep.Error != "" || rep.Continues != last {
			t.Errorf("report %d: %+v, want %+v", i+1, rep, want)
		}
		if through := f.cursor().Through; through.IsZero() == want.complete {
			t.Errorf("after run %d the cursor is at %s", i+1, through)
		}
		last = rep.Run
		f.pass(time.Hour)
	}
	if got := f.sentIDs(); got != "o0 o1 o2 o3 o4 o5 o6 o7 o8" {
		t.Errorf("sent %s", got)
	}
}

// A list that moves while it is read shows records twice.
func TestRecordsListedAgainAreCountedAndNotCompared(t *testing.T) {
	t.Parallel()
	f := setup(t)
	old := noon.Add(-time.Hour).Format(time.RFC3339)
	f.shop.troubled(func(n int, w http.ResponseWriter, _ *http.Request) bool {
		pages := []string{
			`{"orders":[{"id":"a","updated_at":%[1]q},{"id":"b","updated_at":%[1]q}],"cursor":"2"}`,
			`{"orders":[{"id":"b","updated_at":%[1]q},{"id":"c","updated_at":%[1]q}]}`,
		}
		_, _ = fmt.Fprintf(w, pages[n], old)
		return true
	})
	rep := f.do(f.runner("items: orders, next: cursor"))
	if want := (report.Counts{Listed: 4, Missed: 3, Repaired: 3, Duplicates: 1}); rep.Counts != want {
		t.Errorf("counts %+v, want %+v", rep.Counts, want)
	}
}

// Promise 6: a record that changes while the list is read leaves its place, and
// those behind it move up, over the edge between two pages.
func TestPromise6RecordsThatMoveUpAreNotPassedOver(t *testing.T) {
	t.Parallel()
	const n = 40
	id := func(i int) string { return fmt.Sprintf("o%02d", i) }
	tests := map[string]struct {
		changes map[int][]int // which orders change before which request is answered
		stop    bool          // after each page, and go on in another run
	}{
		"one that was read":           {changes: map[int][]int{5: {2}}},
		"one on each page":            {changes: map[int][]int{1: {0}, 3: {1}, 5: {2}, 7: {3}, 9: {4}}},
		"the last that was read":      {changes: map[int][]int{5: {5}}},
		"all that were read":          {changes: map[int][]int{9: {0, 1, 2, 3, 4, 5, 6, 7, 8}}},
		"some, and another runs on":   {changes: map[int][]int{2: {0}, 5: {1, 2}}, stop: true},
		"the end of the list":         {changes: map[int][]int{39: {30, 31, 32, 33, 34, 35, 36, 37, 38}}},
		"many, so that the list ends": {changes: map[int][]int{38: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			for i := range n {
				f.shop.put(id(i), noon.Add(-2*time.Hour+time.Duration(i)*time.Minute))
			}
			f.shop.before(func(request int) {
				for _, i := range tt.changes[request] {
					f.shop.put(id(i), noon.Add(-time.Minute)) // too young for this window
				}
			})
			list := "since: updated_after, order: ascending, items: orders, next: {offset: offset}"
			if tt.stop {
				list += ", max_pages: 1"
			}
			runner := f.runner(list)
			rep := f.do(runner)
			for runs := 0; !rep.Complete && runs < 200; runs++ {
				rep = f.do(runner)
			}
			if !rep.Complete {
				t.Fatalf("report %+v, want a complete window", rep)
			}
			sent := strings.Fields(f.sentIDs())
			for i := range n {
				if !slices.Contains(sent, id(i)) && !slices.ContainsFunc(slices.Collect(maps.Values(tt.changes)), func(c []int) bool { return slices.Contains(c, i) }) {
					t.Errorf("%s was passed over", id(i))
				}
			}
		})
	}
}

func TestResourceWithoutAListIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := run.New(run.Config{Key: key}, run.Deps{}); err == nil {
		t.Error("New() = nil, want an error")
	}
}
