// Package sink delivers enriched events to destinations.
//
// Every destination has its own durable consumer on TERCEL_ENRICHED and its
// own loop, so that one which is down or slow holds up no other. A batch is
// acknowledged once it is durably written (promise 5), and writing it again
// changes nothing (promise 4), so a crash at any point costs a repetition.
//
// A loop runs only while its destination takes writes. When a whole batch
// fails for a reason that may pass, such as a full disk, the loop stops, the
// destination is opened anew with growing delays, and only then messages are
// pulled again: an outage that a kind of destination can tell from an event's own
// failure uses up no attempts.
package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/outcome"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
)

// Config is which destinations there are and how they are served.
type Config struct {
	// Config is how each destination's loop works. RetryMin and RetryMax also
	// bound the delay between two attempts to open a destination.
	consume.Config
	// Destinations are served each by its own loop, by name.
	Destinations map[string]pipeline.Destination
}

// Deps are what a [Service] borrows and never closes.
type Deps struct {
	JetStream jetstream.JetStream
	Log       *slog.Logger
}

// Service is the sink. Several may run against the same stream and share what is
// to be delivered. A folder of files has one of them at a time, the others wait
// for it and say that they aren't ready; a database takes one batch at a time, or
// more if it can; objects of several sinks come to lie side by side.
type Service struct {
	destinations []*destination
	js           jetstream.JetStream
	outcomes     *outcome.Log
}

// New returns a service for cfg. The error lists every mistake in the
// configuration; nothing is opened before Run.
func New(cfg Config, deps Deps) (*Service, error) {
	s := &Service{js: deps.JetStream, outcomes: outcome.NewLog(deps.JetStream, deps.Log)}
	var errs []error
	users := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(cfg.Destinations)) {
		d, err := s.newDestination(cfg.Config, name, cfg.Destinations[name], deps)
		if err != nil {
			errs = append(errs, fmt.Errorf("destination %s: %w", name, err))
			continue
		}
		if other, taken := users[d.plan.target]; taken && d.plan.target != "" {
			errs = append(errs, fmt.Errorf("destination %s: %s writes to %s already", name, other, d.plan.target))
		}
		users[d.plan.target] = name
		s.destinations = append(s.destinations, d)
	}
	if len(cfg.Destinations) == 0 {
		errs = append(errs, errors.New("no destinations: the pipeline file names none"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Run delivers to all destinations until ctx ends, then finishes what is in
// hand, closes the destinations and returns nil. A destination that fails is
// tried for as long as it takes.
func (s *Service) Run(ctx context.Context) error {
	defer s.outcomes.Start()()
	var loops sync.WaitGroup
	for _, d := range s.destinations {
		loops.Go(func() { d.run(ctx) })
	}
	loops.Wait()
	return nil
}

// Healthy returns nil when NATS is there and every destination is open and
// took the last batch that it was given; otherwise it names each that doesn't
// and why.
func (s *Service) Healthy(context.Context) error {
	var errs []error
	if !s.js.Conn().IsConnected() {
		errs = append(errs, errors.New("not connected to nats"))
	}
	for _, d := range s.destinations {
		if err := d.health(); err != nil {
			errs = append(errs, fmt.Errorf("destination %s: %w", d.name, err))
		}
	}
	return errors.Join(errs...)
}

// checkName keeps a destination's name fit for a consumer's.
func checkName(name string) error {
	if !provider.Name.MatchString(name) {
		return errors.New("want a name of lower-case letters, digits, - and _, at most 63")
	}
	return nil
}

// absolute is path in the one spelling by which two are compared.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return filepath.Clean(path)
}
