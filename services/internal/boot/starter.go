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

	mu      sync.Mutex // guards what follows
	conn    *nats.Conn
	service Service // nil until it is built
}

// Run connects, sets the streams up, builds the service and runs it.
func (s *starter) Run(ctx context.Context) error {
	nc, err := Connect(s.file.NATS, s.name, s.log)
	if err != nil {
		return err
	}
	defer nc.Close()
	s.enter(nc, nil)
	env := Env{File: s.file, Conn: nc, Log: s.log, accounts: &accounts{}}
	defer env.accounts.close()
	if env.JetStream, err = jetstream.New(nc); err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	if err := topology.Ensure(ctx, env.JetStream, s.file.Streams); err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it began
		}
		return fmt.Errorf("set up streams: %w", errors.Join(err, unreached(nc)))
	}
	svc, err := s.build(env)
	if err != nil {
		return err
	}
	s.enter(nc, svc)
	return svc.Run(ctx)
}

// Healthy says what the service waits for, then how it is.
func (s *starter) Healthy(ctx context.Context) error {
	s.mu.Lock()
	conn, svc := s.conn, s.service
	s.mu.Unlock()
	switch {
	case svc != nil:
		return svc.Healthy(ctx)
	case conn == nil:
		return errors.New("starting")
	default:
		return errors.Join(errors.New("setting up streams"), unreached(conn))
	}
}

func (s *starter) enter(conn *nats.Conn, svc Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.service = conn, svc
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
