package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// database is the name of the PostgreSQL server.
const database = "postgres"

// databases harm the PostgreSQL server: it is killed, stands still with all its
// connections open, and has no room on its disk.
func databases() []fault {
	return []fault{{name: "kill of postgres", harm: func(ctx context.Context, w *world, r *rand.Rand) error {
		if err := w.db.Kill(); err != nil {
			return err
		}
		if err := between(ctx, r, 0, 5*time.Second); err != nil {
			return err
		}
		return w.db.Start()
	}}, {name: "pause of postgres", harm: func(ctx context.Context, w *world, r *rand.Rand) error {
		if err := w.db.Pause(); err != nil {
			return errors.Join(err, w.db.Resume())
		}
		return errors.Join(between(ctx, r, time.Second, 30*time.Second), w.db.Resume())
	}}, {name: "full disk of postgres", possible: (*world).onDisks, harm: func(ctx context.Context, w *world, r *rand.Rand) error {
		if err := w.disks[database].Fill(); err != nil {
			return err
		}
		if err := errors.Join(between(ctx, r, 5*time.Second, 20*time.Second), w.disks[database].Release()); err != nil {
			return err
		}
		// It has ended if it could not write its log; to start it again is an
		// operator's to do, once there is room.
		return errors.Join(w.db.Kill(), w.db.Start())
	}}}
}
