package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tercelhq/tercel/services/internal/process"
	"github.com/tercelhq/tercel/services/internal/proof"
)

// runner plays faults in a world.
type runner struct {
	options
	w     *world
	load  *load
	far   *proof.Destination
	out   io.Writer
	began time.Time
	table table
}

// play makes a world, plays faults in it and says what came of it.
func play(ctx context.Context, o options, chosen []fault, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "tercel-chaos-")
	if err != nil {
		return err
	}
	r := &runner{options: o, out: out, began: time.Now(), table: table{Seed: o.seed}}
	r.say("seed %d; logs are in %s", o.seed, dir)
	defer func() {
		if err == nil && !o.keep {
			err = os.RemoveAll(dir)
		}
	}()
	r.w, err = newWorld(ctx, dir, plan{
		retention: o.retention(),
		clocks:    slices.ContainsFunc(chosen, func(f fault) bool { return f.clocks }),
	})
	defer r.w.close()
	if err != nil {
		return err
	}
	r.far, err = proof.OpenPostgres(r.w.dsn(r.w.db.Addr()), source, resource)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.far.Close()) }()
	if err := r.begin(ctx); err != nil {
		return err
	}
	harmed := r.sampled(ctx, func() error { return r.harm(ctx, chosen) })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := r.check(ctx); err != nil {
		return errors.Join(harmed, err)
	}
	r.table.write(out)
	if o.json != "" {
		if err := r.table.writeJSON(o.json); err != nil {
			return err
		}
	}
	return errors.Join(harmed, r.table.err())
}

// say tells what happens, and when.
func (r *runner) say(format string, args ...any) {
	fmt.Fprintf(r.out, "%7.1f s  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// begin starts the load in a world that is well.
func (r *runner) begin(ctx context.Context) error {
	r.say("%d processes and a database run", len(r.w.order))
	ready, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	// The tables are there once the sink has set up its destination.
	if err := process.Await(ready, r.far.Watch); err != nil {
		return err
	}
	if r.soak && r.rate == 0 {
		r.rate = soakRate
	}
	if r.rate == 0 {
		most, err := r.w.calibrate(ready, r.far)
		if err != nil {
			return fmt.Errorf("calibrate: %w", err)
		}
		r.rate = most / 2
		r.say("%.0f changes a second come through while as many are sent as are taken; the load is half of that", most)
	}
	r.table.Rate = r.rate
	var err error
	r.load, err = r.w.startLoad(ctx, r.options, r.limit()+settleTime)
	return err
}

// limit is when no more fault begins, even if one was not played, which fails the run.
func (r *runner) limit() time.Duration { return 2*r.time + time.Hour }

// harm plays faults until the time is over. It ends early when the world doesn't
// recover, or the harm can't be done.
func (r *runner) harm(ctx context.Context, chosen []fault) error {
	defer func() { r.table.Lasted = since(r.load.began) }()
	var possible []fault
	for _, f := range chosen {
		if f.possible != nil {
			if err := f.possible(r.w); err != nil {
				r.table.NotHere = append(r.table.NotHere, notHere{f.name, err.Error()})
				r.say("not here: %s: %v", f.name, err)
				continue
			}
		}
		possible = append(possible, f)
	}
	if len(possible) == 0 {
		return errors.New("no fault is possible here")
	}
	s := newSchedule(possible, r.seed)
	for n := 0; ; n++ {
		lasted := time.Since(r.load.began)
		if lasted > r.time && (r.some || n >= len(possible)) {
			return nil
		}
		if lasted > r.limit() {
			return fmt.Errorf("%d of %d faults were played within %s", n, len(possible), r.limit())
		}
		f, rng := s.next()
		if err := r.once(ctx, f, rng); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if err := r.rest(ctx, rng); err != nil {
			return err
		}
	}
}

// once plays a fault and waits until the world has recovered from it.
func (r *runner) once(ctx context.Context, f fault, rng *rand.Rand) (err error) {
	p := played{Fault: f.name, Kind: cmp.Or(f.kind, f.name), At: since(r.load.began)}
	defer func() {
		if err != nil {
			p.Error = err.Error()
			r.say("%s for %s s: %v", f.name, p.Harm, err)
		}
		r.table.Played = append(r.table.Played, p)
	}()
	harming, cancel := context.WithTimeout(ctx, harmTime)
	defer cancel()
	var before uint64 // the last dead letter's
	if f.replays {
		if before, err = r.w.lastLetter(harming); err != nil {
			return err
		}
	}
	began := time.Now()
	err = f.harm(harming, r.w, rng)
	p.Harm = since(began)
	if err != nil {
		return err
	}
	began = time.Now()
	if err := r.recovered(ctx, f, before); err != nil {
		return fmt.Errorf("not recovered: %w", err)
	}
	p.Recovered = since(began)
	c := r.load.provider.Book().Counts()
	events, _ := r.far.Size(ctx)
	r.say("%s for %s s, recovered within %s s; %d webhooks taken, %d events in the destination", f.name, p.Harm, p.Recovered, c.Accepted, events)
	return nil
}

// recovered waits until all is well after a fault, dead letters behind before replayed.
func (r *runner) recovered(ctx context.Context, f fault, before uint64) error {
	ctx, cancel := context.WithTimeout(ctx, r.recover)
	defer cancel()
	if f.replays {
		n, err := r.w.replay(ctx, before)
		r.table.Replayed += n
		if err != nil {
			return fmt.Errorf("replay: %w", err)
		}
	}
	if err := r.w.comesThrough(ctx, r.load); err != nil {
		return err
	}
	if err := r.w.ready(ctx); err != nil {
		return err
	}
	return asking(ctx, r.w.whole)
}

// sampled measures the world while f runs, if that is a soak.
func (r *runner) sampled(ctx context.Context, f func() error) error {
	if !r.soak {
		return f()
	}
	s := &sampler{w: r.w, began: time.Now(), all: map[string]series{}}
	sampling, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { s.run(sampling, r.sampleEvery()) })
	err := f()
	cancel()
	running.Wait()
	r.table.Soak = s.judge(since(s.began))
	return err
}

// harmTime bounds one fault's harm.
const harmTime = 10 * time.Minute

// schedule is the order of faults: each once, then any.
type schedule struct {
	faults []fault
	seed   uint64
	order  []int // of the first round
	n      int
	rng    *rand.Rand
}

func newSchedule(faults []fault, seed uint64) *schedule {
	rng := rand.New(rand.NewPCG(seed, 0))
	return &schedule{faults: faults, seed: seed, order: rng.Perm(len(faults)), rng: rng}
}

// next returns a fault, and the random numbers that it chooses by: those of its
// place in the order, however many another has used.
func (s *schedule) next() (fault, *rand.Rand) {
	s.n++
	i := 0
	if s.n <= len(s.order) {
		i = s.order[s.n-1]
	} else {
		i = s.rng.IntN(len(s.faults))
	}
	return s.faults[i], rand.New(rand.NewPCG(s.seed, uint64(s.n)))
}
