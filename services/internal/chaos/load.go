package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tercelhq/tercel/services/internal/process"
	"github.com/tercelhq/tercel/services/internal/proof"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

// badly is how the provider treats its receiver. Records change every few seconds,
// so that a message that was held up has been overtaken.
var badly = simulator.Config{
	Drop: 0.02, Duplicate: 0.05, Reorder: 0.05, Forge: 0.02, Poison: 0.002, Delete: 0.02, Unavailable: 0.005, Events: 4000, Records: 200, Concurrency: 256,
}

// load is what the provider does all the while: changes at a rate that doesn't
// depend on the answers, and their webhooks.
type load struct {
	provider *simulator.Provider
	began    time.Time
	ended    chan struct{} // closed when every webhook was answered or given up
	err      error         // read it after ended
}

// startLoad starts a load that lasts until it is stopped; of a soak until limit.
func (w *world) startLoad(ctx context.Context, o options, limit time.Duration) (*load, error) {
	cfg := badly
	cfg.Seed, cfg.Rate, cfg.Endless = o.seed, o.rate, true
	if o.soak { // neither records nor dead letters may grow without end
		cfg.Endless, cfg.Poison = false, 0
		cfg.Events = max(int(o.rate*limit.Seconds()), 100)
		cfg.Records = min(2000, cfg.Events)
	}
	p, err := w.newProvider(cfg)
	if err != nil {
		return nil, err
	}
	w.warming.Store(false)
	l := &load{provider: p, began: time.Now(), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		l.err = p.Run(ctx, w.target(source))
	}()
	return l, nil
}

// stop ends the changes and waits until every webhook was answered or given up.
func (l *load) stop(ctx context.Context) error {
	l.provider.Stop()
	select {
	case <-l.ended:
		return l.err
	case <-ctx.Done():
		return fmt.Errorf("webhooks are still on their way: %w", context.Cause(ctx))
	}
}

// calibrateTime is how long the pipeline is sent as much as it takes: long enough that
// what a burst leaves behind, in memory or unsynced, has to be done within it too.
const calibrateTime = 30 * time.Second

// calibrate returns how many changes a second come to the destination while the
// provider sends as fast as it is answered, and waits until the last has.
func (w *world) calibrate(ctx context.Context, d *proof.Destination) (float64, error) {
	w.warming.Store(true)
	// Ids of its own, or the load's first webhooks would seem to be there.
	p, err := w.newProvider(simulator.Config{Run: warmup, Endless: true, Concurrency: 64})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	time.AfterFunc(calibrateTime, p.Stop)
	if err := p.Run(ctx, w.target(warmup)); err != nil {
		return 0, err
	}
	n, _ := d.Size(ctx)
	rate := float64(n) / time.Since(began).Seconds()
	if n == 0 {
		return 0, fmt.Errorf("nothing came to the destination within %s", calibrateTime)
	}
	c := p.Book().Counts()
	if c.Accepted != c.Changes {
		return 0, fmt.Errorf("%d of %d webhooks were taken in a sound world", c.Accepted, c.Changes)
	}
	err = process.Await(ctx, func(ctx context.Context) error {
		if n, _ := d.Size(ctx); n < c.Accepted {
			return fmt.Errorf("%d of %d events are in the destination", n, c.Accepted)
		}
		return nil
	})
	return rate, err
}

// errOver means that a load has ended before it was stopped.
var errOver = errors.New("the load has ended before the faults have")

// mostAsked bounds how many webhooks are looked for, the first and the last: for each
// row all of them are gone through.
const mostAsked = 100

// comesThrough waits until a webhook that was sent from now on is in the
// destination.
func (w *world) comesThrough(ctx context.Context, l *load) error {
	now, from := time.Now(), len(l.provider.Book().Deliveries)
	return process.Await(ctx, func(ctx context.Context) error {
		select {
		case <-l.ended:
			return errors.Join(errOver, l.err)
		default:
		}
		var taken []string
		for _, d := range l.provider.Book().Deliveries[from:] {
			if d.Kind == simulator.Genuine && d.Taken() && d.SentAt.After(now) {
				taken = append(taken, d.ID)
			}
		}
		if len(taken) == 0 {
			return errors.New("no webhook was taken")
		}
		if len(taken) > mostAsked {
			taken = slices.Concat(taken[:mostAsked/2], taken[len(taken)-mostAsked/2:])
		}
		var found bool
		if err := w.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM events WHERE delivery_id = ANY($1))`, taken).Scan(&found); err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("%d webhooks were taken and none is in the destination", len(taken))
		}
		return nil
	})
}
