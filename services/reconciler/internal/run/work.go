package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// retryMin is the wait after a failure that may pass. It doubles with each
// further one, up to the time between two runs.
const retryMin = 10 * time.Second

// maxErrorBytes bounds the error's text in a report.
const maxErrorBytes = 2048

// Do works through the window, publishes the report and gives the lease back.
// It returns why the run failed, or nil; a run that ended unfinished because it
// had its share of pages has not failed. When the context of Begin ends or the
// lease is lost, there is no report: whoever goes on gives it.
func (r *Run) Do() error {
	defer r.lease.Release()
	ctx, span := otel.Tracer(scopeName).Start(r.lease.Context(), "reconcile "+r.cfg.Key.Source+" "+r.cfg.Key.Resource,
		trace.WithNewRoot(), trace.WithAttributes(attribute.String("tercel.run", r.id)))
	defer span.End()
	err := r.work(ctx)
	if err != nil {
		span.SetStatus(codes.Error, string(fault.ClassOf(err)))
	}
	if ctx.Err() != nil {
		r.deps.Metrics.ended(r.cfg.Key, abandoned)
		return fmt.Errorf("run %s: %w", r.id, context.Cause(ctx))
	}
	if errors.Is(err, cursor.ErrConflict) || errors.Is(err, ledger.ErrConflict) {
		r.deps.Metrics.ended(r.cfg.Key, abandoned)
		return err
	}
	if err != nil || !r.done() {
		return errors.Join(err, r.leave(ctx, err))
	}
	return r.finish(ctx)
}

// done reports whether nothing but the report is missing.
func (r *Run) done() bool { return r.w.Done && (r.w.Scan == nil || r.w.Scan.Over) }

// work compares page after page until the window is done or the run has had
// its share.
func (r *Run) work(ctx context.Context) error {
	if r.scans() {
		return r.scan(ctx)
	}
	if r.w.Done { // only its report is missing
		return nil
	}
	c := comparison{Run: r}
	for n := 0; n < r.list.MaxPages && !r.w.Done; n++ {
		if err := c.step(ctx); err != nil {
			return err
		}
	}
	return c.keepUp(ctx)
}

// step compares the page at the window's position, or finds that another must
// be first.
func (c *comparison) step(ctx context.Context) error {
	p, err := c.fetch(ctx, c.w, c.w.Position)
	if err != nil {
		return fmt.Errorf("list %s: page %d: %w", c.cfg.Key, c.w.Pages+1, err)
	}
	c.w.To = c.bounded(p)
	if c.began(p) {
		return nil // at another time than was asked for
	}
	if p.TooMany {
		if err := c.halve(&c.w); err != nil {
			return fmt.Errorf("list %s: %w", c.cfg.Key, err)
		}
		return c.checkpoint(ctx)
	}
	p, ok, err := c.turn(ctx, p)
	if err != nil || !ok {
		return err
	}
	if err := c.page(ctx, p); err != nil {
		return fmt.Errorf("compare %s: page %d: %w", c.cfg.Key, c.w.Pages+1, err)
	}
	// Every gap of the page is stored: only now may it count as compared
	// (promise 6).
	return c.checkpoint(ctx)
}

// finish advances the cursor to the window's end.
func (r *Run) finish(ctx context.Context) error {
	if r.listed != nil && !r.opts.DryRun {
		if err := r.listed.drop(ctx); err != nil {
			return err
		}
	}
	if r.Stopped() != "" {
		r.deps.Metrics.stoppedOne(r.cfg.Key)
	}
	late, looked := r.lookBack(ctx, r.entry.Late)
	rep := r.explained(ctx, r.report(nil))
	if looked != nil && rep.Evidence.Error == "" {
		rep.Evidence.Error = looked.Error()
	}
	late = r.unsettle(late)
	return r.settle(ctx, rep, complete, func(c *cursor.Cursor) {
		c.Late = late
		c.Through, c.Window, c.OKAt, c.Failures = r.w.To, nil, rep.EndedAt, 0
	})
}

// leave ends a run whose window is not done. The window is kept for the next,
// which gets an id of its own, since this one has its report.
func (r *Run) leave(ctx context.Context, cause error) error {
	if r.scans() && cause == nil { // it goes on after others had their turn
		return r.save(ctx, func(*cursor.Cursor) {})
	}
	rep := r.explained(ctx, r.report(cause))
	r.w.Continues, r.w.Run = r.id, ""
	switch gone := fault.IsPermanent(cause) || errors.Is(cause, sourceapi.ErrNotFound); {
	case gone && r.scans():
		// Also in its second half: with each try what it has listed would be older.
		r.w, r.listed = r.anew(r.w, r.w.Scan.Tombstone), nil
	case gone && !r.w.Done:
		// Perhaps the source no longer knows the page: begin the window again.
		again := cursor.Window{Continues: r.id, From: r.w.From, To: r.w.To, Unread: r.w.Unread}
		if errors.Is(cause, errUnread) {
			again.Unread++
		}
		r.w = again
	}
	if cause == nil {
		return r.settle(ctx, rep, unfinished, func(c *cursor.Cursor) { c.Failures = 0 })
	}
	return r.settle(ctx, rep, failed, func(c *cursor.Cursor) {
		c.RetryAt, c.Failures = r.retryAt(cause, r.entry.Failures), r.entry.Failures+1
	})
}

// settle writes how the run ended and publishes its report. The cursor is first,
// and takes the report along: only whoever could write it has a report to
// publish, and a crash between the two leaves it to the next run.
func (r *Run) settle(ctx context.Context, rep report.Report, how outcome, change func(*cursor.Cursor)) error {
	err := r.save(ctx, func(c *cursor.Cursor) {
		c.EndedAt, c.Report = rep.EndedAt, &rep
		c.Last = cursor.Last{
			Run: rep.Run, Complete: rep.Complete, Listed: rep.Listed, Missed: rep.Missed, Stale: rep.Stale,
			Unreadable: rep.Unreadable, Error: rep.Error,
		}
		if !r.caughtUpAt.IsZero() {
			c.LedgerAt = r.caughtUpAt
		}
		change(c)
		settled := *c
		settled.Report = nil
		c.NextAt = r.next(settled)
	})
	if err != nil {
		return err
	}
	r.deps.Metrics.ended(r.cfg.Key, how)
	r.deps.Metrics.took(ctx, r.cfg.Key, rep.EndedAt.Sub(rep.StartedAt))
	if err := report.Publish(ctx, r.deps.JetStream, rep); err != nil {
		return err
	}
	return r.save(ctx, func(c *cursor.Cursor) { c.Window, c.Report = r.entry.Window, nil })
}

// retryAt is when to try again before the schedule says so, or zero.
func (r *Run) retryAt(cause error, failures int) time.Time {
	now := r.deps.Now()
	own := now.Add(retryMin << min(failures, 20))
	if next := r.every().Next(now, 0.5); next.Before(own) {
		own = next
	}
	wait, asked := fault.Delay(cause)
	switch at := now.Add(wait); {
	case fault.IsPermanent(cause):
		return time.Time{}
	case asked && (at.After(own) || !fault.IsPostponed(cause)):
		return at
	default: // the API may be tried again before a whole run makes sense
		return own
	}
}

func (r *Run) report(cause error) report.Report {
	rep := report.Report{
		Run: r.id, Continues: r.w.Continues, Source: r.cfg.Key.Source, Account: r.cfg.Key.Account, Resource: r.cfg.Key.Resource,
		Trigger: r.opts.Trigger, DryRun: r.opts.DryRun, From: r.w.From, To: r.w.To,
		StartedAt: r.started, EndedAt: r.deps.Now(), Pages: r.w.Pages, Counts: r.w.Counts,
		Complete: r.w.Done && cause == nil && r.w.Counts.Unreadable == 0, CaughtUp: !r.w.Behind, Records: r.w.Records,
		Sets: r.w.Sets, Destinations: r.w.Destinations,
	}
	if r.scans() {
		r.scanned(&rep, cause)
	}
	if cause != nil {
		rep.Error = errorText(cause)
	}
	return rep
}

// errorText is an error as a report has it. A cut character would keep that
// from being written.
func errorText(err error) string {
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), maxErrorBytes)], "")
}
