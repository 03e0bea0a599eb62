package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tercelhq/tercel/services/internal/proof"
)

// settleTime bounds each wait for the end: until the provider is rid of its
// webhooks, until all that can be delivered is, and until the rest is after a
// replay. It is the pipeline's: a comparison that has begun is waited for, which may
// take compareTime.
const (
	settleTime  = 5 * time.Minute
	compareTime = 15 * time.Minute
)

// check ends the load and holds both ends against each other: first as they are,
// where what can't be fetched waits as a dead letter, then after the source has
// healed and dead letters were replayed.
func (r *runner) check(ctx context.Context) error {
	r.say("the faults are over; waiting for the end of the load")
	if err := bounded(ctx, r.load.stop); err != nil {
		return err
	}
	r.say("waiting until all that can be delivered is")
	if err := r.settle(ctx, false); err != nil {
		r.table.Unsettled = err.Error() // a replay or a later list may yet bring it
		r.say("not settled: %v", err)
	}
	r.load.provider.Heal()
	r.say("the source has healed; waiting until dead letters are delivered")
	if err := r.settle(ctx, true); err != nil {
		r.say("not settled: %v", err) // what is missing, the verdict tells
	}
	return r.account(ctx)
}

// settle waits until nothing is missing. Its error tells what was when the time was
// over.
func (r *runner) settle(ctx context.Context, healed bool) error {
	for over := time.Now().Add(settleTime); ; {
		late := time.Now().After(over)
		err := r.settled(ctx, healed)
		if err == nil || late {
			return err
		}
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
	}
}

// settled is nil if nothing is missing now. What waits as a dead letter is not,
// before the source has healed; then it is replayed first.
func (r *runner) settled(ctx context.Context, healed bool) error {
	if healed {
		n, err := r.w.replay(ctx, 0)
		r.table.Replayed += n
		if err != nil {
			return err
		}
	}
	v, err := r.compare(ctx, healed)
	if err == nil && len(v.Lost)+len(v.Undelivered)+len(v.Waiting) > 0 {
		err = fmt.Errorf("%d records and %d webhooks are missing, %d webhooks wait: %w", len(v.Lost), len(v.Undelivered), len(v.Waiting), v.Err())
	}
	return err
}

func (r *runner) compare(ctx context.Context, healed bool) (proof.Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, compareTime)
	defer cancel()
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
