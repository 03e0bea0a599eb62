package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
)

// starter is a service that is built as soon as NATS is there. Until then the
// process is alive, not ready, and says why.
type starter struct {
	name  string
	file  *pipeline.File
	log   *slog.Logger
	build func(Env) (Service, error)
	// ensure is [topology.Ensure], which gives up after a while.
	ensure func(context.Context, jetstream.JetStream, topology.Config) error

	mu      sync.Mutex // guards what follows
	conn    *nats.Conn
	answers *answers // nil before there are any
	service Service  // nil until it is built
}

// Run connects, sets the streams up, builds the service and runs it.
func (s *starter) Run(ctx context.Context) error {
	nc, err := Connect(s.file.NATS, s.name, s.log)
	if err != nil {
		return err
	}
	defer nc.Close()
	env := Env{File: s.file, Conn: nc, Log: s.log, accounts: &accounts{}}
	defer env.accounts.close()
	if env.JetStream, err = jetstream.New(nc); err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	answers, err := newAnswers(nc, env.JetStream, s.log)
	if err != nil {
		return err
	}
	s.enter(nc, answers, nil)
	// A service that stops finishes what is in hand, for which it needs answers too.
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	watch.Go(func() { answers.watch(watching) })
	defer watch.Wait()
	defer stop()
	if err := s.setUp(ctx, env); err != nil || ctx.Err() != nil {
		return err // or it was stopped before it began
	}
	svc, err := s.build(env)
	if err != nil {
		return err
	}
	s.enter(nc, answers, svc)
	return svc.Run(ctx)
}

// setUp sets the streams up as soon as the servers can, or until ctx ends. The
// error is one that waiting doesn't mend.
func (s *starter) setUp(ctx context.Context, env Env) error {
	for {
		err := s.ensure(ctx, env.JetStream, s.file.Streams)
		switch {
		case err == nil, ctx.Err() != nil:
			return nil
		case isFinal(err):
			return fmt.Errorf("set up streams: %w", err)
		}
		s.log.LogAttrs(ctx, slog.LevelWarn, "streams not set up; trying on", slog.Any("err", errors.Join(err, unreached(env.Conn))))
	}
}

// isFinal reports whether the servers, or whoever is to set the streams up, have
// been asked and said no. Else they were not there.
func isFinal(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, topology.ErrDestructive) || errors.Is(err, topology.ErrNotSetUp) ||
		errors.As(err, &api) && api.Code >= 400 && api.Code < 500
}

// Healthy says what the service waits for, then how it is.
func (s *starter) Healthy(ctx context.Context) error {
	s.mu.Lock()
	conn, answers, svc := s.conn, s.answers, s.service
	s.mu.Unlock()
	if conn == nil {
		return errors.New("starting")
	}
	silence := answers.check()
	switch {
	case svc == nil:
		return errors.Join(errors.New("setting up streams"), unreached(conn), silence)
	case silence != nil:
		return errors.Join(silence, unreached(conn)) // it can't do its work, whatever it knows of it
	default:
		return svc.Healthy(ctx)
	}
}

func (s *starter) enter(conn *nats.Conn, answers *answers, svc Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.answers, s.service = conn, answers, svc
}

// unreached says why there is no connection, or nil when there is one.
func unreached(nc *nats.Conn) error {
	if nc.IsConnected() {
		return nil
	}
	if err := nc.LastError(); err != nil {
		return fmt.Errorf("nats not reached: %w", err)
	}
	return errors.New("nats not reached")
}
