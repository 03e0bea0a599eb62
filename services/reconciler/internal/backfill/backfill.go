// Package backfill works on what operators asked to have backfilled: the
// records of a time, in one account of a source or in all, beside the schedule
// and at a rate of their own.
//
// What is wanted and how far it has come stands in the bucket of cursors. Every
// replica follows it; under a lease one of them works on each backfill. When
// that is stopped, or the backfill paused, it stands at its last saved pages, and
// any replica goes on there.
package backfill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

const (
	// accountsAtOnce is how many accounts of one backfill are worked on at once.
	accountsAtOnce = 4
	// lookEvery is how often a replica tries to take over what another has.
	lookEvery = 2 * time.Second
	// againEvery is how often accounts are tried again that could not be worked on.
	againEvery = 5 * time.Second
	// watchFor is how long one watch of the backfills lasts before a new one takes
	// its place: so long, at most, one that hears nothing any more goes unnoticed,
	// as after the bucket was made anew.
	watchFor = time.Minute
)

// Config is how backfills work.
type Config struct {
	// Rate and Slices are those of backfills that don't name their own, as
	// [cursor.Backfill] has them.
	Rate, Slices int
	// LeaseTTL is how long a replica that has gone keeps others out.
	LeaseTTL time.Duration
}

// Resources are what can be listed.
type Resources interface {
	// Accounts returns the names of a source's accounts, which are one without a
	// name where it has none. It says which resources there are if it is not
	// among them.
	Accounts(ctx context.Context, source, resource string) ([]string, error)
	// Runner returns the one for a resource in an account.
	Runner(key cursor.Key) (*run.Runner, error)
	// Canceller returns one that gives up what was begun. The pipeline file may no
	// longer have the resource, nor its source.
	Canceller(key cursor.Key) *run.Runner
}

// Deps are what a [Service] borrows.
type Deps struct {
	JetStream jetstream.JetStream
	Resources Resources
	// Pauses are those of reconciliation as a whole, which hold backfills up too.
	Pauses *cursor.Pauses
	Log    *slog.Logger
	Now    func() time.Time
}

// Service starts, changes and works on backfills. It is safe for concurrent use.
type Service struct {
	cfg      Config
	deps     Deps
	watchFor time.Duration

	// The rest belongs to the goroutine of Run.
	wanted map[string]cursor.Backfill // those that are active
	err    error                      // why they can't be followed
	inHand map[string]*job
	ended  chan string // ids of jobs that are no longer in hand
	jobs   sync.WaitGroup
}

// job is a backfill that this replica works on, or tries to.
type job struct {
	state cursor.BackfillState
	stop  context.CancelFunc
}

// New returns a service. Run it, once.
func New(cfg Config, deps Deps) *Service {
	return &Service{cfg: cfg, deps: deps, watchFor: watchFor, inHand: map[string]*job{}, ended: make(chan string)}
}

// Run works on backfills until ctx ends and what was in hand has stopped. A
// server that is away is waited for.
func (s *Service) Run(ctx context.Context) error {
	defer s.jobs.Wait()
	select {
	case <-s.deps.Pauses.Ready(): // before, nothing may begin
	case <-ctx.Done():
		return nil
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for ctx.Err() == nil {
		if err := s.watch(ctx, look.C); err != nil {
			s.note(ctx, err)
		}
		select {
		case <-look.C:
		case id := <-s.ended:
			delete(s.inHand, id)
		case <-ctx.Done():
		}
	}
	return nil
}

// watch follows the backfills for a while.
func (s *Service) watch(ctx context.Context, look <-chan time.Time) error {
	store, err := cursor.OpenBackfills(ctx, s.deps.JetStream)
	if err != nil {
		return err
	}
	w, err := store.Watch(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }() // of one that has broken off there is nothing left to stop
	over := time.NewTimer(s.watchFor)
	defer over.Stop()
	for known := false; ctx.Err() == nil; {
		select {
		case e, ok := <-w.Updates():
			if known = known || e == nil; ok && !known {
				continue // all that there are are read at once
			}
			if !ok {
				return errors.New("watch backfills: it has ended")
			}
			if err := s.read(ctx, store); err != nil {
				return err
			}
			s.note(ctx, nil)
			s.arrange(ctx, store)
		case <-over.C:
			if !known {
				return errors.New("watch backfills: they have not all come")
			}
			return nil
		case <-look:
			s.arrange(ctx, store)
		case id := <-s.ended: // what is left of it waits for the next look
			delete(s.inHand, id)
		case <-ctx.Done():
		}
	}
	return nil
}

// note logs when the backfills begin to be out of reach and when they are followed
// again.
func (s *Service) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil && s.err == nil:
		s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "backfills can't be followed", slog.Any("err", err))
	case err == nil && s.err != nil:
		s.deps.Log.LogAttrs(ctx, slog.LevelInfo, "backfills are followed again")
	}
	s.err = err
}

func (s *Service) read(ctx context.Context, store *cursor.Backfills) error {
	all, err := store.List(ctx)
	if err != nil {
		return err
	}
	s.wanted = map[string]cursor.Backfill{}
	for _, b := range all {
		if b.Active() {
			s.wanted[b.ID] = b
		}
	}
	return nil
}

// arrange stops what is no longer wanted so, and begins what is and isn't in
// hand.
func (s *Service) arrange(ctx context.Context, store *cursor.Backfills) {
	for id, j := range s.inHand {
		if s.wanted[id].State != j.state {
			j.stop()
		}
	}
	for id, b := range s.wanted {
		if s.inHand[id] != nil || b.State == cursor.Paused {
			continue
		}
		its, stop := context.WithCancel(ctx)
		s.inHand[id] = &job{b.State, stop}
		s.jobs.Go(func() {
			defer stop()
			s.work(its, store, b)
			select {
			case s.ended <- id:
			case <-ctx.Done():
			}
		})
	}
}

// work takes a backfill over, if nobody has it, and works on it until its end.
func (s *Service) work(ctx context.Context, store *cursor.Backfills, b cursor.Backfill) {
	lease, err := cursor.Acquire(ctx, s.deps.JetStream, cursor.BackfillLease(b.ID), s.cfg.LeaseTTL)
	if err != nil {
		if !errors.Is(err, cursor.ErrHeld) && ctx.Err() == nil {
			s.log(ctx, slog.LevelWarn, "backfill can't be taken over", b, slog.Any("err", err))
		}
		return
	}
	defer lease.Release()
	ctx = lease.Context()
	now, err := store.Load(ctx, b.ID)
	if err != nil && !errors.Is(err, cursor.ErrNoBackfill) && ctx.Err() == nil {
		s.log(ctx, slog.LevelWarn, "backfill can't be taken over", b, slog.Any("err", err))
	}
	if b = now; err != nil || !b.Active() || b.State == cursor.Paused {
		return // it was changed in the meantime
	}
	s.log(ctx, slog.LevelInfo, "backfill is worked on", b)
	again := time.NewTicker(againEvery)
	defer again.Stop()
	for done := map[string]bool{}; !s.accounts(ctx, store, b, done); {
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
	if ctx.Err() == nil {
		s.end(ctx, store, b)
	}
}

// accounts works on all accounts that are not done, notes those that are then,
// and reports whether these are all.
func (s *Service) accounts(ctx context.Context, store *cursor.Backfills, b cursor.Backfill, done map[string]bool) bool {
	names, err := s.names(ctx, store, b)
	if err != nil {
		s.log(ctx, slog.LevelWarn, "backfill can't go on", b, slog.Any("err", err))
		return false
	}
	names = slices.DeleteFunc(names, func(name string) bool { return done[name] })
	o := run.BackfillOptions{Backfill: b, Store: store, Pace: rate.NewLimiter(rate.Limit(b.Rate), max(1, b.Rate/10))}
	var mu sync.Mutex // guards done and first
	var first error
	var g errgroup.Group
	g.SetLimit(accountsAtOnce)
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			err := s.account(ctx, o, name)
			mu.Lock()
			defer mu.Unlock()
			if done[name] = err == nil; err != nil && first == nil && !errors.Is(err, cursor.ErrPaused) {
				first = fmt.Errorf("account %s: %w", name, err)
			}
			return nil
		})
	}
	_ = g.Wait()
	if first != nil && ctx.Err() == nil {
		s.log(ctx, slog.LevelWarn, "backfill can't go on", b, slog.Any("err", first))
	}
	return !slices.ContainsFunc(names, func(name string) bool { return !done[name] })
}

// names are those of a backfill's accounts or, of one that was cancelled, of those
// in which it was begun.
func (s *Service) names(ctx context.Context, store *cursor.Backfills, b cursor.Backfill) ([]string, error) {
	switch {
	case b.State == cursor.Cancelled:
		begun, err := store.Stretches(ctx, b.ID)
		names := make([]string, len(begun))
		for i, st := range begun {
			names[i] = st.Account
		}
		return names, err
	case b.Account != "":
		return []string{b.Account}, nil
	default:
		return s.deps.Resources.Accounts(ctx, b.Source, b.Resource)
	}
}

func (s *Service) account(ctx context.Context, o run.BackfillOptions, name string) error {
	rep, err := s.compare(ctx, o, name)
	if err != nil || rep.Run == "" {
		return err
	}
	attrs := []slog.Attr{
		slog.String("account", name), slog.String("run", rep.Run), slog.Int("listed", rep.Listed), slog.Int("repaired", rep.Repaired),
		slog.Bool("complete", rep.Complete),
	}
	if rep.Error != "" {
		attrs = append(attrs, slog.String("err", rep.Error))
	}
	s.log(ctx, slog.LevelInfo, "backfill of an account ended", o.Backfill, attrs...)
	if n := rep.Evidence.Causes[report.LostInside]; n > 0 {
		s.log(ctx, slog.LevelError, "triggers were accepted but lost inside: their records were found by a backfill", o.Backfill,
			slog.String("account", name), slog.String("run", rep.Run), slog.Int("records", n))
	}
	return nil
}

// compare backfills an account until its report is out, or gives it up.
func (s *Service) compare(ctx context.Context, o run.BackfillOptions, name string) (report.Report, error) {
	key := o.Key(name)
	if o.State == cursor.Cancelled {
		return s.deps.Resources.Canceller(key).Cancel(ctx, o)
	}
	runner, err := s.deps.Resources.Runner(key)
	if err != nil {
		return report.Report{}, err
	}
	running, stop := s.deps.Pauses.While(ctx, key)
	defer stop()
	rep, err := runner.Backfill(running, o)
	if err != nil && ctx.Err() == nil && running.Err() != nil {
		return report.Report{}, context.Cause(running)
	}
	return rep, err
}

// end notes that there is nothing left to do. If somebody has changed the
// backfill meanwhile, it is looked at again.
func (s *Service) end(ctx context.Context, store *cursor.Backfills, b cursor.Backfill) {
	b.EndedAt = s.deps.Now()
	if b.State == cursor.Running {
		b.State, b.ChangedAt = cursor.Ended, b.EndedAt
	}
	if _, err := store.Save(ctx, b); err != nil && ctx.Err() == nil {
		s.log(ctx, slog.LevelWarn, "the end of a backfill can't be saved", b, slog.Any("err", err))
		return
	}
	s.log(ctx, slog.LevelInfo, "backfill ended", b, slog.String("state", string(b.State)))
}

func (s *Service) log(ctx context.Context, level slog.Level, text string, b cursor.Backfill, attrs ...slog.Attr) {
	s.deps.Log.LogAttrs(ctx, level, text, append([]slog.Attr{
		slog.String("backfill", b.ID), slog.String("source", b.Source), slog.String("resource", b.Resource),
	}, attrs...)...)
}
