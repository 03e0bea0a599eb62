package run

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
)

// Due returns when the next scheduled run may begin: at once for the first and
// for what a run has left to do that died, at the time that a failure asked for,
// else when the schedule says so. Orphans are looked for once the resource has
// been reconciled.
func (r *Runner) Due(ctx context.Context) (time.Time, error) {
	store, err := cursor.Open(ctx, r.deps.JetStream)
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
	due := r.due(e.Cursor)
	if !e.StartedAt.IsZero() && !e.InHand() && !e.NextAt.Equal(due) {
		// The schedule has changed since. Whoever begins a run meanwhile knows it too.
		next := e.Cursor
		next.NextAt = due
		if _, err := store.Save(ctx, e, next); err != nil && !errors.Is(err, cursor.ErrConflict) {
			return time.Time{}, err
		}
	}
	return due, nil
}

func (r *Runner) due(c cursor.Cursor) time.Time {
	switch {
	case c.StartedAt.IsZero(), c.InHand():
		return r.deps.Now()
	case !c.RetryAt.IsZero():
		return c.RetryAt
	}
	return r.every().Next(c.StartedAt, r.spread(c.StartedAt))
}

// spread is the place of the run after the one that began at last among all
// that share a schedule: by chance, but the same for all replicas.
func (r *Runner) spread(last time.Time) float64 {
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(r.cfg.Key.String()), uint64(last.UnixNano())))
	return float64(binary.BigEndian.Uint32(h[:])) / (1 << 32)
}
