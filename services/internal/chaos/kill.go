package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// kills end each process as a crash of its machine does, and start it again a
// moment later. At a modest rate a process has hardly ever something in hand, so it
// gets no answers from others first, and what it has sent them is lost with it.
func kills() (all []fault) {
	for _, name := range memberNames() {
		all = append(all, fault{name: "kill of " + name, kind: "kill of " + aMember(name), harm: func(ctx context.Context, w *world, r *rand.Rand) error {
			m := w.members[name]
			asked := w.links(func(k way) bool { return k.from == name && asks(m.kind, k.to) })
			for _, l := range asked {
				l.Hold()
			}
			err := between(ctx, r, 500*time.Millisecond, 1500*time.Millisecond)
			m.Kill()
			for _, l := range asked {
				l.Cut()
				l.Mend()
			}
			return errors.Join(err, between(ctx, r, 0, 5*time.Second), m.Launch())
		}})
	}
	return all
}

// asks tells whether a process has to hear from another before it is done with
// something: an ingress and a node from nodes, the others from API or database.
func asks(kind, to string) bool {
	return isNode(to) == (kind == "ingress" || kind == server)
}

// pauses let each process stand still, with its connections open and its leases
// and messages in hand, some for longer than those last.
func pauses() (all []fault) {
	for _, name := range memberNames() {
		all = append(all, fault{name: "pause of " + name, kind: "pause of " + aMember(name), harm: func(ctx context.Context, w *world, r *rand.Rand) error {
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
