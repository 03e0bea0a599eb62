package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// restarts ask each process to end by SIGTERM, and start it again.
func restarts() (all []fault) {
	for _, name := range memberNames() {
		all = append(all, fault{name: "restart of " + name, kind: "restart of " + aMember(name), harm: func(ctx context.Context, w *world, _ *rand.Rand) error {
			return w.restart(ctx, w.members[name])
		}})
	}
	return all
}

// restart ends a process, which must do so by itself and well, and starts it
// again.
func (w *world) restart(ctx context.Context, m *member) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := m.Stop(ctx); err != nil {
		return err
	}
	return m.Launch()
}

// upgrades restart all there is, one process after the other, as a rolling
// upgrade does: the next one once the last is ready.
func upgrades() []fault {
	return []fault{{name: "rolling upgrade of all services", harm: func(ctx context.Context, w *world, r *rand.Rand) error {
		return w.upgrade(ctx, r, serviceNames())
	}}, {name: "rolling upgrade of all nodes", harm: func(ctx context.Context, w *world, r *rand.Rand) error {
		return w.upgrade(ctx, r, nodeNames())
	}}}
}

func (w *world) upgrade(ctx context.Context, r *rand.Rand, names []string) error {
	names = slices.Clone(names)
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names {
		m := w.members[name]
		if err := w.restart(ctx, m); err != nil {
			return err
		}
		if err := m.AwaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}
