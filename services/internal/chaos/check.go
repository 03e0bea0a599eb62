package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tercelhq/tercel/services/internal/process"
	"github.com/tercelhq/tercel/services/internal/proof"
)

// settleTime bounds each wait for the end: until the provider is rid of its
// webhooks, until all that can be delivered is, and until the rest is after a
// replay.
const settleTime = 5 * time.Minute

// check ends the load and holds both ends against each other: first as they are,
// where what can't be fetched waits as a dead letter, then after the source has
// healed and dead letters were replayed.
func (r *runner) check(ctx context.Context) error {
	r.say("the faults are over; waiting for the end of the load")
	if err := bounded(ctx, r.load.stop); err != nil {
		return err
	}
	r.say("waiting until all that can be delivered is")
	r.settle(ctx, false)
	r.load.provider.Heal()
	r.say("the source has healed; waiting until dead letters are delivered")
	r.settle(ctx, true)
	return r.account(ctx)
}

// settle waits until nothing is missing. What is missing when the time is over,
// the verdict tells.
func (r *runner) settle(ctx context.Context, healed bool) {
	err := bounded(ctx, func(ctx context.Context) error {
		return process.Await(ctx, func(ctx context.Context) error {
			if healed {
				n, err := r.w.replay(ctx, 0)
				if err != nil {
					return err
				}
				r.table.Replayed += n
			}
			v, err := r.compare(ctx, healed)
			if err == nil && len(v.Lost)+len(v.Undelivered) > 0 {
				err = fmt.Errorf("%d records and %d webhooks are missing: %w", len(v.Lost), len(v.Undelivered), v.Err())
			}
			return err
		})
	})
	if err != nil {
		r.say("not settled: %v", err)
	}
}

func (r *runner) compare(ctx context.Context, healed bool) (proof.Verdict, error) {
	book := r.load.provider.Book()
	far, err := r.far.Read(ctx)
	if err != nil {
		return proof.Verdict{}, err
	}
	if far.Streams, err = proof.ReadStreams(ctx, r.w.js, book); err != nil {
		return proof.Verdict{}, err
	}
	return proof.Compare(book, r.load.provider.Newest(), far, healed), nil
}

// account writes down how both ends compare.
func (r *runner) account(ctx context.Context) error {
	v, err := r.compare(ctx, true)
	if err != nil {
		return err
	}
	r.table.Webhooks = r.load.provider.Book().Counts()
	r.table.Failed = r.w.balancer.Failed()
	r.table.found(v)
	return nil
}

func bounded(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleTime, errors.New("not within "+settleTime.String()))
	defer cancel()
	return f(ctx)
}
