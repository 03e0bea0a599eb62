package main

import (
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// What an operator pauses, resumes and resets is told with what was before, and
// status shows it.
func TestReconciliationIsPausedResumedAndReset(t *testing.T) {
	t.Parallel()
	shop := startShop(t)
	shop.put("o1", 1)
	p := startLive(t, shop, liveOptions{})
	with := func(args ...string) []string { return append(args, "--data", p.data) }
	type resource struct {
		Resource     string    `json:"resource"`
		Through      time.Time `json:"complete_through"`
		Lag          *float64  `json:"lag_seconds"`
		LastRun      time.Time `json:"last_run"`
		NextRun      time.Time `json:"next_run"`
		Completeness string    `json:"completeness"`
		Paused       []struct {
			Source string    `json:"source"`
			Since  time.Time `json:"since"`
		} `json:"paused"`
	}
	status := func() resource {
		t.Helper()
		s := decode[struct {
			Reconciled []resource `json:"reconciled"`
		}](t, with("status")...)
		if len(s.Reconciled) != 1 {
			return resource{}
		}
		return s.Reconciled[0]
	}
	until(t, "the first run has ended", func() bool { return !status().NextRun.IsZero() })
	r := status()
	if until := time.Until(r.NextRun); r.Lag == nil || *r.Lag < 1 || r.LastRun.IsZero() || until < 50*time.Minute || until > 66*time.Minute ||
		len(r.Paused) != 0 || !strings.HasPrefix(r.Completeness, "complete") {
		t.Errorf("status %+v, want one that is complete, with a next run in about an hour", r)
	}

	if out := ok(t, with("reconcile", "pause", "orders")...); !strings.Contains(out, "orders is paused; it was not paused before; resources: 1,") {
		t.Errorf("pause says %s", out)
	}
	if out := ok(t, with("reconcile", "pause", "orders", "order")...); !strings.Contains(out, "it was already, by the pause of orders since ") {
		t.Errorf("a second pause says %s", out)
	}
	if r := status(); len(r.Paused) != 2 || r.Paused[0].Since.IsZero() {
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
	if o := tercel(t, "", with("reconcile", "pause", "ordres")...); o.code != boot.OK || !strings.Contains(o.err, "nothing of ordres was ever reconciled; there are: orders order") {
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
	type line struct {
		Before time.Time `json:"before"`
		To     time.Time `json:"to"`
		Listed int       `json:"listed_since"`
		Runs   int       `json:"runs_since"`
	}
	ok(t, with("reconcile", "pause", "orders")...) // so that nothing is listed again meanwhile
	lines := decode[[]line](t, with("reconcile", "reset", "orders", "order", "--to", "2026-01-01", "--yes")...)
	if len(lines) != 1 || lines[0].Before.IsZero() || lines[0].To.Year() != 2026 || lines[0].Listed != 1 || lines[0].Runs != 1 {
		t.Errorf("reset says %+v", lines)
	}
	again := decode[[]line](t, with("reconcile", "reset", "orders", "--beginning", "--yes")...)
	if len(again) != 1 || !again[0].Before.Equal(lines[0].To) {
		t.Errorf("a second reset says %+v, want what the first has left", again)
	}
	if o := tercel(t, "", with("reconcile", "reset", "orders", "--to", "2026-01-01", "--yes")...); o.code != boot.Failed || !strings.Contains(o.out, "can only be reset to a time that it has passed") {
		t.Errorf("reset forwards: exit %d\n%s%s", o.code, o.out, o.err)
	}
	if o := tercel(t, "", with("reconcile", "reset", "ordres", "--beginning", "--yes")...); o.code != boot.Failed || !strings.Contains(o.err, "nothing to reset") {
		t.Errorf("reset of what isn't there: exit %d\n%s", o.code, o.err)
	}
}

// Status shows what needs a person, and of which source too little is known.
func TestStatusShowsHowSourcesSend(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	learned := cursor.Learned{Since: at, Minutes: 2000, Enough: true}
	var out strings.Builder
	err := printSources(&out, []cursor.Health{
		{Source: "alarmed", Learned: learned, Silence: &cursor.Silence{Since: at, AlarmedAt: at, Missed: 3, Advice: "look"}, Refused: &cursor.Refused{Since: at, Requests: 9, Reasons: map[string]int64{"refused_size": 5}}},
		{Source: "quiet", Learned: learned, Silence: &cursor.Silence{Since: at, ProbedAt: time.Now()}},
		{Source: "usual", Learned: learned},
		{Source: "young", Learned: cursor.Learned{Since: at, Minutes: 7}},
		{Source: "new"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"ALARM: silent since 2026-11-26T10:00:00Z although at least 3 records have changed: look", "ALARM: 5 of 9 requests refused, since 2026-11-26T10:00:00Z: refused_size 5",
		"and nothing has changed; asked 0s ago", "usual    as usual", "too few events to learn it, only 7 minutes with events since ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
