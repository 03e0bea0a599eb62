package run_test

import (
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// comes stores the trigger of a webhook about an event of that time.
func (f *fixture) comes(id string, at time.Time) {
	f.t.Helper()
	e := event.Event{
		ID: "late " + id + at.String(), Source: "orders", Account: "_", Type: "order.paid", Origin: event.Webhook,
		ContentType: "application/json", Time: at,
	}
	m := nats.NewMsg(e.RawSubject())
	m.Header, m.Data = e.Header(), []byte(`{"id":"`+id+`"}`)
	if _, err := f.js.PublishMsg(f.t.Context(), m); err != nil {
		f.t.Fatal(err)
	}
}

// That a webhook was late is settled by the run that finds it: it revises the
// report of the run that had missed its record, and nothing else.
func TestLateWebhooksReviseReports(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.now = time.Now().UTC()
	f.took(2*time.Hour, time.Minute, intake.Counts{"accepted": 5})
	hour := f.now.Add(-time.Hour)
	for _, id := range []string{"late", "never", "again"} {
		f.shop.put(id, hour)
	}
	first := f.do(f.runner(ascending))
	if got := first.Evidence.Causes[report.NeverSent]; got != 3 {
		t.Fatalf("causes %v, want 3 never sent so far", first.Evidence.Causes)
	}
	f.comes("late", hour)
	f.comes("again", hour.Add(30*time.Minute)) // of a later change
	f.comes("other", hour)
	f.pass(10 * time.Minute)
	if rep := f.doOnce(dryRun); rep.Missed != 0 {
		t.Fatalf("report %+v, want nothing missed", rep)
	}
	if got := f.reportOf(first.Run); got.Evidence.Causes[report.Late] != 0 {
		t.Error("a dry run has revised a report")
	}
	f.do(f.runner(ascending))
	got := f.reportOf(first.Run)
	if want := map[report.Cause]int{report.NeverSent: 2, report.Late: 1}; !maps.Equal(got.Evidence.Causes, want) {
		t.Errorf("causes %v, want %v", got.Evidence.Causes, want)
	}
	for _, rec := range got.Records {
		if late := rec.ID == "late"; (rec.Cause == report.Late) != late || rec.ArrivedAt.IsZero() == late {
			t.Errorf("record %+v", rec)
		}
	}
	waited := f.cursor().Late
	if waited == nil || len(waited.Gaps) != 2 || waited.Looked == 0 {
		t.Errorf("waits for %+v, want the two others", waited)
	}

	// What comes still later is found by a still later run, for three days.
	f.comes("never", hour)
	f.pass(time.Hour)
	f.do(f.runner(ascending))
	if got := f.reportOf(first.Run); got.Evidence.Causes[report.Late] != 2 || got.Evidence.Causes[report.NeverSent] != 1 {
		t.Errorf("causes %v, want 2 late", got.Evidence.Causes)
	}
	f.pass(72 * time.Hour)
	f.do(f.runner(ascending))
	if waited := f.cursor().Late; waited != nil {
		t.Errorf("waits for %+v after three days", waited)
	}
}

func (f *fixture) doOnce(o run.Options) report.Report {
	f.t.Helper()
	begun, err := f.runner(ascending).Begin(f.t.Context(), o)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := begun.Do(); err != nil {
		f.t.Fatal(err)
	}
	return f.report(begun.ID())
}

// reportOf is that of a run, as later ones have revised it.
func (f *fixture) reportOf(id string) report.Report {
	f.t.Helper()
	for _, r := range f.reports() {
		if r.Run == id {
			return r
		}
	}
	f.t.Fatalf("no report of run %s", id)
	return report.Report{}
}
