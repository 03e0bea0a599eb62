// Package enricher turns triggers into enriched events: it reads TERCEL_RAW,
// gets from the source's API the record that a trigger names and its related
// records, and publishes all of it to TERCEL_ENRICHED.
//
// It holds no state; any number of replicas share one durable consumer for
// each source, so a source whose API is down holds up no other. An outage costs
// no attempts: the source's consumer is paused until its API may be tried again. A trigger is
// acknowledged only after its events were (promise 5), and an event is never
// passed on without the record that it should have: what can't be enriched is
// tried again and in the end becomes a dead letter (promise 3).
//
// A record that the API no longer has becomes a tombstone. A required related
// record that is missing is an error that may pass, since systems often show
// a record before what it refers to; if it does not pass, the last attempt
// makes a dead letter of the trigger.
package enricher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/pkg/outcome"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/seal"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Config is how the enricher works.
type Config struct {
	// Config is how triggers are worked through, for each source. Batch must
	// be 1: triggers are independent of each other.
	consume.Config
	// Sources are the sources whose triggers are enriched, by name. Required.
	Sources map[string]provider.Source
	// Streams is how the streams are kept. Events are committed in groups where
	// one synced server keeps them.
	Streams topology.Config
	// SealKeys seal the refresh tokens that issuers replace.
	SealKeys []config.Secret
}

// Deps are what a [Service] borrows and never closes.
type Deps struct {
	Conn *nats.Conn
	Log  *slog.Logger
	// Accounts are those of the sources. Without them requests have the sources'
	// own credentials.
	Accounts *account.Set
	// Now tells when records were observed, and how long an API is to be left
	// alone. Defaults to time.Now.
	Now func() time.Time
}

// Service enriches the triggers of all its sources. Use [New].
type Service struct {
	js jetstream.JetStream
	// events publishes to TERCEL_ENRICHED, notes to TERCEL_RAW. The latter is nil
	// where no source drops anything.
	events, notes *publish.Publisher
	outcomes      *outcome.Log
	apis          []*sourceapi.Client
	sources       []*source
	loops         []*consume.Loop
}

// New returns a service that is ready to [Service.Run], which must follow:
// Run ends what New has started. The error tells what is wrong in cfg.
func New(cfg Config, deps Deps) (*Service, error) {
	if cfg.Batch != 1 {
		return nil, fmt.Errorf("enricher: batch: %d, want 1", cfg.Batch)
	}
	cfg.GiveUpAfter = cmp.Or(cfg.GiveUpAfter, consume.DefaultConfig().GiveUpAfter)
	if deps.Now == nil {
		deps.Now = time.Now
	}
	js, err := jetstream.New(deps.Conn)
	if err != nil {
		return nil, fmt.Errorf("enricher: jetstream: %w", err)
	}
	box, err := seal.New(cfg.SealKeys)
	if err != nil {
		return nil, fmt.Errorf("enricher: %w", err)
	}
	s := &Service{js: js, outcomes: outcome.NewLog(js, deps.Log)}
	for _, name := range slices.Sorted(maps.Keys(cfg.Sources)) {
		src, err := s.newSource(name, cfg, deps, sourceapi.Deps{Now: deps.Now, JetStream: js, Seal: box})
		if err != nil {
			return nil, fmt.Errorf("enricher: %w", err)
		}
		consumer := topology.EnrichConsumer(name, cfg.Delivery())
		consumer.Metadata = src.cfg.Redact.Metadata()
		loop, err := consume.New(cfg.Config, topology.StreamRaw, consumer,
			consume.Each(src.handle), consume.Deps{
				JetStream: js, Log: deps.Log.With(slog.String("source", name)),
				Keep: deadletter.Keep(js, topology.EnrichDurable(name)), Note: s.outcomes.Note(topology.EnrichDurable(name)),
			})
		if err != nil {
			return nil, fmt.Errorf("enricher: %w", err)
		}
		s.sources, s.loops = append(s.sources, src), append(s.loops, loop)
	}
	if err := s.openPublishers(cfg, deps.Conn); err != nil {
		return nil, fmt.Errorf("enricher: %w", err)
	}
	return s, nil
}

func (s *Service) openPublishers(cfg Config, nc *nats.Conn) error {
	how := publish.Config{Group: cfg.Streams.Grouped()}
	var err error
	if s.events, err = publish.New(nc, how); err != nil {
		return err
	}
	for _, src := range s.sources {
		src.store = storeBy(s.events)
		if src.cfg.Drop.IsZero() {
			continue
		}
		if s.notes == nil {
			if s.notes, err = publish.New(nc, how); err != nil {
				s.events.Close()
				return err
			}
		}
		src.note = storeBy(s.notes)
	}
	return nil
}

// storeBy stores by p. A server that is away, or has no room, is no fault of the
// trigger: it waits, and that is no attempt.
func storeBy(p *publish.Publisher) func(context.Context, *nats.Msg) error {
	return func(ctx context.Context, msg *nats.Msg) error {
		_, err := p.Publish(ctx, msg)
		if isUnstored(err) {
			return fault.Postpone(err, storePause)
		}
		return err
	}
}

func isUnstored(err error) bool {
	return errors.Is(err, publish.ErrUnavailable) || errors.Is(err, publish.ErrBusy)
}

// storePause is how long a trigger waits when what it leads to can't be stored.
const storePause = time.Second

// Run works until ctx ends, then finishes what is in hand and returns nil. It
// must be called once.
func (s *Service) Run(ctx context.Context) error {
	defer s.outcomes.Start()()
	defer func() {
		s.events.Close()
		if s.notes != nil {
			s.notes.Close()
		}
		for _, api := range s.apis {
			api.Close()
		}
	}()
	group, ctx := errgroup.WithContext(ctx)
	for _, loop := range s.loops {
		group.Go(func() error { return loop.Run(ctx) })
	}
	return group.Wait()
}

// Healthy reports whether the consumer of every source can be reached; it
// exists once its loop has begun.
func (s *Service) Healthy(ctx context.Context) error {
	var errs []error
	for _, src := range s.sources {
		if _, err := s.js.Consumer(ctx, topology.StreamRaw, topology.EnrichDurable(src.name)); err != nil {
			errs = append(errs, fmt.Errorf("consumer of %s: %w", src.name, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Service) newSource(name string, cfg Config, deps Deps, api sourceapi.Deps) (*source, error) {
	src := &source{name: name, cfg: cfg.Sources[name], attempts: cfg.MaxAttempts}
	var err error
	if src.dropped, err = metrics.TriggersDropped.Counter(); err != nil {
		return nil, err
	}
	if len(src.cfg.Resources) == 0 {
		return src, nil // there is nothing to get
	}
	if deps.Accounts != nil {
		api.Auth = deps.Accounts.Auth(&src.cfg, name)
	}
	client, err := sourceapi.New(name, src.cfg.API, api)
	if err != nil {
		return nil, err
	}
	s.apis, src.api = append(s.apis, client), client
	src.outage = outage{source: name, api: client, js: api.JetStream, log: deps.Log, patience: cfg.GiveUpAfter, now: deps.Now}
	return src, nil
}
