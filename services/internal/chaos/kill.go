package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// kills end each process as a crash does, and start it again a moment later.
func kills() (all []fault) {
	for _, name := range memberNames() {
		all = append(all, fault{name: "kill of " + name, harm: func(ctx context.Context, w *world, r *rand.Rand) error {
			m := w.members[name]
			m.Kill()
			if err := between(ctx, r, 0, 5*time.Second); err != nil {
				return err
			}
			return m.Launch()
		}})
	}
	return all
}

// pauses let each process stand still, with its connections open and its leases
// and messages in hand, some for longer than those last.
func pauses() (all []fault) {
	for _, name := range memberNames() {
		all = append(all, fault{name: "pause of " + name, harm: func(ctx context.Context, w *world, r *rand.Rand) error {
			m := w.members[name]
			if err := m.Pause(); err != nil {
				return err
			}
			err := between(ctx, r, time.Second, 15*time.Second)
			if resumed := m.Resume(); resumed != nil {
				return resumed
			}
			return err
		}})
	}
	return all
}
