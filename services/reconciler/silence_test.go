package reconciler_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler"
)

// lines are those with a text.
func (w *written) lines(text string) (lines []string) {
	for line := range strings.Lines(w.String()) {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}

// answered stores what an ingress counted of a source in a time.
func (f *fixture) answered(from, to time.Time, counts intake.Counts) {
	f.t.Helper()
	data, err := json.Marshal(intake.Span{From: from, To: to, Sources: map[string]intake.Counts{"orders": counts}})
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.js.PublishAsync(topology.SubjectIntake, data); err != nil {
		f.t.Fatal(err)
	}
}

// sent stores four days of a source that sends twice an hour, and of a last time
// in which it does not; the ingress is up in all of it.
func (f *fixture) sent(silentFor time.Duration) {
	f.t.Helper()
	const every = 30 * time.Minute
	now := time.Now()
	for at := now.Add(-4 * 24 * time.Hour); at.Before(now); at = at.Add(every) {
		counts := intake.Counts{"accepted": 1}
		if now.Sub(at) <= silentFor {
			counts = nil
		}
		f.answered(at, at.Add(every), counts)
	}
	<-f.js.PublishAsyncComplete()
}

// reconciledAt makes the source's resource complete up to then, with its next run
// in the far future.
func (f *fixture) reconciledAt(through time.Time) {
	f.t.Helper()
	e := f.cursor()
	for _, c := range []cursor.Cursor{
		{StartedAt: time.Now(), Window: &cursor.Window{To: through, Done: true}},
		{StartedAt: time.Now(), EndedAt: time.Now(), Through: through},
	} {
		var err error
		if e, err = f.store().Save(f.t.Context(), e, c); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fixture) health() cursor.Health {
	f.t.Helper()
	h, err := f.store().Health(f.t.Context(), "orders")
	if err != nil {
		f.t.Fatal(err)
	}
	return h.Health
}

// A source that is silent for longer than usual is asked at once, long before
// its schedule. Gaps are an alarm, kept over restarts and by all replicas, until
// events come again.
func TestSilenceWithGapsIsAnAlarmUntilEventsComeAgain(t *testing.T) {
	t.Parallel()
	f := setup(t, "24h")
	log := &written{}
	f.log = log
	f.sent(4 * time.Hour)
	f.reconciledAt(time.Now().Add(-5 * time.Hour))
	stop := f.start()
	f.start() // another replica, which waits for its turn
	eventually(t, "there is an alarm", func() bool { return len(f.health().Alarms()) == 1 })
	reports := f.reports()
	if len(reports) != 1 || reports[0].Trigger != report.Silence || reports[0].Missed != 5 || reports[0].Repaired != 5 {
		t.Fatalf("reports %+v, want one of a probe that found five records", reports)
	}
	h := f.health()
	if s := h.Silence; time.Since(s.Since) < 4*time.Hour || time.Since(s.Since) > 5*time.Hour || s.Missed != 5 || !h.Learned.Enough || h.Learned.Minutes < 150 {
		t.Errorf("health %+v, want a silence of four hours with five records", h)
	}
	if text := h.Alarms()[0]; !strings.Contains(text, "although at least 5 records have changed: see at the provider") {
		t.Errorf("the alarm is %s", text)
	}
	stop()
	const alarm, probe = "source is silent although its records have changed", "it is asked what has changed"
	f.start()
	eventually(t, "another has its turn", func() bool {
		who, err := cursor.Holder(t.Context(), f.js, "alarm")
		return err == nil && who != ""
	})
	f.answered(time.Now().Add(-time.Minute), time.Now(), intake.Counts{"accepted": 3})
	eventually(t, "the alarm is over", func() bool { return f.health().Silence == nil })
	eventually(t, "its end is told", func() bool { return len(log.lines("source sends again")) == 1 })
	if lines := log.lines(alarm); len(lines) != 1 || !strings.Contains(lines[0], `"level":"ERROR"`) || !strings.Contains(lines[0], `"source":"orders"`) ||
		!strings.Contains(lines[0], `"records":5`) {
		t.Errorf("alarms in the log: %q, want one", lines)
	}
	if lines := log.lines(probe); len(lines) != 1 || len(f.reports()) != 1 {
		t.Errorf("probes in the log: %q, %d reports; want one each", lines, len(f.reports()))
	}
}

// A source that has nothing to send is asked, and no alarm is raised.
func TestSilenceWithoutGapsIsNoAlarm(t *testing.T) {
	t.Parallel()
	f := setup(t, "24h")
	f.shop.age = 10 * time.Hour // all was changed before the last event
	f.sent(4 * time.Hour)
	f.reconciledAt(time.Now().Add(-11 * time.Hour))
	f.start()
	eventually(t, "it is asked", func() bool { return len(f.reports()) == 1 })
	if rep := f.reports()[0]; rep.Trigger != report.Silence || rep.Missed != 5 {
		t.Errorf("report %+v", rep)
	}
	f.sawAlarms(2)
	if h := f.health(); h.Silence == nil || len(h.Alarms()) != 0 {
		t.Errorf("health %+v, want a silence that is no alarm", h)
	}
}

// sawAlarms waits until sources were looked at that often again: each time
// something is refused or not, which is written.
func (f *fixture) sawAlarms(times int) {
	f.t.Helper()
	for i := range times {
		now := time.Now()
		f.answered(now, now, intake.Counts{"refused_signature": 1000 << (10 * i)})
		eventually(f.t, "refused requests are an alarm", func() bool { return f.health().Refused != nil })
		f.answered(now, now, intake.Counts{"handshake": 100_000 << (10 * i)})
		eventually(f.t, "they are not", func() bool { return f.health().Refused == nil })
	}
}

// With no ingress at all, the alarm says so; and a source of which too little is
// known is left alone.
func TestSilenceOfADeadIngress(t *testing.T) {
	t.Parallel()
	f := setup(t, "24h")
	now := time.Now()
	for at := now.Add(-4 * 24 * time.Hour); at.Before(now.Add(-4 * time.Hour)); at = at.Add(30 * time.Minute) {
		f.answered(at, at.Add(30*time.Minute), intake.Counts{"accepted": 1})
	}
	<-f.js.PublishAsyncComplete()
	f.reconciledAt(now.Add(-5 * time.Hour))
	f.start()
	eventually(t, "there is an alarm", func() bool { return len(f.health().Alarms()) == 1 })
	if text := f.health().Alarms()[0]; !strings.Contains(text, "no ingress took requests") {
		t.Errorf("the alarm is %s", text)
	}
}

func TestTooLittleIsKnownForAnAlarm(t *testing.T) {
	t.Parallel()
	f := setup(t, "24h")
	now := time.Now()
	f.answered(now.Add(-5*24*time.Hour), now.Add(-5*24*time.Hour), intake.Counts{"accepted": 1})
	f.answered(now.Add(-5*time.Hour), now.Add(-5*time.Hour), intake.Counts{"accepted": 1})
	f.reconciledAt(now.Add(-5 * time.Hour))
	f.start()
	f.sawAlarms(2)
	if h := f.health(); h.Learned.Enough || h.Learned.Minutes != 2 || h.Silence != nil || len(f.reports()) != 0 {
		t.Errorf("health %+v and %d reports, want it left alone", h, len(f.reports()))
	}
}

// Requests that are refused are an alarm with their reasons.
func TestRefusedRequestsAreAnAlarm(t *testing.T) {
	t.Parallel()
	f := setup(t, "24h")
	log := &written{}
	f.log = log
	f.reconciledAt(time.Now())
	f.start()
	now := time.Now()
	f.answered(now.Add(-time.Hour), now.Add(-30*time.Minute), intake.Counts{"accepted": 10_000}) // too long ago to count
	f.answered(now.Add(-time.Minute), now, intake.Counts{"accepted": 70, "refused_signature": 25, "unavailable": 5})
	eventually(t, "there is an alarm", func() bool { return len(f.health().Alarms()) == 1 })
	if text := f.health().Alarms()[0]; !strings.HasPrefix(text, "30 of 100 requests refused, since ") || !strings.HasSuffix(text, "refused_signature 25, unavailable 5") {
		t.Errorf("the alarm is %s", text)
	}
	f.answered(now.Add(-time.Minute), now, intake.Counts{"accepted": 1000})
	eventually(t, "the alarm is over", func() bool { return len(f.health().Alarms()) == 0 })
	eventually(t, "its end is told", func() bool { return len(log.lines("no longer refused")) == 1 })
	if lines := log.lines("too many requests of a source are refused"); len(lines) != 1 || !strings.Contains(lines[0], `"level":"ERROR"`) {
		t.Errorf("alarms in the log: %q, want one", lines)
	}
}

// A probe reconciles, sooner than it is due. It deletes nothing.
func TestProbesLookForNoOrphans(t *testing.T) {
	t.Parallel()
	order := cursor.Key{Source: "orders", Account: "north", Resource: "order"}
	scan, refund := order, order
	scan.Work, refund.Resource = cursor.Deletes, "refund"
	got := reconciler.Probed([]cursor.Key{order, scan, refund})
	if len(got) != 2 || slices.Contains(got, scan) {
		t.Errorf("a probe makes %v due, want %s and %s", got, order, refund)
	}
}
