package run

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
)

// Due returns when the next scheduled run may begin: at once for the first and
// for what a run has left to do that died, at the time that a failure asked for,
// else when the schedule says so. Orphans are looked for once the resource has
// been reconciled.
func (r *Runner) Due(ctx context.Context) (time.Time, error) {
	store, err := r.cursors(ctx)
	if err != nil {
		return time.Time{}, err
	}
	e, err := store.Load(ctx, r.cfg.Key)
	if err != nil {
		return time.Time{}, err
	}
	r.seen(e)
	if r.scans() && e.StartedAt.IsZero() {
		if ready, err := r.reconciled(ctx, store); err != nil || !ready {
			return r.deps.Now().Add(scanDelay), err
		}
	}
	if !e.StartedAt.IsZero() && !e.InHand() && !e.NextAt.Equal(r.next(e.Cursor)) {
		// The schedule has changed since. Whoever begins a run meanwhile knows it too.
		next := e.Cursor
		next.NextAt = r.next(e.Cursor)
		if _, err := store.Save(ctx, e, next); err != nil && !errors.Is(err, cursor.ErrConflict) {
			return time.Time{}, err
		}
	}
	return r.due(e.Cursor), nil
}

// due is when the next run may begin by this replica's clock. The clock that
// noted the last one may have been ahead, or this one may have been set back
// since: so it waits no longer than if that run were when it first heard of it.
func (r *Runner) due(c cursor.Cursor) time.Time {
	now := r.deps.Now()
	if c.StartedAt.IsZero() || c.InHand() {
		return now
	}
	due, heard := r.next(c), r.last.heard(c, now)
	late := r.every().Next(heard, r.spread(c.StartedAt))
	if !c.RetryAt.IsZero() {
		late = heard.Add(c.RetryAt.Sub(c.EndedAt))
	}
	// Not which is earlier: if the clock was set since, only what was heard shows
	// how much time has passed.
	if late.Sub(now) < due.Sub(now) {
		return late
	}
	return due
}

// next is when the next run is due by the clock that noted the last one.
func (r *Runner) next(c cursor.Cursor) time.Time {
	switch {
	case c.StartedAt.IsZero(), c.InHand():
		return r.deps.Now()
	case !c.RetryAt.IsZero():
		return c.RetryAt
	}
	return r.every().Next(c.StartedAt, r.spread(c.StartedAt))
}

// lastRun is the run that was the last, and when this replica first heard of it.
type lastRun struct {
	mu             sync.Mutex // guards those below
	started, ended time.Time
	at             time.Time
}

func (l *lastRun) heard(c cursor.Cursor, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.started.Equal(c.StartedAt) || !l.ended.Equal(c.EndedAt) {
		l.started, l.ended, l.at = c.StartedAt, c.EndedAt, now
	}
	return l.at
}

// spread is the place of the run after the one that began at last among all
// that share a schedule: by chance, but the same for all replicas.
func (r *Runner) spread(last time.Time) float64 {
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(r.cfg.Key.String()), uint64(last.UnixNano())))
	return float64(binary.BigEndian.Uint32(h[:])) / (1 << 32)
}
