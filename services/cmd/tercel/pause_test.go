package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// What an operator pauses, resumes and resets is told with what was before, and
// status shows it.
func TestReconciliationIsPausedResumedAndReset(t *testing.T) {
	t.Parallel()
	shop := startShop(t)
	shop.put("o1", 1)
	p := startLive(t, shop, liveOptions{})
	with := func(args ...string) []string { return append(args, "--api", p.ConsoleURL) }
	status := func() *adminv1.ResourceStatus {
		t.Helper()
		var view struct{ Reconciliation json.RawMessage }
		if err := json.Unmarshal([]byte(ok(t, with("status", "--json")...)), &view); err != nil {
			t.Fatal(err)
		}
		s := &adminv1.GetReconciliationStatusResponse{}
		if decodeMessage(t, string(view.Reconciliation), s); len(s.GetResources()) != 1 {
			return nil
		}
		return s.GetResources()[0]
	}
	until(t, "the first run has ended", func() bool { return status().GetNextAt() != nil })
	r := status()
	if until := time.Until(r.GetNextAt().AsTime()); r.GetLag().AsDuration() < time.Second || r.GetLastStartedAt() == nil || until < 50*time.Minute || until > 66*time.Minute ||
		len(r.GetPaused()) != 0 || !strings.HasPrefix(r.GetCompleteness(), "complete") {
		t.Errorf("status %+v, want one that is complete, with a next run in about an hour", r)
	}

	if out := ok(t, with("reconcile", "pause", "orders")...); !strings.Contains(out, "orders is paused; it was not paused before; resources: 1,") {
		t.Errorf("pause says %s", out)
	}
	if out := ok(t, with("reconcile", "pause", "orders", "order")...); !strings.Contains(out, "it was already, by the pause of orders since ") {
		t.Errorf("a second pause says %s", out)
	}
	if r := status(); len(r.GetPaused()) != 2 || r.GetPaused()[0].GetSince() == nil {
		t.Errorf("status %+v, want it paused", r)
	}
	if out := ok(t, with("reconcile", "status")...); !strings.Contains(out, "paused since ") {
		t.Errorf("reconcile status:\n%s", out)
	}
	until(t, "the reconciler knows of it", func() bool {
		o := tercel(t, "", with("reconcile", "run", "orders", "order", "--dry-run")...)
		return o.code == boot.Failed && strings.Contains(o.err, "paused: orders")
	})
	o := tercel(t, "", with("reconcile", "resume", "orders", "order")...)
	if o.code != boot.Failed || !strings.Contains(o.out, "orders order is resumed; before, there was the pause of orders order since ") ||
		!strings.Contains(o.err, "still there is the pause of orders since ") {
		t.Errorf("resume of a part: exit %d, %s%s", o.code, o.out, o.err)
	}
	if out := ok(t, with("reconcile", "resume", "orders")...); !strings.Contains(out, "before, there was the pause of orders since ") {
		t.Errorf("resume says %s", out)
	}
	if out := ok(t, with("reconcile", "resume", "orders")...); !strings.Contains(out, "has no pause of its own") {
		t.Errorf("a second resume says %s", out)
	}
	if o := tercel(t, "", with("reconcile", "pause", "ordres")...); o.code != boot.Failed || !strings.Contains(o.err, `source "ordres": the pipeline file has none of that name; there are: orders (not_found, REASON_NOT_FOUND)`) {
		t.Errorf("a pause of what isn't there: exit %d, %s", o.code, o.err)
	}
	resets(t, with)
}

func resets(t *testing.T, with func(args ...string) []string) {
	t.Helper()
	o := tercel(t, "y\n", with("reconcile", "reset", "orders", "--beginning")...)
	if o.code != boot.Usage || !strings.Contains(o.err, "the beginning") || !strings.Contains(o.err, "--yes") {
		t.Errorf("reset without a terminal: exit %d\n%s", o.code, o.err)
	}
	ok(t, with("reconcile", "pause", "orders")...) // so that nothing is listed again meanwhile
	reset := func(args ...string) []*adminv1.PlannedReset {
		return told(t, &adminv1.PlanReconciliationResetResponse{}, with(append([]string{"reconcile", "reset", "orders", "--yes"}, args...)...)...).GetResources()
	}
	lines := reset("order", "--to", "2026-01-01")
	if len(lines) != 1 || lines[0].GetCompleteThrough() == nil || lines[0].GetListedSince() != 1 || lines[0].GetRunsSince() != 1 {
		t.Errorf("reset says %v", lines)
	}
	again := reset("--beginning")
	if len(again) != 1 || again[0].GetCompleteThrough().AsTime().Format(time.DateOnly) != "2026-01-01" {
		t.Errorf("a second reset says %v, want what the first has left", again)
	}
	if o := tercel(t, "", with("reconcile", "reset", "orders", "--to", "2026-01-01", "--yes")...); o.code != boot.Failed || !strings.Contains(o.err, "can only be reset to a time that it has passed") {
		t.Errorf("reset forwards: exit %d\n%s%s", o.code, o.out, o.err)
	}
	if o := tercel(t, "", with("reconcile", "reset", "ordres", "--beginning", "--yes")...); o.code != boot.Failed || !strings.Contains(o.err, `source "ordres"`) {
		t.Errorf("reset of what isn't there: exit %d\n%s", o.code, o.err)
	}
}

// Status shows what needs a person, and of which source too little is known.
func TestStatusShowsHowSourcesSend(t *testing.T) {
	t.Parallel()
	at := timestamppb.New(time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC))
	learned := &adminv1.LearnedRate{Since: at, Minutes: 2000, Enough: true}
	var out strings.Builder
	err := printSources(&out, []*adminv1.Source{
		{Name: "alarmed", Learned: learned, Alarms: []string{"silent since noon although at least 3 records have changed: look", "5 of 9 requests refused"}},
		{Name: "quiet", Learned: learned, SilentSince: at, AskedAt: timestamppb.Now()},
		{Name: "usual", Learned: learned},
		{Name: "young", Learned: &adminv1.LearnedRate{Since: at, Minutes: 7}},
		{Name: "new"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"ALARM: silent since noon although at least 3 records have changed: look", "ALARM: 5 of 9 requests refused",
		"and nothing has changed; asked 0s ago", "usual    as usual", "too few events to learn it, only 7 minutes with events since ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
