package run

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/nats-io/nuid"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/report"
)

// Options say what kind of run to begin.
type Options struct {
	Trigger report.Trigger
	// DryRun compares a fresh window and reports, and changes nothing.
	DryRun bool
	// Tombstone has the orphans that a scan finds deleted, whatever the file says.
	Tombstone bool
}

// Run is a run that has begun and holds the lease. Do it.
type Run struct {
	*Runner
	opts    Options
	id      string
	started time.Time
	lease   *cursor.Lease
	store   *cursor.Store
	entry   cursor.Entry
	w       cursor.Window // what has been compared; entry has it as it was last saved
	listed  *listing      // of a scan
	lost    int           // triggers that the run found accepted and without an outcome
	// mostWaiting bounds the gaps that wait for their causes to be looked for, and
	// mostStored the triggers that are kept, where they are not 0.
	mostWaiting, mostStored int
	// caughtUpAt is when the ledger had all events, if the run saw to that.
	caughtUpAt time.Time
	gaps       gaps
	// keep saves the window elsewhere than in the resource's cursor, if set.
	keep func(context.Context, cursor.Window) error
}

// Begin takes the lease and opens a window, or goes on with the one that was
// left. It returns [cursor.ErrHeld] while somebody else is at it, and
// [ErrNotDue] for a scheduled run that is no longer due. The run ends with ctx.
func (r *Runner) Begin(ctx context.Context, o Options) (*Run, error) {
	lease, err := cursor.Acquire(ctx, r.deps.JetStream, r.cfg.Key.Lease(), r.cfg.LeaseTTL)
	if err != nil {
		return nil, err
	}
	run := &Run{Runner: r, opts: o, lease: lease, started: r.deps.Now()}
	for range maxOpens {
		// A replica that isn't at it may be noting a change of the schedule.
		if err = run.open(lease.Context()); !errors.Is(err, cursor.ErrConflict) {
			break
		}
	}
	if err != nil {
		lease.Release()
		return nil, err
	}
	return run, nil
}

// maxOpens bounds the attempts at a cursor that others write.
const maxOpens = 5

func (r *Run) open(ctx context.Context) error {
	var err error
	if r.store, err = r.cursors(ctx); err != nil {
		return err
	}
	if r.entry, err = r.store.Load(ctx, r.cfg.Key); err != nil {
		return err
	}
	if r.opts.Trigger == report.Schedule && r.due(r.entry.Cursor).After(r.deps.Now()) {
		return ErrNotDue
	}
	if left := r.entry.Report; left != nil && !r.opts.DryRun {
		if err := report.Publish(ctx, r.deps.JetStream, *left); err != nil {
			return err
		}
	}
	switch left := r.entry.Window; {
	case left == nil || r.opts.DryRun:
		r.w = r.window(r.entry.Through)
	case r.scans():
		r.w = r.takeUp(*left)
	default:
		r.w = *left
	}
	if r.w.Run == "" {
		r.w.Run = nuid.Next()
	}
	r.id = r.w.Run
	return r.save(ctx, func(c *cursor.Cursor) { c.StartedAt, c.RetryAt, c.Report = r.started, time.Time{}, nil })
}

// window reaches from the last one's end, less an overlap for records whose
// changes became visible late or in the same instant, to what has settled.
func (r *Run) window(through time.Time) cursor.Window {
	if r.scans() {
		return r.scanWindow(r.tombstones())
	}
	w := cursor.Window{To: r.started.Add(-r.list.Settle)}
	if w.To.Before(through) {
		w.To = through // the clock was set back
	}
	switch {
	case !through.IsZero():
		w.From = through.Add(-r.list.Overlap)
	case r.list.Start > 0:
		w.From = r.started.Add(-r.list.Start)
	}
	if w.From.After(w.To) {
		w.From = w.To
	}
	return w
}

// began moves the beginning of the first window to where it lies by the source's
// clock, if this one is ahead of it, and reports whether it did. It might even lie
// behind the end, and nothing before it would ever be listed. A backfill's windows
// are those that were asked for.
func (r *Run) began(p page) (moved bool) {
	date, err := http.ParseTime(p.date)
	if err != nil || r.list.Start == 0 || !r.entry.Through.IsZero() || r.w.Pages > 0 || r.opts.Trigger == report.Backfill {
		return false
	}
	from := date.Add(time.Second - r.list.Start)
	if !from.Before(r.w.From) {
		return false
	}
	begin(&r.w)
	r.w.From, r.w.To, r.w.Slice = from, from, nil
	if to := date.Add(time.Second - r.list.Settle); to.After(from) {
		r.w.To = to
	}
	return true
}

// bounded keeps the window's end behind the source's clock: with one that runs
// behind this one, records that change after they were listed would have times
// from before the end, and no window would ever list them. Its clock is ahead of
// what it says by less than a second.
func (r *Run) bounded(p page) time.Time {
	date, err := http.ParseTime(p.date)
	if err != nil {
		return r.w.To
	}
	to := date.Add(time.Second - r.list.Settle)
	if to.Before(r.entry.Through) {
		to = r.entry.Through
	}
	if to.Before(r.w.From) {
		to = r.w.From
	}
	if to.Before(r.w.To) {
		return to
	}
	return r.w.To
}

// ID identifies the run in its report.
func (r *Run) ID() string { return r.id }

// StartedAt is when the run began.
func (r *Run) StartedAt() time.Time { return r.started }

// DryRun says that the run changes nothing.
func (r *Run) DryRun() bool { return r.opts.DryRun }

// LostInside is how many of the gaps had a trigger that was accepted and has no
// outcome. It must be 0 (promise 3).
func (r *Run) LostInside() int { return r.lost }

// save writes the cursor with the window as it is now. A dry run keeps it to
// itself.
func (r *Run) save(ctx context.Context, change func(*cursor.Cursor)) error {
	if r.keep != nil {
		return r.keep(ctx, r.w)
	}
	if r.opts.DryRun {
		return nil
	}
	if r.listed != nil {
		// The position must not be saved without what was listed in front of it.
		if err := r.listed.keep(ctx, r.w.Scan, r.deps.Now()); err != nil {
			return fmt.Errorf("run %s: %w", r.id, err)
		}
	}
	next, w := r.entry.Cursor, r.w
	next.Window = &w
	change(&next)
	e, err := r.store.Save(ctx, r.entry, next)
	if err != nil {
		return fmt.Errorf("run %s: %w", r.id, err)
	}
	r.entry = e
	r.seen(e)
	return nil
}

// scope is what a list's path may refer to.
func scope(account string) field.Scope {
	if account == event.NoAccount {
		account = ""
	}
	return field.Scope{Values: map[string]string{"account": account}}
}
