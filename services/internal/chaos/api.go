package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

// failures let the source's API fail in each of its ways, wholly or in part.
func failures() (all []fault) {
	for _, how := range simulator.Failures() {
		all = append(all, fault{name: "source API: " + string(how), harm: func(ctx context.Context, w *world, r *rand.Rand) error {
			p := w.provider.Load()
			p.Fail(how, []float64{1, 0.3}[r.IntN(2)])
			defer p.Fail(how, 0)
			return between(ctx, r, 3*time.Second, 15*time.Second)
		}})
	}
	return all
}

// refusals make a storm of dead letters: the API refuses every record for a
// while, for good as it seems. Afterwards an operator replays them, and not what was
// given up for other reasons before: that would fail again, more of it each time.
func refusals() []fault {
	return []fault{{name: "storm of dead letters", replays: true, harm: func(ctx context.Context, w *world, r *rand.Rand) error {
		p := w.provider.Load()
		p.Fail(simulator.FailRefused, 1)
		defer p.Fail("", 0)
		return between(ctx, r, 2*time.Second, 5*time.Second)
	}}}
}

// lastLetter is the sequence of the newest dead letter.
func (w *world) lastLetter(ctx context.Context) (seq uint64, err error) {
	err = asking(ctx, func(ctx context.Context) error {
		letters, err := w.js.Stream(ctx, topology.StreamDLQ)
		if err == nil {
			seq = letters.CachedInfo().State.LastSeq
		}
		return err
	})
	return seq, err
}

// replayers are how many dead letters are replayed at once.
const replayers = 8

// replay sends open dead letters again, as an operator would, those after a sequence,
// and returns how many there were.
func (w *world) replay(ctx context.Context, after uint64) (n int, err error) {
	open := deadletter.Filter{States: []deadletter.State{deadletter.StateOpen}, After: after}
	var replaying errgroup.Group
	replaying.SetLimit(replayers)
	for l, err := range deadletter.List(ctx, w.js, open) {
		if err != nil {
			return n, errors.Join(err, replaying.Wait())
		}
		n++
		replaying.Go(func() error {
			_, err := deadletter.Replay(ctx, w.js, l.Sequence, deadletter.ReplayOptions{})
			return err
		})
	}
	return n, replaying.Wait()
}
