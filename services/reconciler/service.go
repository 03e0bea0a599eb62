// Package reconciler finds what the pipeline has missed and sends it in again.
//
// For each resource that says how to be listed, one replica at a time compares
// the source's list with what was seen (package run). The service also audits
// the pipeline itself, and makes dead letters of the messages that a stage has
// given up. It keeps all state in JetStream: any number of replicas may run.
package reconciler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/seal"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/control"
	"github.com/tercelhq/tercel/services/internal/destination"
	"github.com/tercelhq/tercel/services/reconciler/internal/alarm"
	"github.com/tercelhq/tercel/services/reconciler/internal/audit"
	"github.com/tercelhq/tercel/services/reconciler/internal/backfill"
	"github.com/tercelhq/tercel/services/reconciler/internal/census"
	"github.com/tercelhq/tercel/services/reconciler/internal/collector"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// Config is what an operator configures.
type Config struct {
	pipeline.Reconciler
	// Sources are the systems whose records are compared, by name.
	Sources map[string]provider.Source
	// Streams is how events are kept.
	Streams topology.Config
	// SealKeys seal the refresh tokens that issuers replace.
	SealKeys []config.Secret
	// Destinations are those that records are compared with, by name.
	Destinations map[string]pipeline.Destination
	// Delivered are the names of all destinations.
	Delivered []string
}

// Deps are what a [Service] borrows.
type Deps struct {
	Conn *nats.Conn
	Log  *slog.Logger
	// Accounts are those of the sources. Required where any has them elsewhere
	// than in the pipeline file.
	Accounts *account.Set
	// Now tells the time of windows and schedules. Defaults to time.Now.
	Now func() time.Time
}

// Service is the reconciler.
type Service struct {
	cfg       Config
	deps      Deps
	js        jetstream.JetStream
	plans     []*plan
	collector *collector.Collector
	audit     *audit.Audit
	backfills *backfill.Service
	metrics   *run.Metrics
	publisher *publish.Publisher
	clients   []*sourceapi.Client
	readers   map[string]*destination.Reader
	pauses    *cursor.Pauses
	alarms    *alarm.Alarms
	census    *census.Census
	runs      sync.WaitGroup // those that were asked for
}

// New returns a service. The streams and buckets must exist. Run it, once.
func New(cfg Config, deps Deps) (*Service, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	var err error
	if deps.Accounts == nil {
		if deps.Accounts, err = account.Fixed(cfg.Sources); err != nil {
			return nil, fmt.Errorf("reconciler: %w", err)
		}
	}
	s := &Service{cfg: cfg, deps: deps}
	if s.js, err = jetstream.New(deps.Conn); err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	s.pauses = cursor.NewPauses(s.js, deps.Log)
	if s.collector, err = collector.New(collector.Config{Collect: cfg.Collect}, collector.Deps{JetStream: s.js, Log: deps.Log}); err != nil {
		return nil, err
	}
	s.audit, err = audit.New(audit.Config{
		Every: cfg.AuditEvery, Settle: cfg.AuditSettle, Sources: slices.Sorted(maps.Keys(cfg.Sources)),
		Destinations: cfg.Delivered, LeaseTTL: cfg.LeaseTTL, Streams: cfg.Streams,
	}, audit.Deps{JetStream: s.js, Log: deps.Log, Now: deps.Now})
	if err != nil {
		return nil, err
	}
	if s.publisher, err = publish.New(deps.Conn, publish.Config{Group: cfg.Streams.Grouped()}); err != nil {
		return nil, err
	}
	if s.metrics, err = run.NewMetrics(deps.Now); err == nil {
		err = s.openDestinations()
	}
	if err == nil {
		err = s.addPlans()
	}
	if err == nil {
		err = s.addAlarms()
	}
	if err == nil {
		err = s.addCensus()
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// openDestinations prepares to read the destinations, none of which needs to be
// there yet.
func (s *Service) openDestinations() error {
	s.readers = map[string]*destination.Reader{}
	for name, d := range s.cfg.Destinations {
		r, err := destination.Open(context.Background(), name, d)
		if err != nil {
			return err
		}
		s.readers[name] = r
	}
	return nil
}

// addPlans makes one plan for each source that has something to list. All
// accounts of a source share one client, whose limits they share too.
func (s *Service) addPlans() error {
	box, err := seal.New(s.cfg.SealKeys)
	if err != nil {
		return fmt.Errorf("reconciler: %w", err)
	}
	destinations := map[string]run.Destination{}
	for name, r := range s.readers {
		destinations[name] = r
	}
	bySource := map[string]run.Deps{}
	s.backfills = s.newBackfills(bySource)
	repairs := rate.NewLimiter(rate.Limit(s.cfg.RepairRate), max(1, s.cfg.RepairRate/10))
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Sources)) {
		source := s.cfg.Sources[name]
		listed := map[string]provider.Resource{}
		for resource, res := range source.Resources {
			if res.Reconcile != nil {
				listed[resource] = res
			}
		}
		if len(listed) == 0 && source.Events == nil {
			continue
		}
		client, err := sourceapi.New(name, source.API, sourceapi.Deps{
			Now: s.deps.Now, Auth: s.deps.Accounts.Auth(&source, name), JetStream: s.js, Seal: box, Background: true,
		})
		if err != nil {
			return err
		}
		s.clients = append(s.clients, client)
		deps := run.Deps{JetStream: s.js, API: client, Publisher: s.publisher, Repairs: repairs, Metrics: s.metrics, Now: s.deps.Now, Destinations: destinations}
		bySource[name] = deps
		p := &plan{
			source: name, accounts: s.deps.Accounts.Of(name), turn: s.turn, forget: s.metrics.Forget, log: s.deps.Log,
			slots: source.API.Concurrency, back: make(chan struct{}, 1), tasks: map[cursor.Key]*task{},
			make: func(account string) ([]*task, error) { return s.tasks(name, account, listed, deps) },
		}
		s.plans = append(s.plans, p)
		if source.Accounts.Live() {
			continue // they are followed
		}
		for _, account := range source.AccountNames() { // what can't be listed is a mistake in the file
			if _, err := p.make(account); err != nil {
				return err
			}
		}
		p.add(source.AccountNames())
	}
	return nil
}

// tasks makes one for each resource of an account, and one that looks for its
// orphans: by schedule, or where somebody has asked for that and it was left.
func (s *Service) tasks(source, account string, listed map[string]provider.Resource, deps run.Deps) ([]*task, error) {
	var all []*task
	for resource := range listed {
		key := cursor.Key{Source: source, Account: account, Resource: resource}
		cfg := s.runConfig(key)
		r, err := run.New(cfg, deps)
		if err != nil {
			return nil, err
		}
		cfg.Key.Work = cursor.Deletes
		scanner := func() (*run.Runner, error) { return run.New(cfg, deps) }
		all = append(all, &task{key: key, runner: r, scanner: scanner})
		scan := &task{key: cfg.Key, scanner: scanner, left: r.ScanLeft}
		if cfg.Resource.Reconcile.Deletes != nil {
			scan.left = nil
			if scan.runner, err = scanner(); err != nil {
				return nil, err
			}
		}
		all = append(all, scan)
	}
	if s.cfg.Sources[source].Events == nil {
		return all, nil
	}
	t, err := s.eventsTask(source, account, deps)
	return append(all, t), err
}

// eventsTask is that of a source's list of events, in one account.
func (s *Service) eventsTask(source, account string, deps run.Deps) (*task, error) {
	key := cursor.Key{Source: source, Account: account, Resource: provider.EventsResource}
	r, err := run.New(s.runConfig(key), deps)
	return &task{key: key, runner: r}, err
}

func (s *Service) runConfig(key cursor.Key) run.Config {
	source := s.cfg.Sources[key.Source]
	cfg := run.Config{
		Key: key, Resource: source.Resources[key.Resource], Drop: source.Drop, Redact: source.Redact, Base: source.API.Base,
		LeaseTTL: s.cfg.LeaseTTL, CatchUp: s.cfg.CatchUp,
	}
	if key.Resource == provider.EventsResource && source.Events != nil {
		cfg.Source = &source
	}
	return cfg
}

// Run reconciles, backfills, audits, collects and answers requests until ctx
// ends, then returns nil. A run in hand is left at its last saved page, from
// where any replica goes on.
func (s *Service) Run(ctx context.Context) error {
	defer s.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.collector.Run(ctx) })
	g.Go(func() error { return s.audit.Run(ctx) })
	g.Go(func() error { s.pauses.Run(ctx); return nil })
	g.Go(func() error { return s.backfills.Run(ctx) })
	g.Go(func() error { return control.ServeBackfills(ctx, s.deps.Conn, s.backfills.Do) })
	g.Go(func() error { return s.alarms.Run(ctx) })
	g.Go(func() error { return s.census.Run(ctx) })
	for _, p := range s.plans {
		g.Go(func() error {
			if s.knowsPauses(ctx) {
				p.run(ctx)
			}
			return nil
		})
	}
	g.Go(func() error {
		defer s.runs.Wait()
		if !s.knowsPauses(ctx) {
			return nil
		}
		return control.ServeReconcile(ctx, s.deps.Conn, func(_ context.Context, r control.Request) (control.Started, error) {
			return s.begin(ctx, r) // the run outlives the request
		})
	})
	return g.Wait()
}

// knowsPauses waits until it is known what is paused: before, nothing can begin.
func (s *Service) knowsPauses(ctx context.Context) bool {
	select {
	case <-s.pauses.Ready():
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Service) close() {
	if s.metrics != nil {
		s.metrics.Close()
	}
	if s.alarms != nil {
		s.alarms.Close()
	}
	if s.census != nil {
		s.census.Close()
	}
	s.publisher.Close()
	for _, c := range s.clients {
		c.Close()
	}
	for _, r := range s.readers {
		_ = r.Close()
	}
}

// Healthy says why the service can't do its work, or nil. A source that can't
// be listed is told by reports and metrics: restarting would not mend it.
func (s *Service) Healthy(ctx context.Context) error {
	if status := s.deps.Conn.Status(); status != nats.CONNECTED {
		return fmt.Errorf("nats connection is %s", strings.ToLower(status.String()))
	}
	if _, err := cursor.Open(ctx, s.js); err != nil {
		return err
	}
	return s.pauses.Err() // before they are known, nothing begins
}

// log tells how a run ended.
func (s *Service) log(ctx context.Context, key cursor.Key, r *run.Run, err error) {
	if n := r.LostInside(); n > 0 {
		s.deps.Log.LogAttrs(ctx, slog.LevelError, "triggers were accepted but lost inside: their records were found by reconciliation",
			slog.String("resource", key.String()), slog.String("run", r.ID()), slog.Int("records", n))
		found := report.Finding{
			At: s.deps.Now().UTC(), Kind: report.RecordsLostInside, Name: key.String(), Count: n, Repaired: !r.DryRun(),
			Detail: "records were missed although their triggers had been accepted, found by run " + r.ID(),
		}
		if err := report.PublishFinding(context.WithoutCancel(ctx), s.js, found, r.ID()); err != nil {
			s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "finding is not in the reports", slog.Any("err", err))
		}
	}
	if why := r.Stopped(); why != "" && err == nil {
		s.deps.Log.LogAttrs(ctx, slog.LevelError, "orphans were neither asked for nor deleted", slog.String("resource", key.String()),
			slog.String("run", r.ID()), slog.String("reason", why))
	}
	switch {
	case ctx.Err() != nil: // it was stopped
	case errors.Is(err, cursor.ErrPaused):
		s.deps.Log.LogAttrs(ctx, slog.LevelInfo, "reconciliation was paused", slog.String("resource", key.String()),
			slog.String("run", r.ID()))
	case errors.Is(err, cursor.ErrLost), errors.Is(err, cursor.ErrConflict):
		s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "reconciliation was taken over", slog.String("resource", key.String()),
			slog.String("run", r.ID()), slog.Any("err", err))
	case err != nil:
		s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "reconciliation failed", slog.String("resource", key.String()),
			slog.String("run", r.ID()), slog.Any("err", err))
	default:
		s.deps.Log.LogAttrs(ctx, slog.LevelInfo, "reconciliation ended", slog.String("resource", key.String()),
			slog.String("run", r.ID()))
	}
}
