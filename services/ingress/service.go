// Package ingress takes webhooks in over HTTP and stores them in TERCEL_RAW.
//
// A request to POST /v1/SOURCE or POST /v1/SOURCE/ACCOUNT passes one list of
// checks (checks.go), cheapest first: is there such a source, is there room,
// does the request's form fit, is its signature genuine, and only then what it
// says. What fails is answered 4xx, or as its source wants it (reply.refused),
// counted and never stored (promise 2). What passes is published, and answered
// 2xx once JetStream has acknowledged it (promise 1); if JetStream can't, the
// answer is 503 and the provider sends it again, under an id that makes the
// repeat harmless (promise 4).
//
// Of a request the body's bytes and the attributes of package event reach the
// message. Headers that the checks look at stand in one of those, so that the
// request can be checked again (evidence.go); none becomes a header of its own: a
// Nats-Rollup among them would empty the stream.
//
// The service holds no state but limits, and ids of what was stored, which all
// replicas read from one stream (package seen): any number of them can stand behind
// one load balancer. [Explain] makes the same checks on a request that
// was captured in a file.
package ingress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/publish"
	kept "github.com/tercelhq/tercel/pkg/refusal"
	"github.com/tercelhq/tercel/pkg/seen"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/certs"
)

// Config is what an operator decides about taking webhooks in: parts of the
// pipeline file.
type Config struct {
	// Ingress bounds requests. Defaults to [pipeline.Default]'s.
	pipeline.Ingress
	// Sources are the systems that may send, by name. They must have been
	// validated, which gives them their keys.
	Sources map[string]provider.Source
	// Streams says how events are kept. On one synced node the service commits
	// in groups.
	Streams topology.Config
}

// Validate reports every fault of c at once, each naming its YAML key.
func (c Config) Validate() error {
	var errs []error
	if c.MaxInFlight < 1 {
		errs = append(errs, fmt.Errorf("ingress.max_in_flight: %d, want at least 1", c.MaxInFlight))
	}
	for _, d := range []struct {
		key  string
		have time.Duration
	}{{"read_timeout", c.ReadTimeout}, {"store_timeout", c.StoreTimeout}, {"drain_timeout", c.DrainTimeout}} {
		if d.have <= 0 {
			errs = append(errs, fmt.Errorf("ingress.%s: %s, want more than 0s", d.key, d.have))
		}
	}
	if c.BodyBudget < 1 {
		errs = append(errs, fmt.Errorf("ingress.body_budget: %d, want at least 1", c.BodyBudget))
	}
	if c.DrainGrace < 0 {
		errs = append(errs, fmt.Errorf("ingress.drain_grace: %s, want 0s or more", c.DrainGrace))
	}
	return errors.Join(errs...)
}

// Deps are the running things that a [Service] borrows and never closes.
type Deps struct {
	// Conn is the connection to the servers that have the streams. Required.
	Conn *nats.Conn
	// Log takes what operators should know. Required.
	Log *slog.Logger
	// Accounts are those of the sources. Required where any has them elsewhere
	// than in the pipeline file.
	Accounts *account.Set
	// Now is the clock that signatures are held against. Defaults to time.Now.
	Now func() time.Time
	// Outside is how senders' servers are reached. Defaults to the usual way.
	Outside Outside
}

// Service takes webhooks in. Use [New], then [Service.Run] once; the handler
// alone can also be served by something else. It is safe for concurrent use.
type Service struct {
	cfg    Config
	deps   Deps
	routes map[string]*route
	room   *room
	pub    *publish.Publisher
	seen   *seen.Index // nil where no source has a horizon
	js     jetstream.JetStream
	meter  *meter
	host   string // by which triggers say who took them in
	intake *intake.Log
	kept   *kept.Log // of what was refused

	tls *certs.Certificates // nil for plain HTTP

	parting atomic.Bool // connections end with their next answer

	ready chan struct{} // closed once Run listens
	mu    sync.Mutex    // guards those below
	addr  string
	state state
}

type state string

const (
	starting state = "not listening yet"
	serving  state = "listening"
	leaving  state = "leaving, other replicas should be used"
	stopping state = "stopping"
)

// healthTimeout bounds the question to the server in Healthy.
const healthTimeout = 2 * time.Second

// New returns a service that is ready to run. It needs no reachable server.
// End it with Run's context, or with Close if it is never run.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Conn == nil || deps.Log == nil {
		return nil, errors.New("ingress: no connection or no log")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Accounts == nil {
		var err error
		if deps.Accounts, err = account.Fixed(cfg.Sources); err != nil {
			return nil, fmt.Errorf("ingress: %w", err)
		}
	}
	meter, err := newMeter(slices.Collect(maps.Keys(cfg.Sources)))
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, deps: deps, meter: meter, routes: make(map[string]*route, len(cfg.Sources)),
		room:  newRoom(int64(cfg.MaxInFlight), int64(cfg.BodyBudget), len(cfg.Sources) > 1),
		ready: make(chan struct{}), state: starting,
	}
	for name, source := range cfg.Sources {
		if s.routes[name], err = newRoute(name, source, deps.Accounts.Of(name)); err != nil {
			return nil, err
		}
		s.routes[name].boundHorizon(cfg.Streams)
		if err = s.routes[name].reach(deps.Outside, deps.Now); err != nil {
			return nil, err
		}
	}
	s.host, _ = os.Hostname() // without one they say how long it took
	if s.tls, err = certs.Read("ingress.tls", cfg.TLS, "http/1.1"); err != nil {
		return nil, err
	}
	if s.js, err = jetstream.New(deps.Conn); err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	s.intake = intake.New(s.js, deps.Now, slices.Collect(maps.Keys(cfg.Sources)), outcomeNames())
	s.pub, err = publish.New(deps.Conn, publish.Config{
		Group:      cfg.Streams.Grouped(),
		Replicated: cfg.Streams.Replicas > 1,
		Timeout:    cfg.StoreTimeout,
		// The slots bound what waits, so that the queue never has to refuse.
		Queue: max(4096, cfg.MaxInFlight),
	})
	if err != nil {
		return nil, err
	}
	if err := s.openSeen(); err != nil {
		s.pub.Close()
		return nil, err
	}
	s.kept = kept.NewLog(s.js, deps.Log)
	return s, nil
}

// openSeen starts the second line against repeats, unless no source wants it.
func (s *Service) openSeen() error {
	var longest time.Duration
	for _, r := range s.routes {
		longest = max(longest, r.horizon)
	}
	if longest == 0 {
		return nil
	}
	cfg := seen.Config{Horizon: longest, Window: s.cfg.Streams.DedupWindow, Memory: s.cfg.DedupMemory}
	if w := s.cfg.Streams.DedupWindow; w > 0 { // marks must have gone round before it ends
		cfg.Flush = min(2*time.Second, w/4)
	}
	var err error
	s.seen, err = seen.New(cfg, seen.Deps{JetStream: s.js, Log: s.deps.Log})
	return err
}

// Handler returns what answers webhooks. It bounds a request's size and number
// but not its time: that is for the server around it, as Run's does.
func (s *Service) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Close ends the publisher after what waits in it was stored, and notes what
// that was. Events that come later are answered 503. Run calls it.
func (s *Service) Close() {
	for _, r := range s.routes {
		r.leave()
	}
	s.pub.Close()
	if s.seen != nil {
		s.seen.Close()
	}
	s.logRefusals(context.Background(), true)
	s.kept.Close()
}

// Ready returns a channel that is closed once Run listens.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Addr returns the address that Run listens on, with the port that it was
// given, or "" before Ready.
func (s *Service) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Healthy reports why the service can't take webhooks in at the moment, or
// nil: it listens, it is connected, it knows its accounts, and the stream is
// there. It takes at most two seconds.
func (s *Service) Healthy(ctx context.Context) error {
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	if state != serving {
		return fmt.Errorf("ingress: %s", state)
	}
	if !s.deps.Conn.IsConnected() {
		return errors.New("ingress: not connected to nats")
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	if err := s.deps.Accounts.Loaded(ctx); err != nil {
		return fmt.Errorf("ingress: %w", err)
	}
	if _, err := s.js.Stream(ctx, topology.StreamRaw); err != nil {
		return fmt.Errorf("ingress: stream %s: %w", topology.StreamRaw, err)
	}
	return nil
}

func (s *Service) enter(st state, addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.addr = st, addr
}
