package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nuid"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/report"
)

// A scan for orphans is a run with a cursor and a lease of its own, so that it
// holds up no other. It reads the whole list, page by page, and keeps nothing of
// it but the hashes of ids. Only when the last page was read it looks at what is
// held: see orphans.go.

// scanShare is how many pages a scheduled scan reads before other resources of
// its source have their turn.
const scanShare = 100

// maxShown is how many of the records that were listed last a scan remembers.
const maxShown = 3

// scans reports whether the runner looks for orphans.
func (r *Runner) scans() bool { return r.cfg.Key.Work == cursor.Deletes }

// scanDelay is the time between two looks whether a resource has been reconciled.
const scanDelay = 10 * time.Second

// reconciled reports whether the resource has been reconciled.
func (r *Runner) reconciled(ctx context.Context, store *cursor.Store) (bool, error) {
	k := r.cfg.Key
	k.Work = ""
	e, err := store.Load(ctx, k)
	return !e.Through.IsZero(), err
}

// ScanLeft reports whether somebody works on a scan for the resource's orphans, or
// died while doing so.
func (r *Runner) ScanLeft(ctx context.Context) (bool, error) {
	store, err := r.cursors(ctx)
	if err != nil {
		return false, err
	}
	k := r.cfg.Key
	k.Work = cursor.Deletes
	e, err := store.Load(ctx, k)
	return e.InHand(), err
}

// every is when runs begin.
func (r *Runner) every() provider.Schedule {
	if r.scans() {
		return r.deletes.Every
	}
	return r.list.Every
}

// seen tells the gauges, which are of reconciliation alone.
func (r *Runner) seen(e cursor.Entry) {
	if !r.scans() {
		r.deps.Metrics.Seen(e)
	}
}

// buries reports whether orphans are deleted at the destinations.
func (r *Run) buries() bool { return r.w.Scan.Tombstone && !r.opts.DryRun }

// tombstones is whether a scan of this run's own deletes orphans: a scheduled one does
// so when the file says it, any other when it is told.
func (r *Run) tombstones() bool {
	return r.opts.Tombstone || r.opts.Trigger == report.Schedule && r.deletes.Tombstone
}

// scanWindow is the whole list. What changed since it began may be nowhere in it.
func (r *Run) scanWindow(tombstones bool) cursor.Window {
	w := cursor.Window{
		From: r.deletes.Since.Time, To: r.started.Add(-r.list.Settle),
		Scan: &cursor.Scan{Listing: nuid.Next(), Began: r.started, Tombstone: tombstones},
	}
	if w.To.Before(r.entry.Through) {
		w.To = r.entry.Through // the clock was set back
	}
	if w.From.After(w.To) {
		w.From = w.To
	}
	return w
}

// takeUp is the window of a scan where one was left. It goes on in that, in the name of
// whoever began it and as they wanted it, unless somebody asks for another kind of scan,
// or nothing was read: then it begins anew, since that may be long ago.
func (r *Run) takeUp(left cursor.Window) cursor.Window {
	tombstones := r.tombstones()
	if left.Run != "" && r.opts.Trigger != report.Demand {
		tombstones = left.Scan.Tombstone
	}
	if left.Pages > 0 && left.Scan.Tombstone == tombstones {
		return left
	}
	return r.anew(left, tombstones)
}

// anew begins a scan again from its first page.
func (r *Run) anew(left cursor.Window, tombstones bool) cursor.Window {
	w := r.scanWindow(tombstones)
	w.Run, w.Continues = left.Run, left.Continues
	return w
}

// scan lists on, and looks for orphans once all is listed.
func (r *Run) scan(ctx context.Context) error {
	if r.w.Scan.Over { // only its report is missing
		return nil
	}
	var err error
	r.listed, err = openListing(ctx, r.deps.JetStream, r.cfg.Key, *r.w.Scan, r.deps.Now())
	if errors.Is(err, errDamaged) {
		r.w = r.anew(r.w, r.w.Scan.Tombstone)
		r.listed, err = openListing(ctx, r.deps.JetStream, r.cfg.Key, *r.w.Scan, r.deps.Now())
	}
	if err != nil {
		return err
	}
	c := comparison{Run: r}
	for n := 0; !r.w.Done; n++ {
		if n == scanShare && r.opts.Trigger == report.Schedule {
			return nil
		}
		if err := c.step(ctx); err != nil {
			return err
		}
	}
	r.listed.order()
	return c.orphans(ctx)
}

// checkpoint saves the window after a page. A scan does so now and then only, since
// what it lists has to be stored with it.
func (r *Run) checkpoint(ctx context.Context) error {
	if r.scans() && !r.w.Done && !r.listed.due(r.deps.Now()) {
		return nil
	}
	return r.save(ctx, func(*cursor.Cursor) {})
}

// see notes that a page showed a record, with or without an id. One that has the
// signs of a record that is gone is as good as not listed.
func (c *comparison) see(rec record, next *cursor.Window) {
	if c.cfg.Resource.IsGone(rec.body) {
		return
	}
	if rec.id == "" {
		next.Scan.Nameless++
		return
	}
	c.seen = append(c.seen, ledger.Hash(rec.id))
	next.Scan.Shown = append(next.Scan.Shown, rec.id)
	if over := len(next.Scan.Shown) - maxShown; over > 0 {
		next.Scan.Shown = next.Scan.Shown[over:]
	}
}

// scanned is what the report says of a scan.
func (r *Run) scanned(rep *report.Report, cause error) {
	found := r.w.Scan.Found
	rep.Deletes, rep.StartedAt = &found, r.w.Scan.Began
	rep.Complete = r.w.Scan.Over && cause == nil && found.Stopped == "" && found.Unchecked == 0
}

// scanConfig is how orphans of a resource are looked for.
func scanConfig(res provider.Resource) (provider.Deletes, error) {
	d := provider.DefaultDeletes()
	if res.Reconcile.Deletes != nil {
		d = *res.Reconcile.Deletes
	}
	if err := res.Scannable(d); err != nil {
		return d, fmt.Errorf("look for orphans: %w", err)
	}
	return d, nil
}

// Stopped is why a scan for orphans asked for none of them, or "". It says that
// the list isn't whole, or that far more is gone than is usual.
func (r *Run) Stopped() string {
	if r.w.Scan == nil || r.opts.DryRun {
		return ""
	}
	return r.w.Scan.Found.Stopped
}
