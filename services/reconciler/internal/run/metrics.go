package run

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/report"
)

const scopeName = "github.com/tercelhq/tercel/services/reconciler"

// outcome is how a run ended, a closed set.
type outcome string

const (
	complete   outcome = "complete"
	unfinished outcome = "unfinished" // it had its share of pages
	failed     outcome = "failed"
	abandoned  outcome = "abandoned" // stopped, or another runner took over
)

// Metrics are what all runners of a process tell.
type Metrics struct {
	now      func() time.Time
	compared metric.Int64Counter
	runs     metric.Int64Counter
	causes   metric.Int64Counter
	stopped  metric.Int64Counter
	gauges   metric.Registration

	mu   sync.Mutex
	seen map[cursor.Key]cursor.Cursor // as it was last read or written
}

// NewMetrics registers the instruments. Close them.
func NewMetrics(now func() time.Time) (*Metrics, error) {
	m := &Metrics{now: now, seen: map[cursor.Key]cursor.Cursor{}}
	meter := otel.Meter(scopeName)
	var err error
	if m.compared, err = meter.Int64Counter("tercel.records.compared", metric.WithUnit("{record}"),
		metric.WithDescription("Listed records compared with what was seen, by source, resource and verdict.")); err != nil {
		return nil, fmt.Errorf("instrument: %w", err)
	}
	if m.runs, err = meter.Int64Counter("tercel.reconciliations.ended", metric.WithUnit("{run}"),
		metric.WithDescription("Reconciliation runs ended, by source, resource and outcome.")); err != nil {
		return nil, fmt.Errorf("instrument: %w", err)
	}
	if m.causes, err = meter.Int64Counter("tercel.records.explained", metric.WithUnit("{record}"),
		metric.WithDescription("Records that were missed or stale and are named in a report, by source, resource and cause.")); err != nil {
		return nil, fmt.Errorf("instrument: %w", err)
	}
	if m.stopped, err = meter.Int64Counter("tercel.deletions.stopped", metric.WithUnit("{run}"),
		metric.WithDescription("Scans for orphans that found so many records unlisted that they asked for none, by source and resource.")); err != nil {
		return nil, fmt.Errorf("instrument: %w", err)
	}
	lag, err := meter.Float64ObservableGauge("tercel.reconciliations.lagged", metric.WithUnit("s"),
		metric.WithDescription("Age of the time up to which a resource is known to be complete, in its worst account."))
	if err != nil {
		return nil, fmt.Errorf("instrument: %w", err)
	}
	ok, err := meter.Float64ObservableGauge("tercel.reconciliations.succeeded", metric.WithUnit("s"),
		metric.WithDescription("Unix time at which a window of a resource was last finished, in its worst account."))
	if err != nil {
		return nil, fmt.Errorf("instrument: %w", err)
	}
	m.gauges, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		m.observe(o, lag, ok)
		return nil
	}, lag, ok)
	if err != nil {
		return nil, fmt.Errorf("instrument: %w", err)
	}
	return m, nil
}

// Close ends the gauges.
func (m *Metrics) Close() { _ = m.gauges.Unregister() }

// Seen keeps a cursor for the gauges.
func (m *Metrics) Seen(e cursor.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen[e.Key] = e.Cursor
}

// Forget leaves a resource out of the gauges from now on.
func (m *Metrics) Forget(k cursor.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.seen, k)
}

// observe tells the worst account of each resource. One that was never
// finished has no figure yet.
func (m *Metrics) observe(o metric.Observer, lag, ok metric.Float64Observable) {
	type name struct{ source, resource string }
	worst := map[name]cursor.Cursor{}
	m.mu.Lock()
	for k, c := range m.seen {
		n := name{k.Source, k.Resource}
		if w, have := worst[n]; !have || c.Through.Before(w.Through) {
			worst[n] = c
		}
	}
	m.mu.Unlock()
	for n, c := range worst {
		if c.Through.IsZero() {
			continue
		}
		attrs := metric.WithAttributes(attribute.String("source", n.source), attribute.String("resource", n.resource))
		o.ObserveFloat64(lag, m.now().Sub(c.Through).Seconds(), attrs)
		o.ObserveFloat64(ok, float64(c.OKAt.UnixMilli())/1000, attrs)
	}
}

func (m *Metrics) comparedAll(k cursor.Key, tally map[ledger.Verdict]int64) {
	for verdict, n := range tally {
		m.compared.Add(context.Background(), n, metric.WithAttributes(attribute.String("source", k.Source),
			attribute.String("resource", k.Resource), attribute.String("verdict", string(verdict))))
	}
}

func (m *Metrics) explained(k cursor.Key, causes map[report.Cause]int) {
	for cause, n := range causes {
		m.causes.Add(context.Background(), int64(n), metric.WithAttributes(attribute.String("source", k.Source),
			attribute.String("resource", k.Resource), attribute.String("cause", string(cause))))
	}
}

func (m *Metrics) stoppedOne(k cursor.Key) {
	m.stopped.Add(context.Background(), 1, metric.WithAttributes(attribute.String("source", k.Source), attribute.String("resource", k.Resource)))
}

func (m *Metrics) ended(k cursor.Key, o outcome) {
	m.runs.Add(context.Background(), 1, metric.WithAttributes(attribute.String("source", k.Source),
		attribute.String("resource", k.Resource), attribute.String("outcome", string(o))))
}
