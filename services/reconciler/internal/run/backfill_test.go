package run_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// Promise 6: a backfill compares each record of the time once and repairs what is
// missing, in one slice as in several, and nothing else of the resource moves.
func TestBackfillComparesEachRecordOnce(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		reconcile string
		slices    int
		from      time.Time
		listed    int
	}{
		"all of it":               {between, 1, time.Time{}, 400},
		"in slices":               {between, 7, time.Time{}, 400},
		"from a time":             {between, 3, noon.Add(-12 * time.Hour), 200},
		"without an end":          {"since: since, order: ascending, items: orders, next: cursor", 4, time.Time{}, 400},
		"an exclusive end":        {"since: {param: since, exclusive: true}, until: until, order: ascending, items: orders, next: cursor", 4, noon.Add(-12 * time.Hour), 200},
		"times to the minute":     {"since: {param: since, format: minute}, until: {param: until, format: minute}, order: ascending, items: orders, next: cursor", 3, time.Time{}, 400},
		"in parts of the slices":  {between + ", start: 48h, slice: 5h", 2, time.Time{}, 400},
		"without a known begin":   {"since: since, until: until, items: orders, next: cursor", 5, time.Time{}, 400},
		"more slices than sense":  {between, 50, noon.Add(-12 * time.Hour), 200},
		"without a filter at all": {"items: orders, next: cursor", 1, time.Time{}, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			a := f.withArchive(9)
			a.fill(400, 20*time.Hour) // every two of them 6 minutes apart
			f.enrich()
			o := f.backfill(tt.slices)
			o.From = tt.from
			rep, err := f.runner(tt.reconcile).Backfill(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if rep.Listed != tt.listed || rep.Missed != tt.listed || rep.Repaired != tt.listed || rep.Duplicates != 0 || rep.SkippedYoung != 0 ||
				!rep.Complete || rep.Trigger != report.Backfill || rep.Sets.Listed.Records != tt.listed || !rep.To.Equal(o.To) {
				t.Errorf("report %+v, want %d records missed and repaired", rep, tt.listed)
			}
			causes := 0
			for _, n := range rep.Evidence.Causes {
				causes += n
			}
			if causes != tt.listed || len(rep.Records) != min(tt.listed, report.MaxRecords) || rep.Records[0].Cause == "" {
				t.Errorf("%d causes of %d records, %d of them named, want those of all", causes, tt.listed, len(rep.Records))
			}
			if stored, records := f.messages(); stored != tt.listed || records != tt.listed {
				t.Errorf("%d triggers of %d records are stored, want %d", stored, records, tt.listed)
			}
			if origin := f.sent()[0].Header.Get(event.HeaderOrigin); origin != string(event.Backfill) {
				t.Errorf("origin %q, want backfill", origin)
			}
			if c := f.cursor(); c.Cursor != (cursor.Cursor{}) {
				t.Errorf("the schedule's cursor is %+v, want it untouched", c.Cursor)
			}
			if st := f.stretch(o); !st.Complete || st.EndedAt.IsZero() {
				t.Errorf("stretch %+v, want it complete", st)
			}
			if again, err := f.runner(tt.reconcile).Backfill(t.Context(), o); err != nil || again.Run != "" {
				t.Errorf("Backfill() again = %+v, %v, want nothing left to do", again, err)
			}
		})
	}
}

// Promise 6: a record at the border of two slices is compared once, also where
// the source shows it only to the one that its written time doesn't speak for.
func TestBackfillComparesRecordsAtBordersOnce(t *testing.T) {
	t.Parallel()
	for name, coarse := range map[string]bool{"exact times": false, "times that are cut": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			a := f.withArchive(9)
			a.fill(400, 20*time.Hour)
			if a.coarse = coarse; coarse {
				for i := range a.orders {
					a.orders[i].Updated = a.orders[i].Updated.Add(30 * time.Second)
				}
			}
			o := f.backfill(5)
			o.From, o.To = noon.Add(-12*time.Hour), noon.Add(-2*time.Hour) // with two records at each border
			rep, err := f.runner(between).Backfill(t.Context(), o)
			if err != nil || rep.Listed != 200 || rep.Missed != 200 || rep.Sets.Listed.Records != 200 {
				t.Errorf("Backfill() = %+v, %v, want 200 records", rep.Counts, err)
			}
			if n, distinct := f.messages(); n != 200 || distinct != 200 {
				t.Errorf("%d triggers of %d records are stored, want 200", n, distinct)
			}
			borders := 0
			for _, w := range f.stretch(o).Slices {
				borders += len(w.Border)
			}
			if borders < 8 {
				t.Errorf("%d records at borders, want two at each of four", borders)
			}
		})
	}
}

// A backfill is complete up to where a slice ends behind which nothing was compared,
// since the source's clock hasn't come as far.
func TestBackfillEndsWhereASlowClockCutsItsSlices(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	f.shop.now = func() time.Time { return f.clock().Add(-40 * time.Minute) }
	f.shop.put("in", noon.Add(-55*time.Minute))
	f.shop.put("out", noon.Add(-41*time.Minute))
	o := f.backfill(2)
	o.From = noon.Add(-time.Hour)
	rep, err := f.runner(ascending).Backfill(t.Context(), o)
	if want := noon.Add(-42*time.Minute + time.Second); err != nil || !rep.To.Equal(want) || f.sentIDs() != "in" {
		t.Errorf("Backfill() up to %s, %v, sent %s; want up to %s, and in alone", rep.To, err, f.sentIDs(), want)
	}
}

// The causes of all gaps are counted, also of those that no report names.
func TestBackfillCountsTheCausesOfAllGaps(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.now = time.Now().UTC()
	f.took(2*time.Hour, time.Minute, intake.Counts{"accepted": 5})
	for i := range 150 {
		f.shop.put(fmt.Sprintf("o%03d", i), f.now.Add(-time.Hour+time.Duration(i)*time.Second))
	}
	o := f.backfill(2)
	o.To = f.now.Add(-2 * time.Minute)
	rep, err := f.runner("since: updated_after, order: ascending, items: orders, next: cursor").Backfill(t.Context(), o)
	if want := map[report.Cause]int{report.NeverSent: 150}; err != nil || !maps.Equal(rep.Evidence.Causes, want) {
		t.Errorf("causes %v, %v, want %v", rep.Evidence.Causes, err, want)
	}
}

// faulty stores triggers, and does something after each.
type faulty struct {
	run.Publisher
	after func(n int)

	mu sync.Mutex
	n  int
}

func (p *faulty) Publish(ctx context.Context, m *nats.Msg) (publish.Ack, error) {
	ack, err := p.Publisher.Publish(ctx, m)
	p.mu.Lock()
	p.n++
	n := p.n
	p.mu.Unlock()
	p.after(n)
	return ack, err
}

// Promise 6: however often the process dies, in whichever slice, on a page or
// between a page and its place, each of 10,000 records is compared and stored.
func TestBackfillSurvivesCrashes(t *testing.T) {
	t.Parallel()
	const records, slices, size = 10_000, 4, 100
	f := setup(t)
	a := f.withArchive(size)
	a.fill(records, 40*time.Hour)
	o := f.backfill(slices)
	stored := &faulty{Publisher: f.pub}
	f.pub = stored

	var mu sync.Mutex
	killed := map[string]bool{} // by the begin of the slice
	crashes, stop := 0, func() {}
	a.hook(func(_ http.ResponseWriter, r *http.Request) bool { // in each slice at its 7th page
		mu.Lock()
		defer mu.Unlock()
		since := r.FormValue("since")
		if r.FormValue("cursor") == "600" && !killed[since] {
			killed[since] = true
			stop()
			return true
		}
		return false
	})
	stored.after = func(n int) { // and twice while the last of a page are stored
		mu.Lock()
		defer mu.Unlock()
		if n == 1000 || n == 5000 {
			stop()
		}
	}
	var rep report.Report
	for rep.Run == "" {
		ctx, cancel := context.WithCancel(t.Context())
		mu.Lock()
		stop = cancel
		mu.Unlock()
		var err error
		rep, err = f.runner(between).Backfill(ctx, o)
		if err != nil && ctx.Err() == nil && !errors.Is(err, cursor.ErrConflict) { // what the dead one wrote may have come late
			t.Fatal(err)
		}
		cancel()
		if crashes++; crashes > 20 {
			t.Fatalf("no end after %d crashes", crashes)
		}
	}
	if len(killed) != slices {
		t.Errorf("%d slices were killed, want each of %d", len(killed), slices)
	}
	if rep.Listed != records || rep.Repaired != records || rep.Unreadable != 0 || !rep.Complete {
		t.Errorf("after %d crashes: report of %+v, want all %d", crashes-1, rep.Counts, records)
	}
	if n, distinct := f.messages(); n != records || distinct != records {
		t.Errorf("%d triggers of %d records are stored, want %d", n, distinct, records)
	}
	if n := len(a.requests()); n > records/size+4*slices*crashes {
		t.Errorf("%d requests, want hardly more than %d: it begins again", n, records/size)
	}
	if len(f.reports()) != 1 {
		t.Errorf("%d reports, want one", len(f.reports()))
	}
}

// Promise 6: of two runners that believe to be alone only one can move the
// backfill on.
func TestOnlyOneRunnerCanSaveABackfill(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a := f.withArchive(10)
	a.fill(100, 10*time.Hour)
	o := f.backfill(1)
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	a.hook(func(_ http.ResponseWriter, r *http.Request) bool { // the first to come to the 5th page
		if r.FormValue("cursor") == "40" {
			first := false
			once.Do(func() { first = true })
			if first {
				close(held)
				<-release
			}
		}
		return false
	})
	paused := make(chan error, 1)
	go func() {
		_, err := f.runner(between).Backfill(t.Context(), o)
		paused <- err
	}()
	<-held
	rep, err := f.runner(between).Backfill(t.Context(), o) // as one does that took over
	if err != nil || rep.Listed != 100 || !rep.Complete {
		t.Errorf("the one that took over: %+v, %v", rep, err)
	}
	before := f.stretch(o)
	close(release)
	if err := <-paused; !errors.Is(err, cursor.ErrConflict) {
		t.Errorf("the one that was paused: %v, want %v", err, cursor.ErrConflict)
	}
	if after := f.stretch(o); after.UpdatedAt != before.UpdatedAt || !after.Complete {
		t.Errorf("the stretch is %+v, want it as the other left it", after)
	}
}

// A report is only published by whoever could save what it says.
func TestOvertakenBackfillReportsNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a := f.withArchive(10)
	a.fill(100, 10*time.Hour)
	o := f.backfill(1)
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	a.hook(func(w http.ResponseWriter, r *http.Request) bool { // the first to come to the 5th page is refused, later
		first := false
		if r.FormValue("cursor") == "40" {
			once.Do(func() { first = true })
		}
		if first {
			close(held)
			<-release
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
		return first
	})
	overtaken := make(chan error, 1)
	go func() {
		_, err := f.runner(between).Backfill(t.Context(), o)
		overtaken <- err
	}()
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	a.hook(func(_ http.ResponseWriter, r *http.Request) bool { // the one that took over is stopped behind it
		if r.FormValue("cursor") == "70" {
			cancel()
		}
		return false
	})
	if _, err := f.runner(between).Backfill(ctx, o); err == nil {
		t.Fatal("the one that took over was not stopped")
	}
	close(release)
	if err := <-overtaken; !errors.Is(err, cursor.ErrConflict) {
		t.Errorf("the one that was overtaken: %v, want %v", err, cursor.ErrConflict)
	}
	if reports := f.reports(); len(reports) != 0 {
		t.Errorf("the one that was overtaken has reported %+v", reports[0])
	}
	a.hook(nil)
	rep, err := f.runner(between).Backfill(t.Context(), o)
	if err != nil || !rep.Complete || rep.Listed != 100 {
		t.Errorf("Backfill() = %+v, %v, want it complete", rep, err)
	}
	if reports := f.reports(); len(reports) != 1 || !reports[0].Complete {
		t.Errorf("reports %+v, want the complete one", reports)
	}
}

// What webhooks bring while a backfill is at work is not missing.
func TestBackfillFollowsWhatWebhooksBring(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a := f.withArchive(10)
	a.fill(30, 10*time.Hour)
	f.enrich()
	a.hook(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.FormValue("cursor") == "10" { // webhooks of the third page come while it reads the second
			for _, o := range a.orders[20:] {
				f.saw(o.ID, o.Updated, false)
			}
			f.pass(time.Minute)
		}
		return false
	})
	rep, err := f.runner(between).Backfill(t.Context(), f.backfill(1))
	if err != nil || rep.Matched != 10 || rep.Missed != 20 {
		t.Errorf("Backfill() = %+v, %v, want the last page matched", rep.Counts, err)
	}
}

func TestDryBackfillRepairsNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a := f.withArchive(10)
	a.fill(100, 10*time.Hour)
	f.enrich()
	f.saw(a.orders[3].ID, a.orders[3].Updated, false)
	o := f.backfill(3)
	o.DryRun = true
	rep, err := f.runner(between).Backfill(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Listed != 100 || rep.Matched != 1 || rep.Missed != 99 || rep.Repaired != 0 || !rep.DryRun || !rep.Complete {
		t.Errorf("report %+v", rep)
	}
	if n, _ := f.messages(); n != 0 {
		t.Errorf("%d triggers are stored, want none", n)
	}
	if c := f.cursor(); c.Cursor != (cursor.Cursor{}) {
		t.Errorf("the cursor is %+v, want it untouched", c.Cursor)
	}
}

// The rate bounds what is compared, whatever the pages' size.
func TestBackfillKeepsToItsRate(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a := f.withArchive(50)
	a.fill(300, 10*time.Hour)
	o := f.backfill(3)
	o.Pace = rate.NewLimiter(200, 20)
	began := time.Now()
	if _, err := f.runner(between).Backfill(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 1400*time.Millisecond-20*time.Millisecond {
		t.Errorf("300 records at 200 a second took %s", took)
	}
}

// Webhooks' triggers queue behind what a backfill sends: it waits while many do.
func TestBackfillWaitsForTheEnricher(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a := f.withArchive(600)
	a.fill(3600, 10*time.Hour)
	f.catchUp = time.Minute
	cfg := topology.EnrichConsumer("orders", consume.DefaultConfig().Delivery())
	if _, err := f.js.CreateOrUpdateConsumer(t.Context(), topology.StreamRaw, cfg); err != nil { // nobody pulls
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	o := f.backfill(1)
	go func() {
		_, err := f.runner(between).Backfill(ctx, o)
		done <- err
	}()
	eventually(t, "two pages are stored", func() bool { n, _ := f.messages(); return n == 1200 })
	stream, err := f.js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeKeep(900)); err != nil { // as if 300 had been enriched
		t.Fatal(err)
	}
	eventually(t, "a third page is stored", func() bool {
		i, err := stream.Info(t.Context())
		return err == nil && i.State.LastSeq == 1800
	})
	eventually(t, "its place is saved", func() bool { return f.stretch(o).Slices[0].Pages == 3 })
	if n := len(a.requests()); n != 3+1 { // one for the oldest
		t.Errorf("%d requests, want 3 pages and the next held back", n)
	}
	cancel()
	<-done
}

func TestProgressTellsTheShareDone(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		reconcile string
		slices    int
		want      float64
	}{
		"by the time of the last record": {between, 1, .5},
		"in slices":                      {between, 2, .5},
		"by the source's total":          {"items: orders, next: cursor, total: total", 1, .5},
		"unknown":                        {"items: orders, next: cursor", 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			a := f.withArchive(10)
			a.fill(200, 118*time.Minute) // up to two hours ago, or half of the time
			for i := range a.orders {
				a.orders[i].Updated = a.orders[i].Updated.Add(118 * time.Minute)
			}
			o := f.backfill(tt.slices)
			ctx, cancel := context.WithCancel(t.Context())
			a.hook(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.FormValue("cursor") == strconv.Itoa(100/tt.slices) {
					if tt.slices == 1 || strings.Contains(r.URL.RawQuery, "since") {
						cancel()
					}
				}
				return false
			})
			if _, err := f.runner(tt.reconcile).Backfill(ctx, o); err == nil {
				t.Fatal("it was not stopped")
			}
			p := o.Progress([]cursor.Stretch{f.stretch(o)}, noon.Add(time.Minute))
			// Of two slices, one is stopped at its half and the other anywhere.
			if most := .05 + .3*float64(tt.slices-1); math.Abs(p.Share-tt.want) > most {
				t.Errorf("share %.3f, want about %.2f", p.Share, tt.want)
			}
			if (p.Left == 0) != (tt.want == 0) {
				t.Errorf("%.1fs left at a share of %.2f", p.Left, p.Share)
			}
		})
	}
}

func TestBackfillsThatCannotBeListedAreRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ranged := cursor.Backfill{Source: "orders", Resource: "order", From: noon.Add(-time.Hour), To: noon, Slices: 1}
	for name, tt := range map[string]struct {
		reconcile string
		b         cursor.Backfill
		want      string
	}{
		"a range without a filter":    {"items: orders", ranged, "orders order: its list can't be filtered by time (reconcile.since): ask for all of it, without a range"},
		"a begin without a filter":    {"items: orders, until: until", ranged, "has no filter for the begin"},
		"slices without an end":       {"items: orders, since: since", cursor.Backfill{To: noon, Slices: 2}, "can't be cut by time"},
		"slices of an ascending list": {"items: orders, since: since, order: ascending", cursor.Backfill{To: noon, Slices: 2}, ""},
		"all of it":                   {"items: orders", cursor.Backfill{To: noon, Slices: 1}, ""},
	} {
		err := f.runner(tt.reconcile).CanList(tt.b, !tt.b.From.IsZero())
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: CanList() = %v, want %q", name, err, tt.want)
		}
	}
}

// eventually waits until f holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
