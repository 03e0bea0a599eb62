package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/services/internal/control"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// turn makes a run if one is due and returns how long to wait before the next
// look. Its error says that no run could begin; how one ended it tells itself.
func (s *Service) turn(ctx context.Context, t *task, longest time.Duration) (time.Duration, error) {
	running, stop := s.pauses.While(ctx, t.key)
	defer stop()
	if running.Err() != nil {
		return min(pausedLook, longest), s.paused(ctx, t)
	}
	runner, err := t.doer(ctx)
	if err != nil || runner == nil {
		return longest, err
	}
	due, err := runner.Due(ctx)
	if err != nil {
		return 0, err
	}
	why := report.Schedule
	if wait := due.Sub(s.deps.Now()); wait > 0 {
		// A probe asks what has changed; orphans take a whole list.
		if why = report.Silence; !t.probe || t.key.Work != "" {
			return min(wait, longest), nil
		}
	}
	r, err := runner.Begin(running, run.Options{Trigger: why})
	switch {
	case err != nil && running.Err() != nil:
		return pausedLook, nil
	case errors.Is(err, run.ErrNotDue):
		return time.Second, nil
	case errors.Is(err, cursor.ErrHeld):
		return min(s.cfg.LeaseTTL, lookEvery), nil
	case err != nil:
		return 0, err
	}
	s.log(ctx, t.key, r, r.Do())
	return s.pause(ctx, runner, longest), nil
}

// pausedLook is the time between two looks whether what is paused still is,
// which asks nobody.
const pausedLook = 2 * time.Second

// paused has the gauges tell that a task rests. How it stands they tell all the same,
// for which its cursor must have been seen once.
func (s *Service) paused(ctx context.Context, t *task) error {
	if s.metrics.Paused(t.key) {
		return nil
	}
	_, err := t.runner.Due(ctx)
	if err == nil {
		s.metrics.Paused(t.key)
	}
	return err
}

// pause keeps a run that ended without leaving word, as one that lost its
// lease does, from beginning again at once.
func (s *Service) pause(ctx context.Context, runner *run.Runner, longest time.Duration) time.Duration {
	due, err := runner.Due(ctx)
	if err != nil {
		return time.Second
	}
	return min(max(due.Sub(s.deps.Now()), time.Second), longest)
}

// begin begins a run that somebody asked for; it goes on by itself.
func (s *Service) begin(ctx context.Context, req control.Request) (control.Started, error) {
	t, err := s.find(req)
	if err != nil {
		return control.Started{}, err
	}
	key, runner, err := t.work(req)
	if err != nil {
		return control.Started{}, err
	}
	if p, paused := s.pauses.Of(key); paused {
		return control.Started{}, fmt.Errorf("reconcile %s: %w: %s since %s", key, control.ErrPaused, p.Scope, p.Since.Format(time.RFC3339))
	}
	running, stop := s.pauses.While(ctx, key)
	r, err := runner.Begin(running, run.Options{Trigger: report.Demand, DryRun: req.DryRun, Tombstone: req.Tombstone})
	if err != nil {
		stop()
	}
	if errors.Is(err, cursor.ErrHeld) {
		return control.Started{}, fmt.Errorf("reconcile %s: %w: %w", key, control.ErrRunning, err)
	}
	if err != nil {
		return control.Started{}, fmt.Errorf("reconcile %s: %w", key, err)
	}
	s.runs.Go(func() {
		defer stop()
		s.log(ctx, key, r, r.Do())
	})
	return control.Started{
		Run: r.ID(), Source: key.Source, Account: key.Account, Resource: key.Resource, StartedAt: r.StartedAt(),
	}, nil
}

// doer is who does the task, or nil for a scan that has no schedule and of which
// nothing is left to go on with.
func (t *task) doer(ctx context.Context) (*run.Runner, error) {
	if t.left == nil {
		return t.runner, nil
	}
	if left, err := t.left(ctx); err != nil || !left {
		return nil, err
	}
	return t.scanner()
}

// work returns what a request asks for, and who does it.
func (t *task) work(req control.Request) (cursor.Key, *run.Runner, error) {
	key := t.key
	if !req.Deletes {
		return key, t.runner, nil
	}
	if t.scanner == nil {
		return key, nil, fmt.Errorf("reconcile %s: %w: events are not deleted", key, control.ErrUnknown)
	}
	key.Work = cursor.Deletes
	runner, err := t.scanner()
	return key, runner, err
}

// maxNamed bounds the resources that an error names.
const maxNamed = 20

// find returns the resource that a request names. The account may be left out
// where there is only one.
func (s *Service) find(req control.Request) (*task, error) {
	var known []string
	var matches []*task
	for _, p := range s.plans {
		for k, t := range p.all() {
			if k.Work != "" {
				continue
			}
			name := k.Source + "/" + k.Resource
			if k.Account != event.NoAccount {
				name = k.Source + "/" + k.Account + "/" + k.Resource
			}
			known = append(known, name)
			if k.Source == req.Source && k.Resource == req.Resource && (req.Account == "" || req.Account == k.Account) {
				matches = append(matches, t)
			}
		}
	}
	if len(matches) == 1 {
		return matches[0], nil
	}
	slices.Sort(known)
	want := "none of them lists records"
	if len(known) > 0 {
		want = "known are " + strings.Join(known[:min(len(known), maxNamed)], ", ")
	}
	if len(known) > maxNamed {
		want += fmt.Sprintf(" and %d more", len(known)-maxNamed)
	}
	if len(matches) > 1 {
		want = "name the account: " + want
	}
	return nil, fmt.Errorf("%w %q of source %q: %s", control.ErrUnknown, req.Resource, req.Source, want)
}
