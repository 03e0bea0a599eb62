package run_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/report"
)

// A report counts the causes of all gaps, also of those that it doesn't name, in
// bounded memory (promise 10).
func TestCausesOfAllGapsAreCounted(t *testing.T) {
	t.Parallel()
	for name, waiting := range map[string]int{"together": 0, "page by page": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.now = time.Now().UTC()
			f.took(2*time.Hour, time.Minute, intake.Counts{"accepted": 5})
			for i := range 150 {
				f.shop.put(fmt.Sprintf("o%03d", i), f.now.Add(-time.Hour+time.Duration(i)*time.Second))
			}
			for i := 120; i < 130; i++ { // none of those that are named
				f.hook("order.paid", fmt.Sprintf("o%03d", i))
			}
			begun := f.begin(f.runner("since: updated_after, order: ascending, items: orders, query: {all: \"1\"}"))
			begun.SetWaiting(waiting)
			if err := begun.Do(); err != nil {
				t.Fatal(err)
			}
			rep := f.report(begun.ID())
			if want := map[report.Cause]int{report.NeverSent: 140, report.Late: 10}; !maps.Equal(rep.Evidence.Causes, want) || rep.Missed != 150 {
				t.Errorf("causes %v of %d gaps, want %v", rep.Evidence.Causes, rep.Missed, want)
			}
			if len(rep.Records) != report.MaxRecords || rep.Evidence.Accepted != 5 {
				t.Errorf("%d records named, evidence %+v, want %d and 5 accepted", len(rep.Records), rep.Evidence, report.MaxRecords)
			}
			for _, rec := range rep.Records {
				if rec.Cause != report.NeverSent {
					t.Errorf("cause of %s is %q", rec.ID, rec.Cause)
				}
			}
		})
	}
}

// Gaps that are explained at different times are counted together.
func TestCausesOfPagesAddUp(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.now = time.Now().UTC()
	f.took(2*time.Hour, time.Minute, intake.Counts{"accepted": 5})
	for i := range 7 { // four pages
		f.shop.put(fmt.Sprint("o", i), f.now.Add(-time.Hour+time.Duration(i)*time.Second))
	}
	f.hook("order.paid", "o1")
	begun := f.begin(f.runner(ascending))
	begun.SetWaiting(3)
	if err := begun.Do(); err != nil {
		t.Fatal(err)
	}
	rep := f.report(begun.ID())
	if want := map[report.Cause]int{report.NeverSent: 6, report.Late: 1}; !maps.Equal(rep.Evidence.Causes, want) {
		t.Errorf("causes %v, want %v", rep.Evidence.Causes, want)
	}
	for _, rec := range rep.Records {
		if (rec.Cause == report.Late) != (rec.ID == "o1") {
			t.Errorf("cause of %s is %q", rec.ID, rec.Cause)
		}
	}
}

// Promise 3: what was lost inside is counted wherever it stands in a window.
func TestLostInsideIsCountedBehindWhatIsNamed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.now = time.Now().UTC()
	for i := range 110 {
		f.shop.put(fmt.Sprintf("o%03d", i), f.now.Add(-time.Hour+time.Duration(i)*time.Second))
	}
	f.hook("order.paid", "o105")
	f.swallow()
	begun := f.begin(f.runner("since: updated_after, order: ascending, items: orders, query: {all: \"1\"}"))
	if err := begun.Do(); err != nil {
		t.Fatal(err)
	}
	rep := f.report(begun.ID())
	if begun.LostInside() != 1 || rep.Evidence.Causes[report.LostInside] != 1 {
		t.Errorf("LostInside() = %d, causes %v, want 1", begun.LostInside(), rep.Evidence.Causes)
	}
}

// A runner that dies takes gaps along whose causes it had not looked for. Who
// goes on explains those that are named, and says of the others that their cause
// is unknown.
func TestCausesAfterARunnerDied(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.now = time.Now().UTC()
	f.took(2*time.Hour, time.Minute, intake.Counts{"accepted": 5})
	for i := range 106 { // 53 pages
		f.shop.put(fmt.Sprintf("o%03d", i), f.now.Add(-time.Hour+time.Duration(i)*time.Second))
	}
	ctx, die := context.WithCancel(t.Context())
	f.shop.troubled(func(n int, _ http.ResponseWriter, _ *http.Request) bool {
		if n == 52 {
			die()
		}
		return false
	})
	begun, err := f.runner(ascending).Begin(ctx, demand)
	if err != nil {
		t.Fatal(err)
	}
	if err := begun.Do(); err == nil {
		t.Fatal("the runner didn't die")
	}
	rep := f.do(f.runner(ascending))
	if want := map[report.Cause]int{report.NeverSent: 102, report.Unknown: 4}; !maps.Equal(rep.Evidence.Causes, want) || rep.Missed != 106 {
		t.Errorf("causes %v of %d gaps, want %v", rep.Evidence.Causes, rep.Missed, want)
	}
}
