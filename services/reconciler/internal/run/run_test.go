package run_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// Promise 6: what was missed or is stale is sent in again, once, and the next
// run finds it.
func TestGapsAreSentInAgainOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	hour := noon.Add(-time.Hour)
	for i, id := range []string{"missed", "stale", "matched", "ahead", "back"} {
		f.shop.put(id, hour.Add(time.Duration(i)*time.Minute))
	}
	f.saw("stale", hour, false)
	f.saw("matched", hour.Add(2*time.Minute), false)
	f.saw("ahead", hour.Add(10*time.Minute), false)
	f.saw("back", hour.Add(4*time.Minute), false)
	f.saw("back", hour.Add(5*time.Minute), true) // a tombstone, but the source lists it
	r := f.runner(ascending)

	first := f.do(r)
	want := report.Counts{Listed: 5, Matched: 1, Missed: 1, Stale: 2, Ahead: 1, Repaired: 3}
	if first.Counts != want || first.Pages != 3 || !first.Complete || !first.CaughtUp || first.Error != "" ||
		!first.From.IsZero() || !first.To.Equal(noon.Add(-2*time.Minute)) || first.Trigger != report.Demand {
		t.Errorf("first report %+v, want counts %+v", first, want)
	}
	var named []string
	for _, rec := range first.Records {
		named = append(named, rec.ID+" "+rec.Version+" "+rec.Verdict)
	}
	if got := strings.Join(named, ", "); got != "missed "+string(event.TimeVersion(hour))+" missed, stale "+
		string(event.TimeVersion(hour.Add(time.Minute)))+" stale, back "+string(event.TimeVersion(hour.Add(4*time.Minute)))+" stale" {
		t.Errorf("records %s", got)
	}
	if got := f.sentIDs(); got != "back missed stale" {
		t.Fatalf("sent %s", got)
	}
	if c := f.cursor(); !c.Through.Equal(first.To) || c.Window != nil || !c.OKAt.Equal(noon) {
		t.Errorf("cursor %+v, want it at the window's end", c.Cursor)
	}

	f.pass(time.Minute)
	second := f.do(f.runner("items: orders, next: cursor")) // everything is listed again
	want = report.Counts{Listed: 5, Matched: 4, Ahead: 1}
	if second.Counts != want || !second.From.Equal(first.To.Add(-10*time.Minute)) {
		t.Errorf("second report %+v, want counts %+v", second, want)
	}
	if n := len(f.sent()); n != 3 {
		t.Errorf("%d triggers after the second run, want still 3", n)
	}
}

func TestTriggerCarriesTheRecord(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	r := f.runner(ascending)
	f.shop.put("a/1", noon.Add(-time.Hour))
	backfill := f.begin(r)
	if err := backfill.Do(); err != nil {
		t.Fatal(err)
	}
	f.pass(time.Hour)
	f.shop.put("b", noon.Add(30*time.Minute))
	f.do(r)
	sent := f.sent()
	if len(sent) != 2 {
		t.Fatalf("%d triggers, want 2", len(sent))
	}
	e, err := event.FromHeader(sent[0].Header)
	if err != nil {
		t.Fatal(err)
	}
	version := string(event.TimeVersion(noon.Add(-time.Hour)))
	if e.ID != "reconcile:order:a/1:"+version || e.Type != "order.reconciled" || e.Resource != "order" || e.RecordID != "a/1" ||
		string(e.Version) != version || !e.ObservedAt.Equal(noon) || e.ContentType != "application/json" || e.Origin != event.Backfill {
		t.Errorf("event %+v", e)
	}
	if sent[0].Subject != "tercel.raw.orders._.order.reconciled" || string(sent[0].Data) != `{"id":"a/1","updated_at":"2026-11-26T11:00:00Z"}` {
		t.Errorf("trigger %s %s", sent[0].Subject, sent[0].Data)
	}
	if id := sent[0].Header.Get(jetstream.MsgIDHeader); id != e.MsgID()+":"+backfill.ID() {
		t.Errorf("message id %s", id)
	}
	if origin := sent[1].Header.Get(event.HeaderOrigin); origin != "reconcile" {
		t.Errorf("a later run's origin is %s, want reconcile", origin)
	}
}

// Promise 6: the cursor never passes a page that was not compared.
func TestRunThatFailsLeavesItsPosition(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	for i := range 9 { // five pages
		f.shop.put(fmt.Sprint("o", i), noon.Add(-time.Hour+time.Duration(i)*time.Minute))
	}
	f.shop.troubled(func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.FormValue("cursor") != "at 4" {
			return false
		}
		w.WriteHeader(http.StatusInternalServerError)
		return true
	})
	r := f.runner(ascending)
	failing := f.begin(r)
	if err := failing.Do(); err == nil {
		t.Fatal("Do() = nil, want the source's error")
	}
	rep, c := f.report(failing.ID()), f.cursor()
	if rep.Complete || rep.Error == "" || rep.Pages != 2 || rep.Repaired != 4 {
		t.Errorf("report %+v, want an incomplete one of two pages", rep)
	}
	if !c.Through.IsZero() || c.Window == nil || c.Window.Position != "at 4" || !c.OKAt.IsZero() || !c.RetryAt.Equal(noon.Add(10*time.Second)) {
		t.Errorf("cursor %+v, want it before the third page and to retry in 10s", c.Cursor)
	}
	if got := f.sentIDs(); got != "o0 o1 o2 o3" {
		t.Errorf("sent %s", got)
	}

	f.shop.troubled(nil)
	f.pass(time.Minute)
	rest := f.do(r)
	if !rest.Complete || rest.Continues != failing.ID() || rest.Run == failing.ID() || rest.Pages != 5 || rest.Listed != 9 ||
		rest.Repaired != 9 || !rest.To.Equal(rep.To) || !rest.From.Equal(rep.From) {
		t.Errorf("report of the rest %+v, want the whole window", rest)
	}
	if c := f.cursor(); !c.Through.Equal(rep.To) || c.Failures != 0 || !c.RetryAt.IsZero() {
		t.Errorf("cursor %+v, want it at the window's end", c.Cursor)
	}
	if n := len(f.sent()); n != 9 {
		t.Errorf("%d triggers, want 9", n)
	}
}

// failingPublisher stores nothing that speaks of one record.
type failingPublisher struct {
	run.Publisher
	id string
}

func (p failingPublisher) Publish(ctx context.Context, m *nats.Msg) (publish.Ack, error) {
	if m.Header.Get(event.HeaderSubject) == p.id {
		return publish.Ack{}, publish.ErrUnavailable
	}
	return p.Publisher.Publish(ctx, m)
}

// Promise 5: a page counts as compared only when each of its gaps is stored.
func TestPageIsNotSavedBeforeItsRepairsAre(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for i := range 4 {
		f.shop.put(fmt.Sprint("o", i), noon.Add(-time.Hour+time.Duration(i)*time.Minute))
	}
	good := f.pub
	f.pub = failingPublisher{good, "o3"}
	failing := f.begin(f.runner(ascending))
	if err := failing.Do(); !errors.Is(err, publish.ErrUnavailable) {
		t.Fatalf("Do() = %v, want the publisher's error", err)
	}
	if w := f.cursor().Window; w == nil || w.Position != "at 2" || w.Pages != 1 || w.Counts.Repaired != 2 {
		t.Errorf("window %+v, want one page of it compared", w)
	}
	f.pub = good
	if rep := f.do(f.runner(ascending)); !rep.Complete || rep.Repaired != 4 {
		t.Errorf("report of the rest %+v", rep)
	}
}

// A runner that dies leaves the window, and whoever goes on does so on the
// same page and in the name of the same run.
func TestAnotherRunnerGoesOnWhereOneDied(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	for i := range 9 {
		f.shop.put(fmt.Sprint("o", i), noon.Add(-time.Hour+time.Duration(i)*time.Minute))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.shop.troubled(func(n int, _ http.ResponseWriter, r *http.Request) bool {
		if n == 2 {
			cancel() // while it waits for the third page
			<-r.Context().Done()
		}
		return n == 2
	})
	dying, err := f.runner(ascending).Begin(ctx, run.Options{Trigger: report.Schedule})
	if err != nil {
		t.Fatal(err)
	}
	if err := dying.Do(); !errors.Is(err, context.Canceled) {
		t.Fatalf("Do() = %v, want its context's end", err)
	}
	if n := len(f.reports()); n != 0 {
		t.Errorf("%d reports of a run that goes on elsewhere, want none", n)
	}
	other := f.runner(ascending)
	if due, err := other.Due(t.Context()); err != nil || due.After(f.clock()) {
		t.Errorf("Due() = %s, %v, want now", due, err)
	}
	rep := f.do(other)
	if rep.Run != dying.ID() || rep.Continues != "" || rep.Listed != 9 || rep.Repaired != 9 || rep.Pages != 5 || !rep.Complete {
		t.Errorf("report %+v, want the whole window in the first run's name", rep)
	}
	var pages []string
	for _, q := range f.shop.requests() {
		_, at, _ := strings.Cut(q, "cursor=at+")
		pages = append(pages, at)
	}
	if got := strings.Join(pages, " "); got != " 2 4 4 6 8" {
		t.Errorf("pages asked for: %q, want only the third twice", got)
	}
}

// A page whose gaps were stored but whose position was not is compared again
// without a second effect.
func TestPageComparedAgainSendsNothingTwice(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.shop.put("a", noon.Add(-time.Hour))
	r := f.runner("items: orders")
	died := f.begin(r)
	before := f.cursor()
	store, err := cursor.Open(t.Context(), f.js)
	if err != nil {
		t.Fatal(err)
	}
	f.shop.troubled(func(int, http.ResponseWriter, *http.Request) bool {
		// While the page is on its way, somebody writes the cursor, so that this
		// run can't save it.
		if _, err := store.Save(t.Context(), before, before.Cursor); err != nil {
			t.Error(err)
		}
		return false
	})
	if err := died.Do(); !errors.Is(err, cursor.ErrConflict) {
		t.Fatalf("Do() = %v, want ErrConflict", err)
	}
	f.shop.troubled(nil)
	if rep := f.do(r); rep.Run != died.ID() || rep.Repaired != 1 {
		t.Errorf("report %+v", rep)
	}
	if n := len(f.sent()); n != 1 {
		t.Errorf("%d triggers, want 1", n)
	}
}

func TestOneRunAtATime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	first := f.begin(f.runner(ascending))
	if _, err := f.runner(ascending).Begin(t.Context(), run.Options{}); !errors.Is(err, cursor.ErrHeld) {
		t.Errorf("Begin() of a second = %v, want ErrHeld", err)
	}
	first.Drop()
	f.do(f.runner(ascending))
}

// A replica that notes a change of the schedule, for which it needs no lease,
// doesn't keep a run from beginning.
func TestNotingTheScheduleKeepsNoRunFromBeginning(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.do(f.runner(ascending))
	f.pass(2 * time.Hour)
	changed := f.runner(ascending + ", every: 30m")
	f.mu.Lock()
	f.look = func() { // when the run begins: its cursor is not yet read
		f.mu.Lock()
		defer f.mu.Unlock()
		f.look = func() { // it is
			if _, err := f.runner(ascending + ", every: 90m").Due(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	f.mu.Unlock()
	begun, err := changed.Begin(t.Context(), run.Options{Trigger: report.Schedule})
	if err != nil {
		t.Fatal(err)
	}
	begun.Drop()
}

func TestRunsAreDueOnSchedule(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.runner(ascending)
	due := func() time.Duration {
		t.Helper()
		at, err := r.Due(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return at.Sub(f.clock())
	}
	if d := due(); d > 0 {
		t.Errorf("the first run is due in %s, want now", d)
	}
	f.do(r)
	d := due()
	if d < 54*time.Minute || d > 66*time.Minute || due() != d {
		t.Errorf("the next run is due in %s, then %s; want one time 54m to 66m away", d, due())
	}
	if _, err := r.Begin(t.Context(), run.Options{Trigger: report.Schedule}); !errors.Is(err, run.ErrNotDue) {
		t.Errorf("Begin() before its time = %v, want ErrNotDue", err)
	}
	f.pass(67 * time.Minute)
	begun, err := r.Begin(t.Context(), run.Options{Trigger: report.Schedule})
	if err != nil {
		t.Fatalf("Begin() in its time = %v", err)
	}
	begun.Drop()
}

// The wait that a source asks for is kept, and by other replicas too.
func TestThrottledRunWaitsAsAsked(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.shop.troubled(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	if err := f.begin(f.runner(ascending)).Do(); fault.ClassOf(err) != fault.Postponed {
		t.Fatalf("Do() = %v, want it postponed", err)
	}
	due, err := f.runner(ascending).Due(t.Context())
	if err != nil || due.Before(noon.Add(2*time.Minute)) || due.After(noon.Add(3*time.Minute)) {
		t.Errorf("Due() = %s, %v, want 2m from now", due.Sub(noon), err)
	}
	if reports := f.reports(); len(reports) != 1 || reports[0].Complete || !strings.Contains(reports[0].Error, "429") {
		t.Errorf("reports %+v, want one of the failure", reports)
	}
}

func TestFailuresInARowWaitLonger(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.shop.troubled(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	})
	r := f.runner(ascending + ", every: 30s")
	for _, want := range []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second, 30 * time.Second} {
		if err := f.begin(r).Do(); err == nil {
			t.Fatal("Do() = nil, want the source's error")
		}
		if got := f.cursor().RetryAt.Sub(f.clock()); got != want {
			t.Errorf("next try in %s, want %s", got, want)
		}
		f.pass(want)
	}
	if n := len(f.reports()); n != 4 {
		t.Errorf("%d reports of 4 failures", n)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.shop.put("a", noon.Add(-time.Hour))
	f.shop.put("b", noon.Add(-time.Hour))
	f.saw("b", noon.Add(-time.Hour), false)
	begun, err := f.runner(ascending).Begin(t.Context(), run.Options{Trigger: report.Demand, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := begun.Do(); err != nil {
		t.Fatal(err)
	}
	rep := f.report(begun.ID())
	if want := (report.Counts{Listed: 2, Matched: 1, Missed: 1}); rep.Counts != want || !rep.DryRun || !rep.Complete || len(rep.Records) != 1 {
		t.Errorf("report %+v, want counts %+v", rep, want)
	}
	if n := len(f.sent()); n != 0 {
		t.Errorf("%d triggers, want none", n)
	}
	if c := f.cursor(); c.Cursor != (cursor.Cursor{}) {
		t.Errorf("cursor %+v, want none", c.Cursor)
	}
}

// A trigger that nobody has enriched makes the comparison doubtful: the run
// waits, then goes on and says so.
func TestRunWaitsForTheEnricher(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ enricher, want bool }{
		"an enricher at work": {enricher: true, want: true},
		"no enricher":         {enricher: false, want: false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			e := event.Event{
				ID: "hook", Source: "orders", Account: "_", Type: "order.paid", Origin: event.Webhook, Resource: "order",
				RecordID: "a", Version: event.TimeVersion(noon.Add(-time.Hour)), ObservedAt: noon.Add(-time.Hour),
			}
			m := nats.NewMsg(e.RawSubject())
			m.Header, m.Data = e.Header(), []byte(`{}`)
			if _, err := f.js.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			f.shop.put("a", noon.Add(-time.Hour))
			if tt.enricher {
				f.enrich()
			}
			rep := f.do(f.runner(ascending))
			if rep.CaughtUp != tt.want || !rep.Complete || (rep.Matched == 1) != tt.want {
				t.Errorf("report %+v, want caught up: %t", rep, tt.want)
			}
		})
	}
}

// A consumer that has lost its place reports nothing pending. That is not
// taken for having caught up.
func TestConsumerBehindTheStreamIsNotCaughtUp(t *testing.T) {
	t.Parallel()
	f := setup(t)
	m := nats.NewMsg("tercel.raw.orders._.order.paid")
	if _, err := f.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	cfg := topology.EnrichConsumer("orders", topology.Delivery{AckWait: time.Minute, MaxAttempts: 3})
	cfg.FilterSubject = "tercel.raw.orders.elsewhere.>" // it doesn't see what is stored
	cons, err := f.js.CreateConsumer(t.Context(), topology.StreamRaw, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if i := cons.CachedInfo(); i.NumPending != 0 || i.NumAckPending != 0 || i.AckFloor.Stream != 0 {
		t.Fatalf("consumer %+v, want one with nothing pending", i)
	}
	f.shop.put("a", noon.Add(-time.Hour))
	if rep := f.do(f.runner(ascending)); rep.CaughtUp {
		t.Error("the report says caught up")
	}
}

// What the source's drop says nobody wants is no gap, and is counted as what it
// is; what the expression can't be asked about is sent.
func TestDroppedRecordsAreNotSentAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	for _, id := range []string{"a", "test-1", "test-2"} {
		f.shop.put(id, noon.Add(-time.Hour))
	}
	r := f.runner(ascending)
	rep := f.do(r)
	if want := (report.Counts{Listed: 3, Missed: 1, Dropped: 2, Repaired: 1}); rep.Counts != want || !rep.Complete {
		t.Errorf("counts %+v, want %+v", rep.Counts, want)
	}
	if got := f.sentIDs(); got != "a" {
		t.Errorf("sent %s, want a", got)
	}
}
