// Package console is how operators look into a running pipeline and act on it:
// the admin API (package api) and the pages over it (package pages), on a listener
// of their own.
//
// Who may call is decided in one place (package access), before anything else
// of a request is looked at. Everything that is told comes from the streams and
// the pipeline file; what is kept is an index of the streams, which can be made
// anew. Any number of consoles may run.
package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/console/internal/access"
	"github.com/tercelhq/tercel/services/console/internal/api"
	"github.com/tercelhq/tercel/services/console/internal/pages"
	"github.com/tercelhq/tercel/services/internal/certs"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

// Config is what an operator decides about the console: parts of the pipeline
// file.
type Config struct {
	// Console is the file's section. Defaults to [pipeline.Default]'s.
	pipeline.Console
	// Sources and Destinations are those of the file, by name.
	Sources      map[string]provider.Source
	Destinations map[string]pipeline.Destination
	// Redact is what of payloads isn't shown, by source.
	Redact redact.Set
	// Open lets callers on the machine itself in without a token, as operators,
	// where the file has no tokens and the address is a loopback one: for the
	// all-in-one.
	Open bool
	// Version is the program's, which callers are told.
	Version string
}

// Deps are the running things that a [Service] borrows and never closes.
type Deps struct {
	// Conn is the connection to the servers that have the streams. Required.
	Conn *nats.Conn
	// Log takes what operators should know. Required.
	Log *slog.Logger
	// Now is the clock by which tokens expire. Defaults to time.Now.
	Now func() time.Time
}

// Service is the console. Use [New], then [Service.Run] once.
type Service struct {
	cfg   Config
	deps  Deps
	gate  *access.Gate
	api   *api.API
	pages *pages.Pages
	index *timeline.Index
	tls   *certs.Certificates
	js    jetstream.JetStream

	ready chan struct{} // closed once Run listens
	mu    sync.Mutex    // guards addr
	addr  string
}

// New returns a service that is ready to run. Its error says what to do where
// the configuration would let anybody in, or nobody.
func New(cfg Config, deps Deps) (*Service, error) {
	if deps.Conn == nil || deps.Log == nil {
		return nil, errors.New("console: no connection or no log")
	}
	s := &Service{cfg: cfg, deps: deps, ready: make(chan struct{})}
	var err error
	if s.gate, err = access.New(access.Config{Console: cfg.Console, Open: cfg.Open}, access.Deps{Log: deps.Log, Now: deps.Now}); err != nil {
		return nil, err
	}
	if s.tls, err = certs.Read("console.tls", cfg.TLS, "h2", "http/1.1"); err != nil {
		return nil, err
	}
	if s.js, err = jetstream.New(deps.Conn); err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	if s.index, err = timeline.New(timeline.Config{Dir: cfg.Index}, timeline.Deps{JetStream: s.js, Log: deps.Log, Redact: cfg.Redact}); err != nil {
		return nil, fmt.Errorf("console.index: %w", err)
	}
	s.api, err = api.New(api.Config{Sources: cfg.Sources, Destinations: cfg.Destinations, Redact: cfg.Redact, Version: cfg.Version},
		api.Deps{Conn: deps.Conn, Log: deps.Log, Gate: s.gate, Index: s.index, Now: deps.Now})
	if err != nil {
		return nil, err
	}
	s.pages, err = pages.New(pages.Deps{API: s.api.InProcess(), JetStream: s.js, Gate: s.gate, Log: deps.Log, Now: deps.Now, Secure: s.tls != nil})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Ready returns a channel that is closed once Run listens.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Addr returns the address that Run listens on, with the port that it was given,
// or "" before Ready.
func (s *Service) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// URL returns where people find the console, or "" before Ready.
func (s *Service) URL() string {
	addr := s.Addr()
	switch {
	case addr == "":
		return ""
	case s.tls != nil:
		return "https://" + addr
	default:
		return "http://" + addr
	}
}

// Healthy says why the service can't do its work, or nil.
func (s *Service) Healthy(ctx context.Context) error {
	if s.Addr() == "" {
		return errors.New("console: not listening")
	}
	if !s.deps.Conn.IsConnected() {
		return errors.New("console: not connected to nats")
	}
	if _, err := s.js.Stream(ctx, topology.StreamAudit); err != nil {
		return fmt.Errorf("console: stream %s: %w", topology.StreamAudit, err)
	}
	return nil
}
