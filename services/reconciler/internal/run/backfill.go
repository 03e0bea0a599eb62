package run

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nuid"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/pkg/topology"
)

// A backfill compares a time that somebody asked for, beside the schedule and
// by the same steps: it has no part in the resource's cursor, nor in what that
// says to be complete, and needs no bound on its pages since it is watched. Its
// way in one account is a stretch, in slices of time that are listed at once.
// The slices have their positions in one key, which is written by compare-and-set:
// a runner that was paused and comes back after another took over writes
// nothing.

const (
	// maxFailures is how many failures in a row, without a page between them, end
	// a stretch: about an hour of them.
	maxFailures = 14
	// failureMax bounds the wait after one, unless the source asks for more.
	failureMax = 5 * time.Minute
	// maxAhead is how many triggers may wait for the enricher before a backfill
	// sends more: those of webhooks queue behind them.
	maxAhead = 1000
)

// errCancelled ends a stretch in its report.
var errCancelled = errors.New("cancelled by an operator")

// BackfillOptions are a backfill, and what its accounts have in common.
type BackfillOptions struct {
	cursor.Backfill
	Store *cursor.Backfills
	// Pace bounds the records compared, of all accounts together.
	Pace *rate.Limiter
}

// Backfill works on the runner's account until its report is published, which
// it returns: at once, and without one, if that was done before. What fails and
// may pass it tries again. Its error is the context's, [cursor.ErrConflict] if
// somebody else works on the account, or that of a server that is away; the
// stretch stands at its last saved page then.
func (r *Runner) Backfill(ctx context.Context, o BackfillOptions) (report.Report, error) {
	s, err := r.stretch(ctx, o)
	if err != nil || s.ended() {
		return report.Report{}, err
	}
	for {
		if err := s.rest(ctx); err != nil {
			return report.Report{}, err
		}
		rep, err := s.attempt(ctx)
		if err != nil || rep.Run != "" {
			return rep, err
		}
	}
}

// Cancel gives up the runner's account and returns the report of what was done
// there, or none if nothing was begun or that is at its end.
func (r *Runner) Cancel(ctx context.Context, o BackfillOptions) (report.Report, error) {
	s, err := r.stretch(ctx, o)
	if err != nil || s.st.Run == "" || s.ended() {
		return report.Report{}, err
	}
	return s.finish(ctx, errCancelled, s.st)
}

// stretch is a backfill's way in one account.
type stretch struct {
	*Runner
	job  BackfillOptions
	view *view

	mu sync.Mutex // guards st, which slices save
	st cursor.Stretch
}

func (r *Runner) stretch(ctx context.Context, o BackfillOptions) (*stretch, error) {
	st, err := o.Store.Stretch(ctx, o.ID, r.cfg.Key.Account)
	if err != nil {
		return nil, err
	}
	s := &stretch{Runner: r, job: o, st: st}
	if err := s.tell(ctx); err != nil {
		return nil, err
	}
	st = s.st
	if again := !st.EndedAt.IsZero() && !st.Complete && st.Attempt < o.Attempt; again {
		s.st = renew(st, func(w cursor.Window) bool { return w.Done && w.Counts.Unreadable > 0 })
		s.st.Restarted = false
	}
	s.st.Attempt = o.Attempt
	return s, nil
}

func (s *stretch) ended() bool { return !s.st.EndedAt.IsZero() }

// renew begins a run that continues the stretch's last one, and begins those
// slices again that the last run left in vain.
func renew(st cursor.Stretch, vain func(cursor.Window) bool) cursor.Stretch {
	st.Continues, st.Run = st.Run, nuid.Next()
	st.EndedAt, st.RetryAt, st.Error, st.Failures = time.Time{}, time.Time{}, "", 0
	st.Slices = slices.Clone(st.Slices)
	for i, w := range st.Slices {
		if vain(w) {
			st.RepairedBefore += w.Counts.Repaired
			st.Slices[i] = cursor.Window{From: w.From, To: w.To}
		}
	}
	return st
}

// rest waits until a failed stretch may be tried again, but no longer than was
// meant when that was written, by whatever clock.
func (s *stretch) rest(ctx context.Context) error {
	wait := time.NewTimer(max(0, min(s.st.RetryAt.Sub(s.deps.Now()), s.st.RetryAt.Sub(s.st.UpdatedAt))))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
	return context.Cause(ctx) // nil, unless it has ended
}

// attempt goes on until all slices are done or one has failed. Without a
// report and an error it is to be tried again.
func (s *stretch) attempt(ctx context.Context) (report.Report, error) {
	err := s.work(ctx)
	switch {
	case ctx.Err() != nil:
		return report.Report{}, context.Cause(ctx)
	case errors.Is(err, cursor.ErrConflict):
		return report.Report{}, err
	case err == nil:
		return s.finish(ctx, nil, s.st)
	default:
		return s.trouble(ctx, err)
	}
}

func (s *stretch) work(ctx context.Context) error {
	if err := s.plan(ctx); err != nil {
		return err
	}
	if s.cfg.Source != nil {
		return s.events(ctx)
	}
	caughtUp, err := s.awaitEnriched(ctx)
	if err != nil {
		return err
	}
	if s.view, err = s.openView(ctx); err != nil {
		return err
	}
	behind, err := s.awaitDelivered(ctx)
	if err != nil {
		return err
	}
	border := markedBy(s.st.Slices)
	g, ctx := errgroup.WithContext(ctx)
	for i, st := 0, s.st; i < len(st.Slices); i++ { // st is as it was before any slice is saved
		w := st.Slices[i]
		if w.Done {
			continue
		}
		w.Behind = w.Behind || !caughtUp
		c := &comparison{Run: s.run(st, w), book: s.view, behind: behind}
		if n := len(st.Slices); n > 1 {
			c.borders = &borders{marked: border, slice: i, below: i > 0, above: i < n-1}
		}
		c.keep = s.keep(i, c, st.Oldest)
		g.Go(func() error { return s.slice(ctx, i, c) })
	}
	return g.Wait()
}

// events compares a list of events, which is not cut.
func (s *stretch) events(ctx context.Context) error {
	st := s.st
	c := &comparison{Run: s.run(st, st.Slices[0])}
	if c.w.Done {
		return nil
	}
	c.keep = s.keep(0, c, st.Oldest)
	return s.slice(ctx, 0, c)
}

// keep saves the window of a slice.
func (s *stretch) keep(i int, c *comparison, oldest time.Time) func(context.Context, cursor.Window) error {
	return func(ctx context.Context, w cursor.Window) error {
		w.Share = c.share(w, oldest)
		return s.save(ctx, i, w)
	}
}

// run is the run that works on a window of the stretch.
func (s *stretch) run(st cursor.Stretch, w cursor.Window) *Run {
	r := &Run{
		Runner: s.Runner, opts: Options{Trigger: report.Backfill, DryRun: s.job.DryRun}, id: st.Run, started: st.StartedAt, w: w,
	}
	r.mostWaiting = maxWaiting / max(1, len(st.Slices))
	if s.job.Attempt > 0 { // whoever resumes it has seen that records can't be read
		r.entry.Failures = maxUnread
	}
	return r
}

// broken is why a slice can't go on.
type broken struct {
	slice int
	err   error
}

func (b *broken) Error() string { return b.err.Error() }
func (b *broken) Unwrap() error { return b.err }

// slice compares the pages of one slice until it is done.
func (s *stretch) slice(ctx context.Context, i int, c *comparison) error {
	for !c.w.Done {
		if s.view != nil {
			if err := s.view.refresh(ctx); err != nil {
				return err
			}
		}
		before := c.w.Counts
		if err := c.step(ctx); err != nil {
			return &broken{i, err}
		}
		if c.w.Counts.Repaired > before.Repaired {
			if err := s.room(ctx); err != nil {
				return err
			}
		}
		if err := pay(ctx, s.job.Pace, c.w.Counts.Listed-before.Listed); err != nil {
			return err
		}
	}
	if len(c.gaps.waiting) == 0 {
		return nil
	}
	c.explainWaiting(ctx)
	return c.keep(ctx, c.w)
}

// pay takes n from a limiter, whatever its burst.
func pay(ctx context.Context, l *rate.Limiter, n int) error {
	for burst := l.Burst(); n > 0; n -= burst {
		if err := l.WaitN(ctx, min(n, burst)); err != nil {
			return err
		}
	}
	return nil
}

// room waits, for a bounded time, until few triggers wait for the enricher.
func (s *stretch) room(ctx context.Context) error {
	_, err := s.poll(ctx, func() (bool, error) {
		cons, err := s.deps.JetStream.Consumer(ctx, topology.StreamRaw, topology.EnrichDurable(s.cfg.Key.Source))
		if err != nil {
			return true, nil //nolint:nilerr // nobody enriches yet, which the report says
		}
		i := cons.CachedInfo()
		return i.NumPending+uint64(i.NumAckPending) <= maxAhead, nil
	})
	return err
}

// save stores a slice's window behind a page that was compared (promise 6).
func (s *stretch) save(ctx context.Context, i int, w cursor.Window) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.st
	next.Slices = slices.Clone(next.Slices)
	named := 0
	for j, o := range next.Slices {
		if j != i {
			named += len(o.Records)
		}
	}
	w.Records = w.Records[:min(len(w.Records), max(0, report.MaxRecords-named))]
	next.Slices[i] = w
	next.Failures, next.RetryAt, next.Error = 0, time.Time{}, ""
	return s.put(ctx, next)
}

// put stores the stretch. The mutex is held, or no slice is at work.
func (s *stretch) put(ctx context.Context, next cursor.Stretch) error {
	next.UpdatedAt = s.deps.Now()
	saved, err := s.job.Store.SaveStretch(ctx, s.job.ID, next)
	if err == nil {
		s.st = saved
	}
	return err
}

// trouble decides what becomes of a stretch after a failure: it waits, begins a
// slice again, or ends.
func (s *stretch) trouble(ctx context.Context, cause error) (report.Report, error) {
	next := s.st
	next.Failures++
	var b *broken
	gone := fault.IsPermanent(cause) || errors.Is(cause, sourceapi.ErrNotFound)
	switch {
	case gone && errors.As(cause, &b):
		// Perhaps the source no longer knows the page: begin the slice again, by
		// itself once, then when somebody asks for it.
		left := s.st.Slices[b.slice]
		next.Slices = slices.Clone(next.Slices)
		next.Slices[b.slice] = cursor.Window{From: left.From, To: left.To}
		next.RepairedBefore += left.Counts.Repaired
		if left.Pages == 0 || s.st.Restarted {
			return s.finish(ctx, cause, next)
		}
		next = renew(next, func(cursor.Window) bool { return false })
		next.Restarted = true
		return report.Report{}, s.settle(ctx, s.report(ctx, cause), next)
	case gone || next.Failures >= maxFailures:
		return s.finish(ctx, cause, next)
	}
	wait, _ := fault.Delay(cause)
	own := min(retryMin<<min(next.Failures-1, 20), failureMax)
	next.RetryAt, next.Error = s.deps.Now().Add(max(wait, own)), errorText(cause)
	return report.Report{}, s.put(ctx, next)
}

// finish ends the stretch as next, with its report.
func (s *stretch) finish(ctx context.Context, cause error, next cursor.Stretch) (report.Report, error) {
	rep := s.report(ctx, cause)
	o := complete
	if cause != nil {
		o = failed
	}
	next.Complete, next.Error, next.EndedAt, next.RetryAt = rep.Complete, rep.Error, rep.EndedAt, time.Time{}
	if err := s.settle(ctx, rep, next); err != nil {
		return report.Report{}, err
	}
	s.deps.Metrics.ended(s.cfg.Key, o)
	return rep, nil
}

// settle saves the stretch with a report and publishes that, in this order: only
// whoever could save it has a report to publish, and a crash between the two
// leaves it to whoever goes on.
func (s *stretch) settle(ctx context.Context, rep report.Report, next cursor.Stretch) error {
	next.Report = &rep
	if err := s.put(ctx, next); err != nil {
		return err
	}
	return s.tell(ctx)
}

// tell publishes the report that the stretch was saved with, if there is one.
func (s *stretch) tell(ctx context.Context) error {
	next := s.st
	if next.Report == nil {
		return nil
	}
	if err := report.Publish(ctx, s.deps.JetStream, *next.Report); err != nil {
		return err
	}
	next.Report = nil
	return s.put(ctx, next)
}

func (s *stretch) report(ctx context.Context, cause error) report.Report {
	r := s.run(s.st, s.st.Total())
	return r.explained(ctx, r.report(cause))
}
