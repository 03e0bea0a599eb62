package model_test

import (
	"flag"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	histories = flag.Int("histories", enough, "how many histories are played")
	first     = flag.Uint64("seed", 1, "the first history's seed; the others' follow")
	worlds    = flag.Int("worlds", 40, "how many histories are played at once")
)

// Promises 6 and 7: once a history has ended and reconciliation has run to its
// end, the destination equals the source, whatever was lost, repeated, late or
// out of order, and wherever services died.
func TestDestinationEqualsSourceAfterReconciliation(t *testing.T) {
	t.Parallel()
	scenes := make(chan scene)
	var failed atomic.Bool
	var reached coverage
	var all sync.WaitGroup
	for range *worlds {
		all.Go(func() {
			for s := range scenes {
				w := newWorld(t, s.setting, &reached)
				for _, seed := range s.seeds {
					if failed.Load() {
						break
					}
					if err := w.play(t.Context(), generate(seed)); err != nil && failed.CompareAndSwap(false, true) {
						tell(t, s.setting, seed, err)
					}
				}
				w.end()
			}
		})
	}
	for _, s := range allScenes() {
		scenes <- s
	}
	close(scenes)
	all.Wait()
	t.Logf("reached:\n%s", &reached)
	if !t.Failed() && *histories >= 1000 { // fewer may miss some of it
		reached.atLeast(t, *histories)
	}
}

// scene are the histories that one world sees.
type scene struct {
	setting
	seeds []uint64
}

// allScenes has each history in the setting that its seed says.
func allScenes() []scene {
	var all []scene
	open := map[string]int{}
	for i := range *histories {
		seed := *first + uint64(i)
		s := settingOf(seed)
		at, ok := open[s.String()]
		if !ok || len(all[at].seeds) == perWorld {
			at = len(all)
			open[s.String()], all = at, append(all, scene{setting: s})
		}
		all[at].seeds = append(all[at].seeds, seed)
	}
	return all
}

// tell reports a history that failed, and then the fewest steps that fail as well.
func tell(t *testing.T, s setting, seed uint64, err error) {
	t.Helper()
	steps := generate(seed)
	t.Errorf("history %d (%s) fails: %v\n\n%s\n\nRepeat it with\n\tgo test ./services/e2e/model -histories 1 -seed %d",
		seed, s, err, text(steps), seed)
	fewest, why := shrink(t, s, steps, err)
	t.Logf("the fewest steps of history %d that fail, with %v:\n\n%s", seed, why, text(fewest))
}

// maxTries and maxShrink bound how many histories shrinking plays, and for how
// long: one that fails by waiting in vain takes minutes.
const (
	maxTries  = 150
	maxShrink = 2 * time.Minute
)

// shrink leaves out steps as long as what is left fails too.
func shrink(t *testing.T, s setting, steps []step, err error) ([]step, error) {
	t.Helper()
	var w *world
	fails := func(steps []step) bool {
		if w == nil || w.used == perWorld {
			if w != nil {
				w.end()
			}
			w = newWorld(t, s, &coverage{})
		}
		failure := w.play(t.Context(), steps)
		if failure != nil {
			err = failure
		}
		return failure != nil
	}
	tries, until := 0, time.Now().Add(maxShrink)
	for size := max(1, len(steps)/2); size >= 1; size /= 2 {
		for at := 0; at+size <= len(steps) && tries < maxTries && time.Now().Before(until); tries++ {
			fewer := slices.Delete(slices.Clone(steps), at, at+size)
			if fails(fewer) {
				steps = fewer
			} else {
				at += size
			}
		}
	}
	if w != nil {
		w.end()
	}
	return steps, err
}
