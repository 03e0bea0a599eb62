// Package audit proves the inside of the pipeline: every trigger that was
// accepted has an outcome (promise 3).
//
// A trigger's outcome is an enriched event that names its sequence, a dead
// letter, or a note that the pipeline file drops it. Reading headers only, the
// audit looks at every trigger that its source's consumer is through with; one
// without an outcome was accepted and then lost inside, and is sent again. That
// happens when the server loses the advisory of a message that was given up, which
// it does when it crashes at the wrong moment, or when a power cut takes the tail
// of a stream.
//
// The audit also finds the consumers that stand still without a word: after a
// stream lost its tail, a consumer can report that nothing is pending although
// its stream goes on. It is set back to where it stopped. And it finds what
// somebody has deleted: streams and buckets that are gone, consumers that are,
// streams that were made anew, cut off or purged. It puts right what can be, and
// reports all of it as a [report.Finding].
//
// One audit runs at a time, under the lease "audit". How far it has come is
// kept in the bucket tercel_cursors under "_audit.raw".
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Config is how an [Audit] works.
type Config struct {
	// Every is the time between two passes.
	Every time.Duration
	// Settle is how old a trigger without an outcome must be before it is sent
	// again while its source's consumer has others in work. It must exceed the
	// time that all attempts of the enricher may take.
	Settle time.Duration
	// Sources are the names of the sources whose triggers are audited.
	Sources []string
	// LeaseTTL is how long a runner that has gone keeps others out; whole
	// seconds.
	LeaseTTL time.Duration
	// Destinations are the names of those whose consumers are looked after when
	// they are gone.
	Destinations []string
	// Streams is how the streams are set up.
	Streams topology.Config
}

// Deps are what an [Audit] borrows.
type Deps struct {
	JetStream jetstream.JetStream
	Log       *slog.Logger
	// Now tells the time of findings. Defaults to time.Now.
	Now func() time.Time
}

// Result is what one pass did.
type Result struct {
	// Audited is how many triggers were found to have an outcome, or were
	// given another chance of one.
	Audited int
	// Recovered is how many of them had no outcome and were sent again.
	Recovered int
	// Pending is how many triggers were left to a later pass, most of them
	// because their consumer has not had them yet or has them in work.
	Pending uint64
	// Repaired is how many consumers stood still and were set going again.
	Repaired int
	// Found is how many faults were found, those that are counted above among
	// them.
	Found int
	// More says that the pass ended at its bound and the next has work at once.
	More bool
}

// Bounds of a pass.
const (
	// maxTriggers is the most triggers of one source that a pass reads: about
	// 30 MB of memory.
	maxTriggers = 100_000
	// minAge keeps triggers out that are so new that their outcome may not be
	// visible on every replica yet.
	minAge = time.Second
	// grace is the wait before a trigger without an outcome is looked at once
	// more: an advisory and a replica's copy need a moment.
	grace = time.Second
	// skew is how far the clocks of the servers may be apart.
	skew = time.Minute
)

// Audit looks after the inside of a pipeline. Its methods must not be called
// concurrently; audits in several processes take turns by their lease.
type Audit struct {
	cfg       Config
	deps      Deps
	js        jetstream.JetStream
	bound     int // triggers of one source in a pass
	recovered metric.Int64Counter
	repaired  metric.Int64Counter
	found     metric.Int64Counter

	suspects map[string]stance // consumers that seemed to stand still in the last pass
}

// New returns an audit. Its error names what is wrong with cfg.
func New(cfg Config, deps Deps) (*Audit, error) {
	if cfg.Every <= 0 || cfg.Settle <= 0 {
		return nil, fmt.Errorf("audit: every %s, settle %s, want more than 0s", cfg.Every, cfg.Settle)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	a := &Audit{cfg: cfg, deps: deps, js: deps.JetStream, bound: maxTriggers, suspects: map[string]stance{}}
	errs := [3]error{}
	a.recovered, errs[0] = metrics.TriggersRecovered.Counter()
	a.repaired, errs[1] = metrics.ConsumersRepaired.Counter()
	a.found, errs[2] = metrics.FaultsFound.Counter()
	return a, errors.Join(errs[:]...)
}

// Run makes a pass every Config.Every until ctx ends, and returns nil then. A
// pass that fails is logged and made good by the next.
func (a *Audit) Run(ctx context.Context) error {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-ctx.Done():
			return nil
		}
		res, err := a.RunOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, cursor.ErrHeld): // its turn is another's
		case err != nil:
			a.deps.Log.LogAttrs(ctx, slog.LevelWarn, "audit not finished", slog.Any("err", err))
		case res.More:
			next.Reset(0)
			continue
		}
		next.Reset(a.cfg.Every)
	}
}

// RunOnce makes one pass. It returns [cursor.ErrHeld] while another audit has
// the lease. After any error the next pass begins where this one last noted
// how far it had come, and nothing that was sent again is sent twice.
func (a *Audit) RunOnce(ctx context.Context) (res Result, err error) {
	f := &findings{}
	defer func() { // what was found is told, however the pass ends
		res.Found = len(f.all)
		err = errors.Join(err, a.tell(context.WithoutCancel(ctx), f))
	}()
	if err := a.restore(ctx, f); err != nil {
		return Result{}, err
	}
	lease, err := cursor.Acquire(ctx, a.js, "audit", a.cfg.LeaseTTL)
	if err != nil {
		return Result{}, err
	}
	defer lease.Release()
	return a.pass(lease.Context(), f)
}

// pass is one under the lease.
func (a *Audit) pass(ctx context.Context, f *findings) (res Result, err error) {
	started := time.Now()
	p, err := loadProgress(ctx, a.js)
	if err != nil {
		return Result{}, err
	}
	if err := a.lookBack(ctx, p, f); err != nil {
		return Result{}, err
	}
	// Consumers first: what one is given again is not lost.
	if err := a.missing(ctx, p, f); err != nil {
		return Result{}, err
	}
	repaired, err := a.repair(ctx, p, f)
	res.Repaired = len(repaired)
	if err != nil {
		return res, err
	}
	p.HealthyAt = started
	if p.Undelivered, err = a.undelivered(ctx, started); err != nil {
		return res, err
	}
	var errs []error
	for _, source := range a.cfg.Sources {
		if repaired[topology.EnrichDurable(source)] {
			// The server may still say that it is through with all that it is given
			// again, and none of that would have its outcome yet.
			continue
		}
		if err := a.source(ctx, source, p, f, &res); err != nil {
			errs = append(errs, fmt.Errorf("audit of %s: %w", source, errors.Join(err, context.Cause(ctx))))
		}
	}
	return res, errors.Join(append(errs, p.save(ctx, a.js))...)
}
