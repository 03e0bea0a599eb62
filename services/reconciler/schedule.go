package reconciler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/services/internal/control"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// lookEvery is the longest time between two looks at a cursor: so soon a
// replica notices that the one which was working on it has gone.
const lookEvery = 30 * time.Second

// schedule makes the runs of one resource when they are due, until ctx ends.
// What goes wrong is told and tried again: nothing a source does may end it.
func (s *Service) schedule(ctx context.Context, key cursor.Key, runner *run.Runner) {
	retry := backoff.NewExponentialBackOff(backoff.WithInitialInterval(time.Second),
		backoff.WithMaxInterval(lookEvery), backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		wait, err := s.turn(ctx, key, runner)
		if err == nil {
			retry.Reset()
		} else if ctx.Err() == nil {
			wait = retry.NextBackOff()
			s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "reconciliation can't begin", slog.String("resource", key.String()),
				slog.Any("err", err))
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// turn makes a run if one is due and returns how long to wait before the next
// look. Its error says that no run could begin; how one ended it tells itself.
func (s *Service) turn(ctx context.Context, key cursor.Key, runner *run.Runner) (time.Duration, error) {
	due, err := runner.Due(ctx)
	if err != nil {
		return 0, err
	}
	if wait := due.Sub(s.deps.Now()); wait > 0 {
		return min(wait, lookEvery), nil
	}
	r, err := runner.Begin(ctx, run.Options{Trigger: report.Schedule})
	switch {
	case errors.Is(err, run.ErrNotDue):
		return time.Second, nil
	case errors.Is(err, cursor.ErrHeld):
		return min(s.cfg.LeaseTTL, lookEvery), nil
	case err != nil:
		return 0, err
	}
	s.log(ctx, key, r, r.Do())
	return s.pause(ctx, runner), nil
}

// pause keeps a run that ended without leaving word, as one that lost its
// lease does, from beginning again at once.
func (s *Service) pause(ctx context.Context, runner *run.Runner) time.Duration {
	due, err := runner.Due(ctx)
	if err != nil {
		return time.Second
	}
	return min(max(due.Sub(s.deps.Now()), time.Second), lookEvery)
}

// begin begins a run that somebody asked for; it goes on by itself.
func (s *Service) begin(ctx context.Context, req control.Request) (control.Started, error) {
	key, err := s.find(req)
	if err != nil {
		return control.Started{}, err
	}
	r, err := s.runners[key].Begin(ctx, run.Options{Trigger: report.Demand, DryRun: req.DryRun})
	if errors.Is(err, cursor.ErrHeld) {
		return control.Started{}, fmt.Errorf("reconcile %s: %w: %w", key, control.ErrRunning, err)
	}
	if err != nil {
		return control.Started{}, fmt.Errorf("reconcile %s: %w", key, err)
	}
	s.runs.Go(func() { s.log(ctx, key, r, r.Do()) })
	return control.Started{
		Run: r.ID(), Source: key.Source, Account: key.Account, Resource: key.Resource, StartedAt: r.StartedAt(),
	}, nil
}

// find returns the resource that a request names. The account may be left out
// where there is only one.
func (s *Service) find(req control.Request) (cursor.Key, error) {
	var known []string
	var matches []cursor.Key
	for k := range s.runners {
		name := k.Source + "/" + k.Resource
		if k.Account != event.NoAccount {
			name = k.Source + "/" + k.Account + "/" + k.Resource
		}
		known = append(known, name)
		if k.Source == req.Source && k.Resource == req.Resource && (req.Account == "" || req.Account == k.Account) {
			matches = append(matches, k)
		}
	}
	if len(matches) == 1 {
		return matches[0], nil
	}
	slices.Sort(known)
	want := "none of them lists records"
	if len(known) > 0 {
		want = "known are " + strings.Join(known, ", ")
	}
	if len(matches) > 1 {
		want = "name the account: " + want
	}
	return cursor.Key{}, fmt.Errorf("%w %q of source %q: %s", control.ErrUnknown, req.Resource, req.Source, want)
}
