package alarm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	api "go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/alarm"
)

// reader reads the metrics of all tests.
var reader = metric.NewManualReader()

func TestMain(m *testing.M) {
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	m.Run()
}

type fixture struct {
	t      *testing.T
	js     jetstream.JetStream
	source string
	cfg    alarm.Config
	now    time.Time
	probes []string // when each was, as the time since the last event
	last   time.Time
}

// setup has a source that has sent twice an hour for four days, and whose last
// event has come at this hour's beginning.
func setup(t *testing.T, source string) *fixture {
	t.Helper()
	f := &fixture{t: t, js: natstest.Run(t), source: source, last: time.Now().UTC().Truncate(time.Hour)}
	if err := topology.Ensure(t.Context(), f.js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	for at := f.last.Add(-4 * day); !at.After(f.last); at = at.Add(30 * time.Minute) {
		f.answered(at, intake.Counts{"accepted": 1})
	}
	<-f.js.PublishAsyncComplete()
	f.now = f.last
	defaults := pipeline.Default().Reconciler
	f.cfg = alarm.Config{
		Sources: map[string]bool{source: true}, Every: time.Minute, LeaseTTL: time.Second, Silence: defaults.Silence, Refused: defaults.Refused,
	}
	return f
}

// answered stores what became of requests in the minute before to.
func (f *fixture) answered(to time.Time, counts intake.Counts) {
	f.t.Helper()
	data, err := json.Marshal(intake.Span{From: to.Add(-time.Minute), To: to, Sources: map[string]intake.Counts{f.source: counts}})
	if err == nil {
		_, err = f.js.PublishAsync(topology.SubjectIntake, data)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// replica is one that has the lease.
func (f *fixture) replica() (look func() error) {
	f.t.Helper()
	a, err := alarm.New(f.cfg, alarm.Deps{
		JetStream: f.js, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return f.now },
		Probe: func(source string) {
			if source != f.source {
				f.t.Errorf("%s is probed", source)
			}
			f.probes = append(f.probes, f.now.Sub(f.last).String())
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(a.Close)
	if look, err = a.Looks(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return look
}

// lookAt looks at a time after the last event and returns what is known then.
func (f *fixture) lookAt(look func() error, after time.Duration) cursor.Health {
	f.t.Helper()
	f.now = f.last.Add(after)
	<-f.js.PublishAsyncComplete()
	if err := look(); err != nil {
		f.t.Fatal(err)
	}
	return f.health()
}

func (f *fixture) store() *cursor.Store {
	f.t.Helper()
	s, err := cursor.Open(f.t.Context(), f.js)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) health() cursor.Health {
	f.t.Helper()
	h, err := f.store().Health(f.t.Context(), f.source)
	if err != nil {
		f.t.Fatal(err)
	}
	return h.Health
}

// report says that a record was missed that changed at a time after the last
// event.
func (f *fixture) report(run string, changed time.Duration) {
	f.t.Helper()
	err := report.Publish(f.t.Context(), f.js, report.Report{
		Run: run, Source: f.source, Account: "_", Resource: "order",
		Records: []report.Record{{ID: run, Version: "1", Verdict: "missed", ChangedAt: f.last.Add(changed), Cause: report.NeverSent}},
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// gauge is the metric of an alarm; -1 if there is none.
func (f *fixture) gauge(kind string) int64 {
	f.t.Helper()
	var got metricdata.ResourceMetrics
	if err := reader.Collect(f.t.Context(), &got); err != nil {
		f.t.Fatal(err)
	}
	for _, scope := range got.ScopeMetrics {
		for _, m := range scope.Metrics {
			data, ok := m.Data.(metricdata.Gauge[float64])
			if !ok || m.Name != "tercel.sources.alarmed" {
				continue
			}
			for _, p := range data.DataPoints {
				source, _ := p.Attributes.Value("source")
				k, _ := p.Attributes.Value("kind")
				if source.AsString() == f.source && k.AsString() == kind {
					return int64(p.Value)
				}
			}
		}
	}
	return -1
}

// Five events are overdue after two and a half hours and the two minutes that
// replicas have to tell of them. Then the source is probed, and again each hour;
// a restart forgets neither that nor the alarm.
func TestSilenceFollowsTheClock(t *testing.T) {
	t.Parallel()
	f := setup(t, "clock")
	look := f.replica()
	for _, after := range []time.Duration{time.Minute, time.Hour, 150 * time.Minute} {
		if h := f.lookAt(look, after); h.Silence != nil || !h.Learned.Enough {
			t.Fatalf("after %s: %+v, want all as usual", after, h)
		}
	}
	if h := f.lookAt(look, 154*time.Minute); h.Silence == nil || !h.Silence.Since.Equal(f.last) || len(h.Alarms()) != 0 || f.gauge("silence") != 0 {
		t.Fatalf("after 154m: %+v, want a silence that is no alarm", h)
	}
	f.report("before", -time.Minute)
	f.lookAt(look, 155*time.Minute)
	look = f.replica()
	f.lookAt(look, 156*time.Minute)
	f.lookAt(look, 214*time.Minute)
	if h := f.health(); len(h.Alarms()) != 0 {
		t.Errorf("%v by a record that changed before", h.Alarms())
	}
	f.report("since", time.Minute)
	if h := f.lookAt(look, 215*time.Minute); len(h.Alarms()) != 1 || f.gauge("silence") != 1 || !h.Silence.AlarmedAt.Equal(f.now) {
		t.Errorf("%+v, gauge %d; want an alarm", h.Silence, f.gauge("silence"))
	}
	raised := f.now
	look = f.replica()
	if h := f.lookAt(look, 216*time.Minute); !h.Silence.AlarmedAt.Equal(raised) {
		t.Errorf("%+v after a restart, want the same alarm", h.Silence)
	}
	if want := []string{"2h34m0s", "3h34m0s"}; !slices.Equal(f.probes, want) {
		t.Errorf("probes %v after the last event, want %v", f.probes, want)
	}
	f.answered(f.now, intake.Counts{"duplicate": 1})
	if h := f.lookAt(look, 217*time.Minute); h.Silence != nil || f.gauge("silence") != 0 {
		t.Errorf("%+v, gauge %d after events came again, want no alarm", h.Silence, f.gauge("silence"))
	}
}

// Refused requests are counted in the window alone.
func TestRefusedRequestsAreForgottenWithTheWindow(t *testing.T) {
	t.Parallel()
	f := setup(t, "refused")
	f.answered(f.last.Add(-20*time.Minute), intake.Counts{"refused_rate": 100})
	look := f.replica()
	if h := f.lookAt(look, 0); h.Refused != nil {
		t.Errorf("alarm %+v of what is older than the window", h.Refused)
	}
	f.answered(f.last, intake.Counts{"refused_rate": 100})
	if h := f.lookAt(look, time.Minute); h.Refused == nil || h.Refused.Reasons["refused_rate"] != 100 || f.gauge("refused") != 1 {
		t.Errorf("alarm %+v, gauge %d; want one", h.Refused, f.gauge("refused"))
	}
	if h := f.lookAt(look, 14*time.Minute); h.Refused == nil {
		t.Error("the alarm is over within the window")
	}
	if h := f.lookAt(look, 16*time.Minute); h.Refused != nil || f.gauge("refused") != 0 {
		t.Errorf("alarm %+v after the window", h.Refused)
	}
}

// What is switched off, or can't be asked, is left alone.
func TestWhatIsLeftAlone(t *testing.T) {
	t.Parallel()
	tests := map[string]func(c *alarm.Config){
		"silence off":          func(c *alarm.Config) { c.Silence.Off, c.Refused.Off = true, true },
		"nothing that's asked": func(c *alarm.Config) { c.Sources = map[string]bool{"left": false}; c.Refused.Off = true },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, "left")
			change(&f.cfg)
			f.answered(f.last, intake.Counts{"refused_rate": 100})
			if h := f.lookAt(f.replica(), day); h.Silence != nil || h.Refused != nil || len(f.probes) != 0 {
				t.Errorf("health %+v, probes %v; want none", h, f.probes)
			}
		})
	}
}

// A replica that was stopped while it looked, and goes on when another has taken
// its place, changes nothing.
func TestOnlyTheReplicaWithTheLeaseWrites(t *testing.T) {
	t.Parallel()
	f := setup(t, "fence")
	old, other := f.replica(), f.replica()
	f.lookAt(other, 160*time.Minute)
	want := f.health()
	f.now = f.last.Add(4 * time.Hour)
	if err := old(); !errors.Is(err, cursor.ErrConflict) {
		t.Errorf("look of the old replica: %v, want ErrConflict", err)
	}
	if got := f.health(); fmt.Sprint(got.Silence) != fmt.Sprint(want.Silence) {
		t.Errorf("health %+v, want %+v", got.Silence, want.Silence)
	}
}

// A source that is in the pipeline file no more has no alarm either, and is looked
// after again once it is back.
func TestASourceThatHasGoneIsForgotten(t *testing.T) {
	t.Parallel()
	f := setup(t, "gone")
	f.lookAt(f.replica(), 160*time.Minute)
	f.cfg.Sources = map[string]bool{"another": true}
	f.source = "another"
	f.lookAt(f.replica(), 161*time.Minute)
	all, err := f.store().Healths(t.Context())
	if err != nil || slices.ContainsFunc(all, func(h cursor.Health) bool { return h.Source == "gone" }) {
		t.Errorf("healths %+v, %v; want none of the source that has gone", all, err)
	}
	f.cfg.Sources, f.source = map[string]bool{"gone": true, "another": true}, "gone"
	if h := f.lookAt(f.replica(), 162*time.Minute); h.Silence == nil {
		t.Errorf("health %+v of the source that is back, want its silence", h)
	}
}

// A stream of what the ingress answered that is made anew between two looks has
// nothing of a source whose usual rate is known: its silence can't be told then.
// One that lasts stays.
func TestAStreamMadeAnewMakesNoSilence(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		after  time.Duration // the last event, at the first look
		silent bool
	}{
		"as usual": {time.Hour, false},
		"silent":   {160 * time.Minute, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, "anew")
			look := f.replica()
			before := f.lookAt(look, tt.after)
			if err := f.js.DeleteStream(t.Context(), topology.StreamIntake); err != nil {
				t.Fatal(err)
			}
			if err := topology.Ensure(t.Context(), f.js, topology.DefaultConfig()); err != nil {
				t.Fatal(err)
			}
			after := f.lookAt(look, tt.after+time.Minute)
			if !before.Learned.Enough || (before.Silence != nil) != tt.silent || fmt.Sprint(after.Silence) != fmt.Sprint(before.Silence) {
				t.Errorf("silence %+v, want %+v as before", after.Silence, before.Silence)
			}
		})
	}
}

// broken has no instrument observed.
type (
	broken      struct{ noop.MeterProvider }
	brokenMeter struct{ noop.Meter }
)

func (broken) Meter(string, ...api.MeterOption) api.Meter { return brokenMeter{} }

func (brokenMeter) RegisterCallback(api.Callback, ...api.Observable) (api.Registration, error) {
	return nil, errors.New("no room")
}

// Whoever gets an error has nothing to close. It isn't parallel: the provider is
// that of all tests.
func TestNewWithoutItsGaugeReturnsNoAlarms(t *testing.T) {
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(broken{})
	defer otel.SetMeterProvider(before)
	if a, err := alarm.New(alarm.Config{}, alarm.Deps{}); err == nil || a != nil {
		t.Errorf("New() = %v, %v; want an error alone", a, err)
	}
}

// One of two replicas looks, and the other does once that has ended.
func TestReplicasTakeTurns(t *testing.T) {
	t.Parallel()
	f := setup(t, "turns")
	f.cfg.Every = 20 * time.Millisecond
	probes := make(chan int, 100)
	start := func(n int, after time.Duration) (stop func()) {
		now := f.last.Add(after)
		a, err := alarm.New(f.cfg, alarm.Deps{
			JetStream: f.js, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }, Probe: func(string) { probes <- n },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx) }()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run() = %v", err)
			}
			a.Close()
		}
	}
	wait := func(want int) {
		t.Helper()
		select {
		case n := <-probes:
			if n != want {
				t.Errorf("replica %d probes, want %d", n, want)
			}
		case <-time.After(time.Minute):
			t.Fatal("nobody probes")
		}
	}
	stopOne := start(1, 160*time.Minute)
	wait(1)
	stopTwo := start(2, 5*time.Hour) // when the next probe is due
	stopOne()
	wait(2)
	stopTwo()
}
