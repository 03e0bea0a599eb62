package backfill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nuid"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/services/internal/control"
)

const (
	// maxActive bounds the backfills that are not at their end.
	maxActive = 32
	// maxSlices and maxRate bound what one may ask for.
	maxSlices, maxRate = 64, 1_000_000
	// keepFor is how long one that ended can be looked at. Its reports outlive it.
	keepFor = 30 * 24 * time.Hour
	// saveTries bounds how often a change gives way to another.
	saveTries = 5
)

// Do answers a request to start a backfill, or to change one.
func (s *Service) Do(ctx context.Context, req control.BackfillRequest) (cursor.Backfill, error) {
	store, err := cursor.OpenBackfills(ctx, s.deps.JetStream)
	if err != nil {
		return cursor.Backfill{}, err
	}
	// One at a time, over all replicas: what is active must stay so meanwhile.
	lease, err := s.turn(ctx)
	if err != nil {
		return cursor.Backfill{}, err
	}
	defer lease.Release()
	ctx = lease.Context()
	if req.Action != control.Start {
		return s.change(ctx, store, req)
	}
	b, err := s.wantedBy(ctx, req)
	if err != nil {
		return cursor.Backfill{}, err
	}
	if err := s.admit(ctx, store, b); err != nil {
		return cursor.Backfill{}, err
	}
	return store.Save(ctx, b)
}

// turn takes the lease under which backfills are started and changed.
func (s *Service) turn(ctx context.Context) (*cursor.Lease, error) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		lease, err := cursor.Acquire(ctx, s.deps.JetStream, cursor.BackfillLease("_change"), s.cfg.LeaseTTL)
		if !errors.Is(err, cursor.ErrHeld) {
			return lease, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("backfill: another one is being started or changed, try again: %w", err)
		}
	}
}

// wantedBy is the backfill that a request describes.
func (s *Service) wantedBy(ctx context.Context, req control.BackfillRequest) (cursor.Backfill, error) {
	now := s.deps.Now()
	b := cursor.Backfill{
		ID: nuid.Next()[12:], Source: req.Source, Resource: req.Resource, Account: req.Account, From: req.From, To: req.To,
		Slices: req.Slices, Rate: req.Rate, DryRun: req.DryRun, State: cursor.Running, StartedAt: now, ChangedAt: now,
	}
	if b.Rate == 0 {
		b.Rate = s.cfg.Rate
	}
	if b.Rate < 1 || b.Rate > maxRate || b.Slices < 0 || b.Slices > maxSlices {
		return b, fmt.Errorf("backfill: %w: want a rate of 1 to %d and 1 to %d slices", control.ErrRange, maxRate, maxSlices)
	}
	accounts, err := s.deps.Resources.Accounts(ctx, b.Source, b.Resource)
	if err != nil {
		return b, err
	}
	b.Accounts = len(accounts)
	switch {
	case req.Account != "" && req.AllAccounts:
		return b, fmt.Errorf("backfill: %w: want one account or all, not both", control.ErrRange)
	case req.Account != "" && !slices.Contains(accounts, req.Account):
		return b, fmt.Errorf("%w: source %q has no account %q (any more)", control.ErrUnknown, b.Source, req.Account)
	case req.Account != "":
		b.Accounts = 1
	case len(accounts) == 1:
		b.Account = accounts[0]
	case len(accounts) == 0:
		return b, fmt.Errorf("%w: source %q has no accounts yet", control.ErrUnknown, b.Source)
	case !req.AllAccounts:
		return b, fmt.Errorf("backfill: %w: source %q has %d accounts: name one, or ask for all of them", control.ErrRange, b.Source, len(accounts))
	}
	return s.fit(b, accounts[0])
}

// fit makes the time and the slices such as the resource can be listed in.
func (s *Service) fit(b cursor.Backfill, account string) (cursor.Backfill, error) {
	runner, err := s.deps.Resources.Runner(b.Key(account))
	if err != nil {
		return b, err
	}
	ranged := !b.From.IsZero() || !b.To.IsZero()
	settled := runner.Settled()
	switch {
	case b.To.After(b.StartedAt):
		return b, fmt.Errorf("backfill: %w: the end, %s, is still to come: leave it out for now", control.ErrRange, b.To.UTC().Format(time.RFC3339))
	case !b.To.IsZero() && !b.From.Before(b.To):
		return b, fmt.Errorf("backfill: %w: it would begin at %s and end at %s: want an end after the begin",
			control.ErrRange, b.From.UTC().Format(time.RFC3339), b.To.UTC().Format(time.RFC3339))
	case !b.From.Before(settled):
		return b, fmt.Errorf("backfill: %w: it would begin at %s, but webhooks of records changed since %s may still be on their way (reconcile.settle)",
			control.ErrRange, b.From.UTC().Format(time.RFC3339), settled.UTC().Format(time.RFC3339))
	case b.To.IsZero() || b.To.After(settled):
		b.To = settled
	}
	if err := runner.CanList(b, ranged); err != nil {
		return b, fmt.Errorf("backfill: %w: %w", control.ErrRange, err)
	}
	if b.Slices == 0 {
		b.Slices = s.cfg.Slices
		if runner.CanList(b, ranged) != nil {
			b.Slices = 1
		}
	}
	return b, nil
}

// admit says why a backfill can't be active beside the others, and forgets those
// that are long over.
func (s *Service) admit(ctx context.Context, store *cursor.Backfills, b cursor.Backfill) error {
	all, err := store.List(ctx)
	if err != nil {
		return err
	}
	active := 0
	for _, o := range all {
		switch {
		case o.ID == b.ID:
		case o.Active() && o.Overlaps(b):
			return fmt.Errorf("backfill: %w: %s covers some of these records and is %s; wait for its end, or cancel it", control.ErrRunning, o.ID, o.State)
		case o.Active():
			active++
		case s.deps.Now().Sub(o.EndedAt) > keepFor:
			if err := store.Drop(ctx, o.ID); err != nil {
				return err
			}
		}
	}
	if active >= maxActive {
		return fmt.Errorf("backfill: %d are under way, the most that may be: wait until one has ended, or cancel one", active)
	}
	return nil
}

// change resumes or cancels a backfill; whoever pauses one does that alone. What it
// is already changes nothing.
func (s *Service) change(ctx context.Context, store *cursor.Backfills, req control.BackfillRequest) (cursor.Backfill, error) {
	for range saveTries {
		b, err := store.Load(ctx, req.ID)
		if errors.Is(err, cursor.ErrNoBackfill) {
			return b, fmt.Errorf("%w: %w", control.ErrUnknown, err)
		}
		if err != nil {
			return b, err
		}
		next, err := s.changed(ctx, store, b, req.Action)
		if err != nil || next == b {
			return next, err
		}
		if next, err = store.Save(ctx, next); !errors.Is(err, cursor.ErrConflict) {
			return next, err
		}
	}
	return cursor.Backfill{}, fmt.Errorf("backfill %s is being changed by others, try again", req.ID)
}

func (s *Service) changed(ctx context.Context, store *cursor.Backfills, b cursor.Backfill, a control.Action) (cursor.Backfill, error) {
	want, ok := map[control.Action]cursor.BackfillState{
		control.Resume: cursor.Running, control.Cancel: cursor.Cancelled,
	}[a]
	switch {
	case !ok:
		return b, fmt.Errorf("backfill: %w: want the action start, resume or cancel", control.ErrRange)
	case b.State == want:
		return b, nil
	case b.State == cursor.Cancelled:
		return b, fmt.Errorf("%w: %s was cancelled, start another one", cursor.ErrBackfillOver, b.ID)
	case !b.Active() && a == control.Resume:
		if err := s.unfinished(ctx, store, b); err != nil {
			return b, err
		}
		b.Attempt, b.EndedAt = b.Attempt+1, time.Time{}
	case !b.Active():
		return b, fmt.Errorf("%w: %s has ended, there is nothing to %s", cursor.ErrBackfillOver, b.ID, a)
	}
	now := s.deps.Now()
	if want == cursor.Running {
		b.Rested += now.Sub(b.ChangedAt).Seconds()
	}
	b.State, b.ChangedAt = want, now
	return b, nil
}

// unfinished says why a backfill that ended can't be resumed.
func (s *Service) unfinished(ctx context.Context, store *cursor.Backfills, b cursor.Backfill) error {
	stretches, err := store.Stretches(ctx, b.ID)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(stretches, func(st cursor.Stretch) bool { return !st.Complete }) {
		return fmt.Errorf("%w: %s is complete, there is nothing to resume", cursor.ErrBackfillOver, b.ID)
	}
	return s.admit(ctx, store, b)
}
