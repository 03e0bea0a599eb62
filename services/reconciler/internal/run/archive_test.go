package run_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// archive is a source's API with many orders, listed by the time of change in
// pages, after a filter with both ends.
type archive struct {
	size   int  // of a page
	coarse bool // it writes times to the minute, and filters by what they really are

	mu     sync.Mutex
	orders []order // sorted
	asked  []string
	before func(w http.ResponseWriter, r *http.Request) bool
}

// fill puts n orders into the archive, over the given time up to two hours
// before noon, of which every two have the same time.
func (a *archive) fill(n int, over time.Duration) {
	begin := noon.Add(-2*time.Hour - over)
	for i := range n {
		at := begin.Add(over / time.Duration(n) * time.Duration(i/2*2)).Truncate(time.Second)
		a.orders = append(a.orders, order{ID: fmt.Sprintf("o%05d", i), Updated: at})
	}
}

func (a *archive) hook(f func(w http.ResponseWriter, r *http.Request) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.before = f
}

func (a *archive) requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked)
}

func (a *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked = append(a.asked, r.URL.RawQuery)
	list, before := a.orders, a.before
	a.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	if since, ok := a.time(r.FormValue("since")); ok {
		i, _ := slices.BinarySearchFunc(list, since, func(o order, t time.Time) int { return o.Updated.Compare(t) })
		list = list[i:]
	}
	if until, ok := a.time(r.FormValue("until")); ok {
		i, _ := slices.BinarySearchFunc(list, until.Add(1), func(o order, t time.Time) int { return o.Updated.Compare(t) })
		list = list[:i]
	}
	if a.coarse {
		list = slices.Clone(list)
		for i := range list {
			list[i].Updated = list[i].Updated.Truncate(time.Minute)
		}
	}
	at, _ := strconv.Atoi(r.FormValue("cursor"))
	answer := map[string]any{"orders": list[min(at, len(list)):min(at+a.size, len(list))], "cursor": nil, "total": len(list)}
	if at+a.size < len(list) {
		answer["cursor"] = strconv.Itoa(at + a.size)
	}
	w.Header().Set("Date", noon.Format(http.TimeFormat))
	_ = json.NewEncoder(w).Encode(answer)
}

// time reads a filter in either of two formats.
func (a *archive) time(text string) (t time.Time, ok bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

const between = "since: since, until: until, order: ascending, items: orders, next: cursor"

// withArchive makes the archive the fixture's source.
func (f *fixture) withArchive(size int) *archive {
	f.t.Helper()
	a := &archive{size: size}
	srv := httptest.NewServer(a)
	f.t.Cleanup(srv.Close)
	f.base = srv.URL
	return a
}

// backfill is one of everything, up to when changes have settled.
func (f *fixture) backfill(slices int) run.BackfillOptions {
	f.t.Helper()
	store, err := cursor.OpenBackfills(f.t.Context(), f.js)
	if err != nil {
		f.t.Fatal(err)
	}
	return run.BackfillOptions{
		Backfill: cursor.Backfill{
			ID: "b1", Source: key.Source, Resource: key.Resource, Account: key.Account, Accounts: 1, To: noon.Add(-2 * time.Minute), Slices: slices,
			State: cursor.Running, StartedAt: noon,
		},
		Store: store, Pace: rate.NewLimiter(rate.Inf, 1),
	}
}

func (f *fixture) stretch(o run.BackfillOptions) cursor.Stretch {
	f.t.Helper()
	st, err := o.Store.Stretch(f.t.Context(), o.ID, key.Account)
	if err != nil {
		f.t.Fatal(err)
	}
	return st
}

// messages counts the triggers that are stored, and the records in them.
func (f *fixture) messages() (stored, records int) {
	f.t.Helper()
	ids := map[string]bool{}
	for _, m := range f.sent() {
		ids[m.Header.Get(event.HeaderSubject)] = true
		stored++
	}
	return stored, len(ids)
}
