package run

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/metrics"
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
	lasted   metric.Float64Histogram
	gauges   metric.Registration

	mu   sync.Mutex // guards what follows
	seen map[cursor.Key]sight
}

// sight is a cursor as it was last read or written.
type sight struct {
	cursor.Cursor
	paused bool
}

// NewMetrics registers the instruments. Close them.
func NewMetrics(now func() time.Time) (*Metrics, error) {
	m, errs := &Metrics{now: now, seen: map[cursor.Key]sight{}}, [6]error{}
	m.compared, errs[0] = metrics.RecordsCompared.Counter()
	m.runs, errs[1] = metrics.ReconciliationsEnded.Counter()
	m.causes, errs[2] = metrics.RecordsExplained.Counter()
	m.stopped, errs[3] = metrics.DeletionsStopped.Counter()
	m.lasted, errs[4] = metrics.ReconciliationsLasted.Histogram()
	m.gauges, errs[5] = metrics.Observe(m.observe, metrics.ReconciliationsLagged, metrics.ReconciliationsSucceeded,
		metrics.ReconciliationsOverdue, metrics.ReconciliationsIncomplete, metrics.ReconciliationsPaused)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return m, nil
}

// Close ends the gauges.
func (m *Metrics) Close() { _ = m.gauges.Unregister() }

// Seen keeps a cursor for the gauges.
func (m *Metrics) Seen(e cursor.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen[e.Key] = sight{Cursor: e.Cursor}
}

// Paused notes that a resource is not reconciled, until it is seen again. It
// reports false, and notes nothing, while its cursor was never seen: it would pass
// for one that was never finished.
func (m *Metrics) Paused(k cursor.Key) (seen bool) {
	if k.Work != "" {
		return true // the gauges are of reconciliation alone
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, seen := m.seen[k]
	if seen {
		s.paused = true
		m.seen[k] = s
	}
	return seen
}

// Forget leaves a resource out of the gauges from now on.
func (m *Metrics) Forget(k cursor.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.seen, k)
}

// standing is that of one resource in all its accounts.
type standing struct {
	worst              cursor.Cursor // the one that is least complete
	overdue            time.Duration
	incomplete, paused int
}

// observe tells how each resource stands. One that was never finished is
// complete through no time yet.
func (m *Metrics) observe(o metrics.Observer) {
	type name struct{ source, resource string }
	all := map[name]standing{}
	m.mu.Lock()
	for k, c := range m.seen {
		n := name{k.Source, k.Resource}
		s, have := all[n]
		if !have || c.Through.Before(s.worst.Through) {
			s.worst = c.Cursor
		}
		switch {
		case c.paused:
			s.paused++
		case !c.NextAt.IsZero():
			s.overdue = max(s.overdue, m.now().Sub(c.NextAt))
		}
		if !c.EndedAt.IsZero() && !c.Last.Complete {
			s.incomplete++
		}
		all[n] = s
	}
	m.mu.Unlock()
	for n, s := range all {
		o.Set(metrics.ReconciliationsOverdue, s.overdue.Seconds(), n.source, n.resource)
		o.Set(metrics.ReconciliationsIncomplete, float64(s.incomplete), n.source, n.resource)
		o.Set(metrics.ReconciliationsPaused, float64(s.paused), n.source, n.resource)
		if s.worst.Through.IsZero() {
			continue
		}
		o.Set(metrics.ReconciliationsLagged, m.now().Sub(s.worst.Through).Seconds(), n.source, n.resource)
		o.Set(metrics.ReconciliationsSucceeded, float64(s.worst.OKAt.UnixMilli())/1000, n.source, n.resource)
	}
}

func (m *Metrics) comparedAll(k cursor.Key, tally map[ledger.Verdict]int64) {
	for verdict, n := range tally {
		m.compared.Add(context.Background(), n, metrics.RecordsCompared.With(k.Source, k.Resource, string(verdict)))
	}
}

func (m *Metrics) explained(k cursor.Key, causes map[report.Cause]int) {
	for cause, n := range causes {
		m.causes.Add(context.Background(), int64(n), metrics.RecordsExplained.With(k.Source, k.Resource, string(cause)))
	}
}

func (m *Metrics) stoppedOne(k cursor.Key) {
	m.stopped.Add(context.Background(), 1, metrics.DeletionsStopped.With(k.Source, k.Resource))
}

func (m *Metrics) ended(k cursor.Key, o outcome) {
	m.runs.Add(context.Background(), 1, metrics.ReconciliationsEnded.With(k.Source, k.Resource, string(o)))
}

// took tells how long a run was at work, with its trace.
func (m *Metrics) took(ctx context.Context, k cursor.Key, d time.Duration) {
	m.lasted.Record(ctx, d.Seconds(), metrics.ReconciliationsLasted.With(k.Source, k.Resource))
}
