package reconciler_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/services/internal/control"
)

// start asks for a backfill, or a change of one, until a service answers.
func (f *fixture) backfill(nc *nats.Conn, req control.BackfillRequest) cursor.Backfill {
	f.t.Helper()
	var b cursor.Backfill
	var err error
	eventually(f.t, "a service answers", func() bool {
		b, err = control.Backfill(f.t.Context(), nc, req)
		return !errors.Is(err, control.ErrNobody)
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// progress is how far a backfill has come.
func (f *fixture) progress(id string) cursor.Progress {
	f.t.Helper()
	store, err := cursor.OpenBackfills(f.t.Context(), f.js)
	if err != nil {
		f.t.Fatal(err)
	}
	b, err := store.Load(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	stretches, err := store.Stretches(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return b.Progress(stretches, time.Now())
}

// atEnd waits for a backfill's end.
func (f *fixture) atEnd(id string) cursor.Progress {
	f.t.Helper()
	eventually(f.t, "the backfill ends", func() bool { return !f.progress(id).Active() })
	return f.progress(id)
}

// scheduled starts a service and waits until each account had its first run.
func (f *fixture) scheduled(accounts int) (stop func()) {
	f.t.Helper()
	stop = f.start()
	eventually(f.t, "the schedule's runs", func() bool { return len(f.reports()) == accounts })
	f.shop.mu.Lock()
	defer f.shop.mu.Unlock()
	f.shop.pages, f.shop.proofs = nil, map[string]bool{}
	return stop
}

var all = control.BackfillRequest{Action: control.Start, Source: "orders", Resource: "order"}

// held makes the first request for the third page wait until its client goes
// away, and tells of it.
func (s *shop) heldAtThird() <-chan struct{} {
	third, once := make(chan struct{}), sync.Once{}
	s.set(func(ctx context.Context, page string) {
		if page != "3" {
			return
		}
		first := false
		once.Do(func() { first = true })
		if first {
			close(third)
			<-ctx.Done()
		}
	})
	return third
}

func TestBackfillOfAllAccounts(t *testing.T) {
	t.Parallel()
	f := setupAccounts(t, "1h", "[north, south, east, west, up, down]")
	f.scheduled(6)
	f.shop.most.Store(0)
	var first atomic.Int32
	f.shop.set(func(ctx context.Context, _ string) {
		if first.Add(1) > 2 {
			return
		}
		bound := time.NewTimer(time.Second) // in which a third request would come
		defer bound.Stop()
		select {
		case <-bound.C:
		case <-ctx.Done():
		}
	})
	req := all
	req.AllAccounts = true
	b := f.backfill(f.server.Connect(), req)
	if b.Accounts != 6 || b.State != cursor.Running || b.Rate != 1000 || b.Slices != 1 {
		t.Errorf("backfill %+v, want the defaults and 6 accounts", b)
	}
	p := f.atEnd(b.ID)
	if !p.Complete || p.State != cursor.Ended || p.Listed != 30 || p.Pages != 30 || p.Repaired != 30 || p.Done != 6 || p.Share != 1 || len(p.Reasons) > 0 {
		t.Errorf("progress %+v, want all of 6 accounts", p)
	}
	accounts := map[string]bool{}
	for _, r := range f.reports() {
		if r.Trigger == report.Backfill && r.Complete && r.Listed == 5 {
			accounts[r.Account] = true
		}
	}
	if len(accounts) != 6 {
		t.Errorf("complete reports of the accounts %v, want of 6", accounts)
	}
	if most := f.shop.most.Load(); most > 2 {
		t.Errorf("%d requests at once, want at most half of api.concurrency: others go first", most)
	}
}

// Promise 6: a backfill goes on at its last saved page, on whichever replica is
// left, and no page is compared twice.
func TestBackfillGoesOnOnAnotherReplica(t *testing.T) {
	t.Parallel()
	f := setup(t, "1h")
	stopOne := f.scheduled(1)
	stopTwo := f.start()
	third := f.shop.heldAtThird()
	b := f.backfill(f.server.Connect(), all)
	<-third
	f.start() // so that one is left, whichever of the two has it
	stopOne()
	stopTwo()
	p := f.atEnd(b.ID)
	if !p.Complete || p.Listed != 5 || p.Repaired != 5 {
		t.Errorf("progress %+v, want all of it", p)
	}
	if got := f.shop.asked(); got != "1 2 3 3 4 5" {
		t.Errorf("pages asked for: %s, want only the third twice", got)
	}
	if n := len(f.reports()); n != 2 {
		t.Errorf("%d reports, want one of the schedule and one of the backfill", n)
	}
}

func TestBackfillPausesAndResumes(t *testing.T) {
	t.Parallel()
	f := setup(t, "1h")
	stop := f.scheduled(1)
	nc := f.server.Connect()
	third := f.shop.heldAtThird()
	b := f.backfill(nc, all)
	<-third
	store, err := cursor.OpenBackfills(t.Context(), f.js)
	if err != nil {
		t.Fatal(err)
	}
	pause := func() {
		t.Helper()
		if got, err := store.Pause(t.Context(), b.ID, time.Now()); err != nil || got.State != cursor.Paused {
			t.Errorf("Pause() = %s, %v, want paused", got.State, err)
		}
	}
	pause()
	eventually(t, "nobody works on it", func() bool {
		holder, err := cursor.Holder(t.Context(), f.js, cursor.BackfillLease(b.ID))
		return err == nil && holder == ""
	})
	stop()
	f.start() // it stays paused
	pause()
	if p := f.progress(b.ID); p.Pages != 2 || !p.Active() || p.Complete {
		t.Errorf("progress while paused %+v, want two pages", p)
	}
	if got := f.shop.asked(); got != "1 2 3" {
		t.Errorf("pages asked for while paused: %s", got)
	}
	f.backfill(nc, control.BackfillRequest{Action: control.Resume, ID: b.ID})
	p := f.atEnd(b.ID)
	if !p.Complete || p.Pages != 5 || p.Rested == 0 {
		t.Errorf("progress %+v, want it complete after a rest", p)
	}
	if got := f.shop.asked(); got != "1 2 3 3 4 5" {
		t.Errorf("pages asked for: %s, want only the third twice", got)
	}
	if _, err := store.Pause(t.Context(), b.ID, time.Now()); !errors.Is(err, cursor.ErrBackfillOver) {
		t.Errorf("Pause() of one that is complete = %v, want %v", err, cursor.ErrBackfillOver)
	}
	for _, a := range []control.Action{control.Resume, control.Cancel} {
		if _, err := control.Backfill(t.Context(), nc, control.BackfillRequest{Action: a, ID: b.ID}); !errors.Is(err, cursor.ErrBackfillOver) {
			t.Errorf("%s of one that is complete = %v, want %v", a, err, cursor.ErrBackfillOver)
		}
	}
}

func TestBackfillIsCancelled(t *testing.T) {
	t.Parallel()
	f := setup(t, "1h")
	f.scheduled(1)
	nc := f.server.Connect()
	third := f.shop.heldAtThird()
	b := f.backfill(nc, all)
	<-third
	f.backfill(nc, control.BackfillRequest{Action: control.Cancel, ID: b.ID})
	p := f.atEnd(b.ID)
	if p.Complete || p.State != cursor.Cancelled || p.Pages != 2 || !strings.Contains(strings.Join(p.Reasons, ";"), "cancelled") {
		t.Errorf("progress %+v, want it cancelled after two pages", p)
	}
	if r := f.reports()[1]; r.Complete || r.Listed != 2 || r.Error != "cancelled by an operator" {
		t.Errorf("report %+v", r)
	}
	if _, err := control.Backfill(t.Context(), nc, control.BackfillRequest{Action: control.Resume, ID: b.ID}); !errors.Is(err, cursor.ErrBackfillOver) || !strings.Contains(err.Error(), "start another") {
		t.Errorf("resume of one that was cancelled = %v", err)
	}
	f.shop.set(nil)
	if p := f.atEnd(f.backfill(nc, all).ID); !p.Complete {
		t.Errorf("another one: %+v, want it complete", p)
	}
}

// A backfill of what the pipeline file no longer has can be cancelled, and the reports
// of what it did come all the same.
func TestBackfillOfWhatHasGoneIsCancelled(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		accounts int
		change   func(*fixture)
	}{
		"its resource is not listed any more": {2, func(f *fixture) {
			src := f.cfg.Sources["orders"]
			order := src.Resources["order"]
			order.Reconcile = nil
			src.Resources = map[string]provider.Resource{"order": order}
			f.cfg.Sources = map[string]provider.Source{"orders": src}
		}},
		"its source has gone": {1, func(f *fixture) {
			f.cfg.Sources = map[string]provider.Source{"other": f.cfg.Sources["orders"]}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setupAccounts(t, "1h", []string{1: "[north]", 2: "[north, south]"}[tt.accounts])
			stop := f.scheduled(tt.accounts)
			nc := f.server.Connect()
			third := f.shop.heldAtThird()
			req := all
			req.AllAccounts = tt.accounts > 1
			b := f.backfill(nc, req)
			<-third
			stop()
			tt.change(f)
			f.start()
			f.backfill(nc, control.BackfillRequest{Action: control.Cancel, ID: b.ID})
			p := f.atEnd(b.ID)
			if p.State != cursor.Cancelled || p.Begun == 0 || p.Done != p.Begun || p.Complete {
				t.Errorf("progress %+v, want it cancelled and each account that was begun at its end", p)
			}
			reports, cancelled := 0, 0
			for _, r := range f.reports() {
				if r.Trigger == report.Backfill {
					reports++
				}
				if r.Error == "cancelled by an operator" {
					cancelled++
				}
			}
			if reports != p.Begun || cancelled == 0 {
				t.Errorf("%d reports of %d accounts, %d of them cancelled, want one of each and one cancelled", reports, p.Begun, cancelled)
			}
		})
	}
}

func TestBackfillsThatCannotBeStartedSayWhy(t *testing.T) {
	t.Parallel()
	f := setupAccounts(t, "1h", "[north, south]")
	f.scheduled(2)
	nc := f.server.Connect()
	f.shop.heldAtThird()
	north := all
	north.Account = "north"
	b := f.backfill(nc, north)
	hour := time.Now().Add(-time.Hour)
	tests := map[string]struct {
		change func(r *control.BackfillRequest)
		want   error
		text   string
	}{
		"unknown source":       {func(r *control.BackfillRequest) { r.Source = "order" }, control.ErrUnknown, "known are orders/order"},
		"without a list":       {func(r *control.BackfillRequest) { r.Resource = "draft" }, control.ErrUnknown, "known are orders/order"},
		"unknown account":      {func(r *control.BackfillRequest) { r.Account = "east" }, control.ErrUnknown, `no account "east"`},
		"no account":           {func(*control.BackfillRequest) {}, control.ErrRange, "has 2 accounts: name one, or ask for all"},
		"one and all":          {func(r *control.BackfillRequest) { r.Account, r.AllAccounts = "south", true }, control.ErrRange, "not both"},
		"the same range":       {func(r *control.BackfillRequest) { r.Account = "north" }, control.ErrRunning, b.ID + " covers some of these records and is running"},
		"all, of which one is": {func(r *control.BackfillRequest) { r.AllAccounts = true }, control.ErrRunning, b.ID},
		"no filter":            {func(r *control.BackfillRequest) { r.Account, r.From = "south", hour }, control.ErrRange, "can't be filtered by time (reconcile.since)"},
		"an end to come":       {func(r *control.BackfillRequest) { r.Account, r.To = "south", hour.Add(2*time.Hour) }, control.ErrRange, "still to come"},
		"end before begin":     {func(r *control.BackfillRequest) { r.Account, r.From, r.To = "south", hour, hour.Add(-1) }, control.ErrRange, "want an end after the begin"},
		"too young":            {func(r *control.BackfillRequest) { r.Account, r.From = "south", time.Now().Add(-time.Minute) }, control.ErrRange, "still be on their way"},
		"slices":               {func(r *control.BackfillRequest) { r.Account, r.Slices = "south", 2 }, control.ErrRange, "can't be cut by time"},
		"too many slices":      {func(r *control.BackfillRequest) { r.Account, r.Slices = "south", 1000 }, control.ErrRange, "1 to 64 slices"},
		"a rate below 0":       {func(r *control.BackfillRequest) { r.Account, r.Rate = "south", -1 }, control.ErrRange, "rate of 1 to"},
		"unknown backfill":     {func(r *control.BackfillRequest) { *r = control.BackfillRequest{Action: control.Resume, ID: "x"} }, control.ErrUnknown, "no such backfill: x"},
		"bad id":               {func(r *control.BackfillRequest) { *r = control.BackfillRequest{Action: control.Cancel, ID: ">"} }, control.ErrUnknown, "no such backfill"},
		"unknown action":       {func(r *control.BackfillRequest) { *r = control.BackfillRequest{Action: "stop", ID: b.ID} }, control.ErrRange, "start, resume or cancel"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req := all
			tt.change(&req)
			_, err := control.Backfill(t.Context(), nc, req)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Backfill() = %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
	south := all
	south.Account = "south"
	f.backfill(nc, south) // beside the other
}

// What is paused as a whole is not backfilled either, until it is resumed.
func TestPausedReconciliationHoldsBackfillsUp(t *testing.T) {
	t.Parallel()
	f := setupAccounts(t, "1h", "[north, south]")
	f.scheduled(2)
	third := f.shop.heldAtThird()
	req := all
	req.AllAccounts = true
	b := f.backfill(f.server.Connect(), req)
	<-third
	if _, err := f.store().Pause(t.Context(), cursor.Scope{Source: "orders", Account: "north"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store().Pause(t.Context(), cursor.Scope{Source: "orders", Account: "south"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is listed", func() bool { return f.shop.busy.Load() == 0 })
	before := f.progress(b.ID)
	if !before.Active() || before.Complete {
		t.Errorf("progress %+v, want it held up", before)
	}
	if _, _, err := f.store().Resume(t.Context(), cursor.Scope{Source: "orders"}); err != nil {
		t.Fatal(err)
	}
	if p := f.atEnd(b.ID); !p.Complete || p.Listed != 10 || p.Done != 2 {
		t.Errorf("progress %+v, want all of it", p)
	}
}

// An account that is paused before a backfill begins is left for later; the
// others are not held up.
func TestBackfillLeavesAPausedAccountForLater(t *testing.T) {
	t.Parallel()
	f := setupAccounts(t, "1h", "[north, south, east]")
	f.scheduled(3)
	north := cursor.Scope{Source: "orders", Account: "north"}
	if _, err := f.store().Pause(t.Context(), north, time.Now()); err != nil {
		t.Fatal(err)
	}
	req := all
	req.AllAccounts = true
	b := f.backfill(f.server.Connect(), req)
	eventually(t, "the others are done", func() bool { return f.progress(b.ID).Done >= 2 })
	if p := f.progress(b.ID); p.Done != 2 || p.Begun != 2 || !p.Active() {
		t.Errorf("progress %+v, want that of two accounts", p)
	}
	for path := range f.shop.paths() {
		if strings.HasPrefix(path, "/north/") {
			t.Errorf("%s was asked for while it was paused", path)
		}
	}
	if _, _, err := f.store().Resume(t.Context(), north); err != nil {
		t.Fatal(err)
	}
	if p := f.atEnd(b.ID); !p.Complete || p.Listed != 15 {
		t.Errorf("progress %+v, want all of it", p)
	}
}

// paths returns the paths that were asked for since the schedule's runs.
func (s *shop) paths() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.proofs)
}
