package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// kills end each process as a crash does, and start it again a moment later. At a
// modest rate a process has hardly ever something in hand, so it is given a
// backlog first and dies in the midst of it.
func kills() (all []fault) {
	for _, name := range memberNames() {
		all = append(all, fault{name: "kill of " + name, harm: func(ctx context.Context, w *world, r *rand.Rand) error {
			m := w.members[name]
			if err := m.hold(ctx, r, time.Second, 3*time.Second); err != nil {
				return err
			}
			if err := between(ctx, r, 5*time.Millisecond, 200*time.Millisecond); err != nil {
				return err
			}
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
			return w.members[name].hold(ctx, r, time.Second, 15*time.Second)
		}})
	}
	return all
}

// hold lets a process stand still for a while.
func (m *member) hold(ctx context.Context, r *rand.Rand, least, most time.Duration) error {
	if err := m.Pause(); err != nil {
		return err
	}
	return errors.Join(between(ctx, r, least, most), m.Resume())
}
