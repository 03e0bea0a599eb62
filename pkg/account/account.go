// Package account knows the accounts of each source as they are now: which
// there are, what their webhooks are signed with, and what requests to the
// source's API prove themselves with in their name.
//
// They stand in the pipeline file, or in a file, a folder or a NATS bucket that
// is followed while the process runs. Every entry counts by itself: one that
// can't be used leaves the last good one in its place, is logged with its name
// and counted; one that is gone is unknown from then on. A place without any
// entry at all is taken for a mistake and changes nothing.
//
// A file is read once it was the same at two looks, two seconds apart, so that
// it isn't read while it is being written. Looks are less frequent where they
// take long: they cost at most two hundredths of a CPU. The files that secrets
// are read from are looked at as well. Changes in a bucket are there at once.
//
// Readers take no lock, and a change of one account costs the same for them
// however many there are.
package account

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/seal"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Errors of [Table.Find].
var (
	// ErrUnknown means that there is no such account, or that it is disabled.
	ErrUnknown = errors.New("no such account")
	// ErrBroken means that there is one whose entry was never good.
	ErrBroken = errors.New("the account's entry can't be used")
	// ErrLoading means that the accounts have not been read yet.
	ErrLoading = errors.New("accounts have not been read yet")
)

// Config is what accounts are needed.
type Config struct {
	// Sources are the sources by name. They must have been validated.
	Sources map[string]provider.Source
	// Streams says how a bucket that has to be made is kept.
	Streams topology.Config
	// SealKeys open the entries in buckets: the pipeline file's seal_keys.
	SealKeys []config.Secret
}

// Deps are what a [Set] borrows.
type Deps struct {
	// Conn is the connection to the servers that have the buckets. Required
	// where there is one.
	Conn *nats.Conn
	Log  *slog.Logger
}

// Set is the accounts of all sources. Use [Open]. It is safe for concurrent use.
type Set struct {
	tables map[string]*Table // of the sources that have accounts
	gauge  metric.Registration
	stop   context.CancelFunc
	ended  sync.WaitGroup
}

// Open reads the accounts and follows their changes until Close. It needs no
// reachable server: of accounts in a bucket nothing is known until they were
// read, see [Set.Loaded]. The error says which file or folder can't be read, or
// which seal key is none; entries that can't be used are logged.
func Open(cfg Config, deps Deps) (*Set, error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Set{tables: map[string]*Table{}, stop: cancel}
	if err := s.open(ctx, cfg, deps); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Set) open(ctx context.Context, cfg Config, deps Deps) error {
	box, err := seal.New(cfg.SealKeys)
	if err != nil {
		return err
	}
	var js jetstream.JetStream
	for name, source := range cfg.Sources {
		if source.Accounts.IsZero() {
			continue
		}
		t := newTable(name, source, box, deps.Log.With(slog.String("source", name)))
		s.tables[name] = t
		switch {
		case source.Accounts.Bucket != "":
			if js == nil {
				if js, err = jetstream.New(deps.Conn); err != nil {
					return fmt.Errorf("jetstream: %w", err)
				}
			}
			b := bucket{
				table: t, conn: deps.Conn, js: js, setup: cfg.Streams.Setup,
				cfg: topology.AccountsBucket(cfg.Streams, source.Accounts.Bucket),
			}
			s.ended.Go(func() { b.follow(ctx) })
		case source.Accounts.Live():
			f := newFiles(t)
			if err := f.load(ctx); err != nil {
				return fmt.Errorf("accounts of %s: %w", name, err)
			}
			s.ended.Go(func() { f.follow(ctx) })
		}
	}
	return s.measure()
}

// measure tells how many accounts there are.
func (s *Set) measure() error {
	var err error
	s.gauge, err = metrics.Observe(func(o metrics.Observer) {
		for name, t := range s.tables {
			n := t.Count()
			for state, n := range map[string]int{"active": n.Active, "disabled": n.Disabled, "broken": n.Broken} {
				o.Set(metrics.AccountsLoaded, float64(n), name, state)
			}
		}
	}, metrics.AccountsLoaded)
	return err
}

// Of returns the accounts of a source, or nil for a source that has none.
func (s *Set) Of(source string) *Table { return s.tables[source] }

// Loaded waits until all accounts have been read once, or returns what they
// wait for when ctx ends.
func (s *Set) Loaded(ctx context.Context) error {
	for name, t := range s.tables {
		select {
		case <-t.loaded:
		default:
			select {
			case <-t.loaded:
			case <-ctx.Done():
				return fmt.Errorf("%s: %w", name, ErrLoading)
			}
		}
	}
	return nil
}

// Auth returns what requests to the source's API prove themselves with in an
// account's name: what the account has of its own, else what the source has. It
// is false for one that is not there. [event.NoAccount] is the source itself.
func (s *Set) Auth(source *provider.Source, name string) func(account string) (provider.Auth, bool) {
	t := s.tables[name]
	return func(account string) (provider.Auth, bool) {
		if t == nil || account == event.NoAccount {
			return source.API.Auth, true
		}
		it := t.find(account)
		switch {
		case it == nil || it.account == nil:
			return provider.Auth{}, false
		case it.account.API != nil: // a disabled account's triggers are still enriched
			return *it.account.API, true
		}
		return source.API.Auth, true
	}
}

// Close ends the following.
func (s *Set) Close() {
	s.stop()
	s.ended.Wait()
	if s.gauge != nil {
		_ = s.gauge.Unregister()
	}
}

// Read reads the accounts of one source that are in the pipeline file, a file or
// a folder, as they are now, and returns them with everything that is wrong with
// their entries. Of those in a bucket it knows nothing. An error means that the
// place itself can't be read, or that a seal key is none.
func Read(name string, source provider.Source, sealKeys []config.Secret) (*Table, config.Faults, error) {
	box, err := seal.New(sealKeys)
	if err != nil {
		return nil, nil, err
	}
	t := newTable(name, source, box, slog.New(slog.DiscardHandler))
	if a := source.Accounts; a.File != "" || a.Dir != "" {
		if err := newFiles(t).load(context.Background()); err != nil {
			return nil, nil, fmt.Errorf("accounts of %s: %w", name, err)
		}
	}
	return t, t.faults(), nil
}

// Fixed returns the accounts of sources that have them in the pipeline file. It
// need not be closed. The error names a source that has them elsewhere.
func Fixed(sources map[string]provider.Source) (*Set, error) {
	s := &Set{tables: map[string]*Table{}, stop: func() {}}
	for name, source := range sources {
		switch {
		case source.Accounts.Live():
			return nil, fmt.Errorf("accounts of %s: they must be opened", name)
		case !source.Accounts.IsZero():
			s.tables[name] = newTable(name, source, nil, slog.New(slog.DiscardHandler))
		}
	}
	return s, nil
}
