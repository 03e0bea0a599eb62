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

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/control"
	"github.com/tercelhq/tercel/services/reconciler/internal/audit"
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
}

// Deps are what a [Service] borrows.
type Deps struct {
	Conn *nats.Conn
	Log  *slog.Logger
	// Now tells the time of windows and schedules. Defaults to time.Now.
	Now func() time.Time
}

// Service is the reconciler.
type Service struct {
	cfg       Config
	deps      Deps
	js        jetstream.JetStream
	runners   map[cursor.Key]*run.Runner
	collector *collector.Collector
	audit     *audit.Audit
	metrics   *run.Metrics
	publisher *publish.Publisher
	clients   []*sourceapi.Client
	runs      sync.WaitGroup // those that were asked for
}

// New returns a service. The streams and buckets must exist. Run it, once.
func New(cfg Config, deps Deps) (*Service, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	s := &Service{cfg: cfg, deps: deps, runners: map[cursor.Key]*run.Runner{}}
	var err error
	if s.js, err = jetstream.New(deps.Conn); err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	if s.collector, err = collector.New(collector.Config{Collect: cfg.Collect}, collector.Deps{JetStream: s.js, Log: deps.Log}); err != nil {
		return nil, err
	}
	s.audit, err = audit.New(audit.Config{
		Every: cfg.AuditEvery, Settle: cfg.AuditSettle, Sources: slices.Sorted(maps.Keys(cfg.Sources)),
		LeaseTTL: cfg.LeaseTTL, Streams: cfg.Streams,
	}, audit.Deps{Conn: deps.Conn, Log: deps.Log})
	if err != nil {
		return nil, err
	}
	if s.publisher, err = publish.New(deps.Conn, publish.Config{
		Group: cfg.Streams.Durability == topology.Synced && cfg.Streams.Replicas == 1,
	}); err != nil {
		return nil, err
	}
	if s.metrics, err = run.NewMetrics(deps.Now); err == nil {
		err = s.addRunners()
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// addRunners makes one runner for each resource to list, in each account. They
// share one client for each source, whose limits they share too.
func (s *Service) addRunners() error {
	repairs := rate.NewLimiter(rate.Limit(s.cfg.RepairRate), max(1, s.cfg.RepairRate/10))
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Sources)) {
		source := s.cfg.Sources[name]
		var client *sourceapi.Client
		for resource, res := range source.Resources {
			if res.Reconcile == nil {
				continue
			}
			if client == nil {
				var err error
				if client, err = sourceapi.New(name, source.API, sourceapi.Deps{Now: s.deps.Now}); err != nil {
					return err
				}
				s.clients = append(s.clients, client)
			}
			for _, account := range source.AccountNames() {
				key := cursor.Key{Source: name, Account: account, Resource: resource}
				r, err := run.New(run.Config{Key: key, Resource: res, LeaseTTL: s.cfg.LeaseTTL, CatchUp: s.cfg.CatchUp}, run.Deps{
					JetStream: s.js, API: client, Publisher: s.publisher, Repairs: repairs, Metrics: s.metrics, Now: s.deps.Now,
				})
				if err != nil {
					return err
				}
				s.runners[key] = r
			}
		}
	}
	return nil
}

// Run reconciles, audits, collects and answers requests until ctx ends, then
// returns nil. A run in hand is left at its last saved page, from where any
// replica goes on.
func (s *Service) Run(ctx context.Context) error {
	defer s.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.collector.Run(ctx) })
	g.Go(func() error { return s.audit.Run(ctx) })
	for key, runner := range s.runners {
		g.Go(func() error { s.schedule(ctx, key, runner); return nil })
	}
	g.Go(func() error {
		defer s.runs.Wait()
		return control.ServeReconcile(ctx, s.deps.Conn, func(r control.Request) (control.Started, error) { return s.begin(ctx, r) })
	})
	return g.Wait()
}

func (s *Service) close() {
	if s.metrics != nil {
		s.metrics.Close()
	}
	s.publisher.Close()
	for _, c := range s.clients {
		c.Close()
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
	return nil
}

// log tells how a run ended.
func (s *Service) log(ctx context.Context, key cursor.Key, r *run.Run, err error) {
	switch {
	case ctx.Err() != nil: // it was stopped
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
