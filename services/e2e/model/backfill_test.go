package model_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/services/internal/control"
)

// backfill starts one, as far as it can be had. With wait it is waited for until
// it has ended or is paused.
func (p *play) backfill(b backfill, wait bool) error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	req := control.BackfillRequest{
		Action: control.Start, Source: source, Account: p.account, Resource: p.target(), Slices: b.slices, DryRun: b.dry,
	}
	switch {
	case p.unfiltered:
		req.Slices = 0
	case b.old:
		req.From = p.clock.now().Add(-oldest - start)
	default:
		req.From = p.watch.now().Add(-2 * time.Hour)
	}
	id, err := p.ask(ctx, req)
	if err != nil || id == "" || !wait {
		return err
	}
	return p.filled(ctx, id)
}

// ask has a backfill started or changed and returns its id, or "" where that
// can't be: another one is under way, or there is no reconciler.
func (p *play) ask(ctx context.Context, req control.BackfillRequest) (string, error) {
	var again pauses
	for {
		died, _, err := p.parts["reconciler"].up(ctx)
		if err != nil || died == nil {
			return "", err
		}
		var b cursor.Backfill
		err = p.asking(func() error {
			if req.Action == pause { // nobody is asked for that
				store, err := cursor.OpenBackfills(ctx, p.js)
				if err == nil {
					b, err = store.Pause(ctx, req.ID, time.Now())
				}
				return err
			}
			b, err = control.Backfill(ctx, p.nc, req)
			return err
		})
		switch {
		case err == nil:
			p.reached.add("backfills: "+string(req.Action), 1)
			return b.ID, nil
		case errors.Is(err, control.ErrNobody):
		case errors.Is(err, control.ErrRunning), errors.Is(err, control.ErrRange), req.Action != control.Start:
			return "", nil // of those that have ended there is nothing to change
		case p.outages.Load() == 0 && !isClosed(died):
			return "", err
		}
		if err := again.wait(ctx); err != nil {
			return "", fmt.Errorf("%s a backfill: %w", req.Action, err)
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// pause is what is done to a backfill beside the actions of a reconciler.
const pause control.Action = "pause"

// steer pauses, resumes or cancels the backfill that is under way.
func (p *play) steer(a control.Action) error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	all, err := p.backfills(ctx)
	for _, b := range all {
		if b.Active() && err == nil {
			_, err = p.ask(ctx, control.BackfillRequest{Action: a, ID: b.ID})
		}
	}
	return err
}

// backfills returns those of the account, the oldest first.
func (p *play) backfills(ctx context.Context) (all []cursor.Backfill, err error) {
	err = p.asking(func() error {
		store, err := cursor.OpenBackfills(ctx, p.js)
		if err == nil {
			all, err = store.List(ctx)
		}
		return err
	})
	return slices.DeleteFunc(all, func(b cursor.Backfill) bool { return b.Account != p.account }), err
}

// stretch returns a backfill and its way in the account.
func (p *play) stretch(ctx context.Context, id string) (b cursor.Backfill, st cursor.Stretch, err error) {
	err = p.asking(func() error {
		store, err := cursor.OpenBackfills(ctx, p.js)
		if err != nil {
			return err
		}
		if b, err = store.Load(ctx, id); err != nil {
			return err
		}
		st, err = store.Stretch(ctx, id, p.account)
		return err
	})
	return b, st, err
}

// filled waits until a backfill has ended or is paused. One that waits after a
// failure is helped on: time passes, and the reconciler looks at it anew.
func (p *play) filled(ctx context.Context, id string) error {
	var again pauses
	var life <-chan struct{}
	stuck := nudge{play: p}
	for {
		died, _, err := p.parts["reconciler"].up(ctx)
		if err != nil || died == nil {
			return err
		}
		if life != nil && life != died {
			p.reached.add(backfillsKilled, 1)
		}
		life = died
		b, st, err := p.stretch(ctx, id)
		if err != nil || !b.Active() || b.State == cursor.Paused {
			return err
		}
		if left := st.RetryAt.Sub(p.watch.now()); left > 0 {
			p.clock.pass(left)
			p.restart()
		}
		stuck.maybe()
		if err := again.wait(ctx); err != nil {
			return fmt.Errorf("backfill %s doesn't end: %w", id, err)
		}
	}
}

// maxFills is how many backfills may be needed until one is complete.
const maxFills = 5

// fillUp brings all backfills to their end and, where there are records from
// before what is listed by itself, has them backfilled if that was not done.
func (p *play) fillUp() error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := p.steer(control.Resume); err != nil {
		return err
	}
	for range maxFills {
		all, err := p.backfills(ctx)
		if err != nil {
			return err
		}
		done := !p.old
		for _, b := range all {
			if err := p.filled(ctx, b.ID); err != nil {
				return err
			}
			_, st, err := p.stretch(ctx, b.ID)
			if err != nil {
				return err
			}
			done = done || st.Complete && !b.DryRun && b.From.Before(p.clock.now().Add(-oldest))
		}
		if done {
			return p.drained()
		}
		if err := p.backfill(backfill{old: true}, true); err != nil {
			return err
		}
	}
	return errors.New("no backfill is complete")
}
