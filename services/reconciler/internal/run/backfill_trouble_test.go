package run_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/report"
)

// A source that fails is tried again, and one that no longer knows a page is
// listed from the begin of the slice; what was repaired before is not forgotten.
func TestBackfillOutlastsTrouble(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a := f.withArchive(10)
	a.fill(100, 10*time.Hour)
	o := f.backfill(1)
	failed, forgotten, anew := false, false, false
	a.hook(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.FormValue("cursor") == "30" && !failed:
			failed = true
			f.pass(time.Hour) // so that the next attempt needs no wait
			w.WriteHeader(http.StatusInternalServerError)
		case r.FormValue("cursor") == "70" && !anew:
			forgotten = true
			w.WriteHeader(http.StatusGone)
		default:
			anew = anew || forgotten && r.FormValue("cursor") == ""
			return false
		}
		return true
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type result struct {
		rep report.Report
		err error
	}
	done := make(chan result, 1)
	go func() {
		rep, err := f.runner(between).Backfill(ctx, o)
		done <- result{rep, err}
	}()
	eventually(t, "the failure is noted", func() bool { return f.stretch(o).Failures > 0 })
	if st := f.stretch(o); !strings.Contains(st.Error, "status 500") || st.Slices[0].Pages != 3 || st.RetryAt.IsZero() {
		t.Errorf("stretch %+v, want it to wait behind its 3rd page", st)
	}
	cancel() // it would wait for ten seconds by the clock of the test
	<-done
	f.pass(time.Minute)
	rep, err := f.runner(between).Backfill(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	st := f.stretch(o)
	if rep.Listed != 100 || !rep.Complete || rep.Continues == "" || st.RepairedBefore != 70 {
		t.Errorf("report %+v after %d repaired before, want 100 compared again after 70", rep, st.RepairedBefore)
	}
	if reports := f.reports(); len(reports) != 2 || reports[0].Complete || reports[0].Listed != 70 || reports[0].Run != rep.Continues {
		t.Errorf("%d reports, the first %+v", len(reports), reports[0].Counts)
	}
	if n, distinct := f.messages(); distinct != 100 {
		t.Errorf("%d triggers of %d records, want of 100", n, distinct)
	}
}

// A runner whose clock was ahead when the list failed must not keep the others
// from going on until their clocks have come as far.
func TestBackfillDoesNotWaitForAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a := f.withArchive(10)
	a.fill(100, 10*time.Hour)
	o := f.backfill(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a.hook(func(w http.ResponseWriter, r *http.Request) bool {
		if r.FormValue("cursor") == "30" {
			cancel() // a runner that dies
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}
		return false
	})
	if _, err := f.runner(between).Backfill(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	left := f.stretch(o)
	left.UpdatedAt = f.clock().Add(36 * time.Hour)
	left.RetryAt = left.UpdatedAt.Add(time.Millisecond)
	if _, err := o.Store.SaveStretch(t.Context(), o.ID, left); err != nil {
		t.Fatal(err)
	}
	a.hook(func(http.ResponseWriter, *http.Request) bool { return false })
	patient, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if rep, err := f.runner(between).Backfill(patient, o); err != nil || !rep.Complete {
		t.Errorf("Backfill() = %+v, %v, want it complete", rep, err)
	}
}

// What can't be read is counted, named, and makes the backfill incomplete; when
// somebody resumes it, only what is missing is listed again.
func TestBackfillTellsWhatItCouldNotRead(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a := f.withArchive(10)
	a.fill(100, 10*time.Hour)
	f.enrich()
	good := a.orders[55].ID
	a.orders[55].ID = ""
	o := f.backfill(2)
	rep, err := f.runner(between).Backfill(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Unreadable != 1 || rep.Complete || rep.Repaired != 99 || rep.Error != "" {
		t.Errorf("report %+v, want one unreadable", rep)
	}
	p := o.Progress([]cursor.Stretch{f.stretch(o)}, noon)
	if p.Complete || len(p.Reasons) != 1 || !strings.Contains(p.Reasons[0], "1 records could not be read") {
		t.Errorf("progress %+v", p)
	}
	a.orders[55].ID = good
	asked := len(a.requests())
	o.Attempt++
	again, err := f.runner(between).Backfill(t.Context(), o)
	if err != nil || !again.Complete || again.Listed != 100 || again.Continues != rep.Run {
		t.Errorf("Backfill() resumed = %+v, %v, want it complete", again, err)
	}
	if n := len(a.requests()) - asked; n > 7 {
		t.Errorf("%d requests to list one slice again, want at most 7", n)
	}
	if n, distinct := f.messages(); n != 100 || distinct != 100 {
		t.Errorf("%d triggers of %d records, want 100", n, distinct)
	}
}

// A page refused for good ends the backfill with the reason, and it can be
// resumed.
func TestBackfillEndsWithTheReason(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a := f.withArchive(10)
	a.fill(50, 10*time.Hour)
	o := f.backfill(1)
	a.hook(func(w http.ResponseWriter, r *http.Request) bool {
		if r.FormValue("cursor") != "20" {
			return false
		}
		w.WriteHeader(http.StatusUnprocessableEntity)
		return true
	})
	rep, err := f.runner(between).Backfill(t.Context(), o)
	if err != nil || rep.Complete || !strings.Contains(rep.Error, "page 3: ") || !strings.Contains(rep.Error, "status 422") {
		t.Errorf("Backfill() = %+v, %v, want it to end with the refusal", rep, err)
	}
	a.hook(nil)
	o.Attempt++
	rep, err = f.runner(between).Backfill(t.Context(), o)
	if err != nil || !rep.Complete || rep.Listed != 50 {
		t.Errorf("Backfill() resumed = %+v, %v, want it complete", rep, err)
	}
	if p := o.Progress([]cursor.Stretch{f.stretch(o)}, noon); p.Repaired < 50 {
		t.Errorf("%d repaired in all, want at least 50", p.Repaired)
	}
}

func TestCancelledBackfillReportsWhatItDid(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a := f.withArchive(10)
	a.fill(100, 10*time.Hour)
	o := f.backfill(1)
	ctx, cancel := context.WithCancel(t.Context())
	a.hook(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.FormValue("cursor") == "30" {
			cancel()
		}
		return false
	})
	if _, err := f.runner(between).Backfill(ctx, o); err == nil {
		t.Fatal("Backfill() = nil, want the end of its context")
	}
	rep, err := f.runner(between).Cancel(t.Context(), o)
	if err != nil || rep.Complete || rep.Listed != 30 || rep.Error != "cancelled by an operator" {
		t.Errorf("Cancel() = %+v, %v", rep, err)
	}
	if again, err := f.runner(between).Cancel(t.Context(), o); err != nil || again.Run != "" {
		t.Errorf("Cancel() again = %+v, %v, want nothing", again, err)
	}
}
