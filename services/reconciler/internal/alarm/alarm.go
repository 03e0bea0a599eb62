// Package alarm finds out that a source has fallen silent, and that too many of
// its requests are refused.
//
// It learns from what the ingress notes of each minute how often events of a
// source usually come. When they stay away for longer than that, the source's
// resources are reconciled at once: a source with nothing to send is no alarm,
// one whose records have changed without a webhook is. An ingress that is down
// looks the same, and the causes of what was missed tell the difference.
//
// One replica does this, under the lease "alarm". What it knows it reads from
// TERCEL_INTAKE when it begins, and what it found is kept with the cursors
// ([cursor.Health]), so that a restart forgets nothing.
package alarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/report"
)

// Config is how [Alarms] work.
type Config struct {
	// Sources are the sources that are looked after, by name, and whether they can
	// be asked for what has changed: without, their silence is not looked at.
	Sources map[string]bool
	// Every is the time between two looks.
	Every time.Duration
	// LeaseTTL is how long a replica that has gone keeps others out; whole seconds.
	LeaseTTL time.Duration
	Silence  pipeline.Silence
	Refused  pipeline.Refused
}

// Deps are what [Alarms] borrow.
type Deps struct {
	JetStream jetstream.JetStream
	Log       *slog.Logger
	Now       func() time.Time
	// Probe has a source's resources reconciled at once. It doesn't wait for that.
	Probe func(source string)
}

// Alarms look after sources. Run them.
type Alarms struct {
	cfg    Config
	deps   Deps
	probes metric.Int64Counter
	gauge  metric.Registration

	mu     sync.Mutex // guards what follows
	raised map[string]cursor.Health
}

// New returns alarms. Close them.
func New(cfg Config, deps Deps) (*Alarms, error) {
	a := &Alarms{cfg: cfg, deps: deps, raised: map[string]cursor.Health{}}
	var err error
	if a.probes, err = metrics.SourcesProbed.Counter(); err != nil {
		return nil, err
	}
	if a.gauge, err = metrics.Observe(a.observe, metrics.SourcesAlarmed); err != nil {
		return nil, err
	}
	return a, nil
}

// Close ends the gauge.
func (a *Alarms) Close() { _ = a.gauge.Unregister() }

func (a *Alarms) observe(o metrics.Observer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for source, h := range a.raised {
		for kind, on := range map[string]bool{"silence": h.Silence != nil && !h.Silence.AlarmedAt.IsZero(), "refused": h.Refused != nil} {
			value := 0.
			if on {
				value = 1
			}
			o.Set(metrics.SourcesAlarmed, value, source, kind)
		}
	}
}

// Run looks after the sources until ctx ends, and returns nil then. Only one of
// all replicas does; the others wait for their turn.
func (a *Alarms) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := a.hold(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, cursor.ErrHeld) {
			a.deps.Log.LogAttrs(ctx, slog.LevelWarn, "silence of sources is not looked at", slog.Any("err", err))
		}
		select {
		case <-time.After(a.cfg.Every):
		case <-ctx.Done():
		}
	}
	return nil
}

// hold looks after the sources for as long as this replica has the lease.
func (a *Alarms) hold(ctx context.Context) error {
	lease, err := cursor.Acquire(ctx, a.deps.JetStream, "alarm", a.cfg.LeaseTTL)
	if err != nil {
		return err
	}
	defer lease.Release()
	defer a.forget()
	ctx = lease.Context()
	l, err := a.newLook(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(a.cfg.Every)
	defer tick.Stop()
	for {
		if err := l.look(ctx); err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// forget leaves the gauge to whoever looks next.
func (a *Alarms) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.raised)
}

// look is what the replica that has the lease knows.
type look struct {
	*Alarms
	store   *cursor.Store
	tail    *intake.Tail
	book    *book
	healths map[string]cursor.HealthEntry
	usual   map[string]learned
	found   map[string]found
}

// learned is a usual rate and when it was found.
type learned struct {
	usual
	known bool
	at    time.Time
}

// relearn is how often it is learned anew what is usual.
const relearn = time.Hour

func (a *Alarms) newLook(ctx context.Context) (*look, error) {
	store, err := cursor.Open(ctx, a.deps.JetStream)
	if err != nil {
		return nil, err
	}
	l := &look{Alarms: a, store: store, book: newBook(), healths: map[string]cursor.HealthEntry{}, usual: map[string]learned{}, found: map[string]found{}}
	// Twice as far, so that what was usual before a long silence is known too.
	l.tail = intake.NewTail(a.deps.JetStream, a.deps.Now().Add(-2*a.cfg.Silence.Learn))
	gone, err := store.Healths(ctx)
	if err != nil {
		return nil, err
	}
	for _, h := range gone {
		if _, there := a.cfg.Sources[h.Source]; !there {
			if err := store.DropHealth(ctx, h.Source); err != nil {
				return nil, err
			}
		}
	}
	for source := range a.cfg.Sources {
		if l.healths[source], err = store.Health(ctx, source); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// look takes in what is new and judges each source.
func (l *look) look(ctx context.Context) error {
	recent := l.deps.Now().Add(-l.cfg.Refused.Window)
	err := l.tail.Read(ctx, func() { l.book = newBook() }, func(s intake.Span) { l.book.add(s, recent) })
	if err != nil {
		return err
	}
	l.book.prune(l.cfg.Silence.Learn, recent)
	for source, asks := range l.cfg.Sources {
		if err := l.source(ctx, source, asks); err != nil {
			return fmt.Errorf("source %s: %w", source, err)
		}
	}
	return nil
}

func (l *look) source(ctx context.Context, source string, asks bool) error {
	was, now := l.healths[source], l.deps.Now()
	next := was.Health
	next.Learned, next.Silence, next.Refused = cursor.Learned{}, nil, nil
	var silence, refused deed
	if asks && !l.cfg.Silence.Off {
		s, err := l.sight(ctx, source, now)
		if err != nil {
			return err
		}
		next.Learned = cursor.Learned{
			Since: l.book.knownOf(source, l.cfg.Silence.Learn).time(), Minutes: len(l.book.events[source]), Enough: s.known,
		}
		if l.usual[source].at != now { // it is not worth a write each minute
			next.Learned = was.Learned
		}
		next.Silence, silence = judge(was.Silence, s, l.cfg.Silence.ProbeEvery)
	}
	if !l.cfg.Refused.Off {
		all, reasons := l.book.answered(source)
		next.Refused, refused = refusals(was.Refused, now, all, reasons, l.cfg.Refused)
		if r := next.Refused; r != nil && !refused.raised {
			next.Refused = was.Refused // as it was found
		}
	}
	if silence.probe { // before it is noted, so that none is lost; twice does no harm
		l.deps.Probe(source)
		l.probes.Add(ctx, 1, metrics.SourcesProbed.With(source))
	}
	l.tell(ctx, source, was.Health, next, silence, refused) // before, too: rather twice than never
	if !reflect.DeepEqual(next, was.Health) {
		saved, err := l.store.SaveHealth(ctx, was, next)
		if err != nil {
			return err
		}
		l.healths[source] = saved
	}
	l.mu.Lock()
	l.raised[source] = next
	l.mu.Unlock()
	return nil
}

// sight looks at one source.
func (l *look) sight(ctx context.Context, source string, now time.Time) (s sight, err error) {
	events, last := l.book.events[source], l.book.last[source]
	u := l.usual[source]
	if u.at.IsZero() || now.Sub(u.at) >= relearn {
		u.usual, u.known = learn(l.book.knownOf(source, l.cfg.Silence.Learn), events, l.cfg.Silence.Patience)
		u.at = now
		l.usual[source] = u
	}
	// A stream that was made anew since the rate was found knows of no event to
	// count a silence from.
	s = sight{now: now, last: last, known: u.known && !last.IsZero()}
	if !s.known {
		return s, nil
	}
	s.silent = u.silent(minuteOf(last), minuteOf(now.Add(-slack)))
	if !s.silent {
		return s, nil
	}
	s.missed, err = l.missed(ctx, source, last)
	return s, err
}

// found is what was found of a silence in the reports that were read.
type found struct {
	*missed
	since time.Time // of the silence
	read  time.Time // up to when reports were
}

// maxReports bounds the reports that are read at once.
const maxReports = 10_000

// missed takes in the reports that have come since the last look.
func (l *look) missed(ctx context.Context, source string, since time.Time) (*missed, error) {
	f := l.found[source]
	if f.missed == nil || !f.since.Equal(since) {
		f = found{newMissed(), since, since}
	}
	from, now := f.read.Add(-slack), time.Now() // the server's clock finds them; what is read twice counts once
	reports, err := report.List(ctx, l.deps.JetStream, report.Query{Source: source, Since: from, Limit: maxReports})
	if err != nil {
		return nil, err
	}
	f.add(reports, since)
	f.read = now
	l.found[source] = f
	return f.missed, nil
}

// tell logs what has changed.
func (l *look) tell(ctx context.Context, source string, was, is cursor.Health, silence, refused deed) {
	name := slog.String("source", source)
	if silence.cleared {
		l.deps.Log.LogAttrs(ctx, slog.LevelInfo, "source sends again", name, slog.Time("silent_since", was.Silence.Since))
	}
	if silence.probe && !silence.raised {
		l.deps.Log.LogAttrs(ctx, slog.LevelInfo, "source is silent for longer than usual: it is asked what has changed", name,
			slog.Time("since", is.Silence.Since))
	}
	if silence.raised {
		l.deps.Log.LogAttrs(ctx, slog.LevelError, "source is silent although its records have changed", name,
			slog.Time("since", is.Silence.Since), slog.Int("records", is.Silence.Missed), slog.String("do", is.Silence.Advice))
	}
	if refused.cleared {
		l.deps.Log.LogAttrs(ctx, slog.LevelInfo, "requests of a source are no longer refused", name, slog.Time("since", was.Refused.Since))
	}
	if refused.raised {
		l.deps.Log.LogAttrs(ctx, slog.LevelError, "too many requests of a source are refused", name,
			slog.String("requests", share(is.Refused)), slog.Any("reasons", is.Refused.Reasons),
			slog.String("do", "see with tercel verify which step refuses a captured request, and whether the source signs with a new secret"))
	}
}
