package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// kills end each process as a crash does, and start it again a moment later. At a
// modest rate a process has hardly ever something in hand, so all that it asks of
// others is made slow first, and it dies in the midst of that.
func kills() (all []fault) {
	for _, name := range memberNames() {
		all = append(all, fault{name: "kill of " + name, harm: func(ctx context.Context, w *world, r *rand.Rand) error {
			m, asked := w.members[name], w.links(func(k way) bool { return k.from == name })
			for _, l := range asked {
				l.Delay(slow)
			}
			err := between(ctx, r, time.Second, 2*time.Second)
			m.Kill()
			for _, l := range asked {
				l.Mend()
			}
			return errors.Join(err, between(ctx, r, 0, 5*time.Second), m.Launch())
		}})
	}
	return all
}

// slow is how late each byte is, each way.
const slow = 100 * time.Millisecond

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
