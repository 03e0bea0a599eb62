package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	disks "github.com/tercelhq/tercel/services/internal/chaos/disk"
	"github.com/tercelhq/tercel/services/internal/process"
)

// diskSize is that of the file system of each node, and of the database's. Only
// what is written takes space.
const diskSize = 8 << 30

// newStore makes the folder that a process stores in: on a file system of its own,
// where there can be one.
func (w *world) newStore(name string) (dir string, err error) {
	dir = w.path("store", name)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", err
	}
	if w.onDisks() == nil {
		d, err := disks.New(dir, diskSize)
		if err != nil {
			return "", err
		}
		w.ends = append(w.ends, func() { _ = d.Close() }) // once the process has ended
		w.disks[name], dir = d, d.Path()
	}
	w.stores[name] = dir
	return dir, nil
}

// onDisks returns nil if processes have disks of their own, that can be full or
// lose power.
func (*world) onDisks() error { return disks.Possible() }

// powerCuts take the power of a node, and of all at one moment: what they had not
// synced is gone.
func powerCuts() []fault {
	possible := (*world).onDisks
	return []fault{{name: "power loss of a node", possible: possible, harm: func(ctx context.Context, w *world, r *rand.Rand) error {
		return w.losePower(ctx, r, nodeName(r.IntN(nodes)))
	}}, {name: "power loss of all nodes", possible: possible, harm: func(ctx context.Context, w *world, r *rand.Rand) error {
		return w.losePower(ctx, r, nodeNames()...)
	}}}
}

func (w *world) losePower(ctx context.Context, r *rand.Rand, names ...string) error {
	for _, name := range names { // from here on none acknowledges anything
		if err := w.members[name].Pause(); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := w.disks[name].Cut(); err != nil {
			return err
		}
	}
	for _, name := range names {
		w.members[name].Kill()
	}
	if err := between(ctx, r, 0, 5*time.Second); err != nil {
		return err
	}
	for _, name := range names {
		if err := errors.Join(w.disks[name].Restore(), w.members[name].Launch()); err != nil {
			return err
		}
	}
	return nil
}

// fullStores leave no room on the disk of a node, and of all. A server that can't
// write turns JetStream off until it is started again, which is an operator's to
// do, once there is room.
func fullStores() []fault {
	possible := (*world).onDisks
	return []fault{{name: "full disk of a node", possible: possible, harm: func(ctx context.Context, w *world, r *rand.Rand) error {
		return w.fillUp(ctx, r, nodeName(r.IntN(nodes)))
	}}, {name: "full disk of all nodes", possible: possible, harm: func(ctx context.Context, w *world, r *rand.Rand) error {
		return w.fillUp(ctx, r, nodeNames()...)
	}}}
}

// noticeTime bounds the wait until a server tells that its disk is full. Of several
// not each may: once others have noticed nothing can be stored, and it has nothing
// to write. If none does, no harm was done.
const noticeTime = 20 * time.Second

func (w *world) fillUp(ctx context.Context, r *rand.Rand, names ...string) error {
	for _, name := range names {
		if err := w.disks[name].Fill(); err != nil {
			return err
		}
	}
	noticed := false
	for _, name := range names {
		noticed = w.becomesUnwell(ctx, w.members[name]) || noticed
	}
	if err := between(ctx, r, time.Second, 5*time.Second); err != nil {
		return err
	}
	for _, name := range names {
		if err := w.disks[name].Release(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, name := range names {
		if err := w.restart(ctx, w.members[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if !noticed {
		return fmt.Errorf("no server was unwell within %s of its disk being full", noticeTime)
	}
	return nil
}

// becomesUnwell waits for a process to say that it isn't ready, for a while.
func (*world) becomesUnwell(ctx context.Context, m *member) bool {
	ctx, cancel := context.WithTimeout(ctx, noticeTime)
	defer cancel()
	return process.Await(ctx, func(ctx context.Context) error {
		if m.Ready(ctx) == nil {
			return errors.New("it is well")
		}
		return nil
	}) == nil
}
