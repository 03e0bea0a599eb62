package ingress

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/tercelhq/tercel/services/internal/blame"
	"github.com/tercelhq/tercel/services/internal/lobby"
)

// Bounds of a connection that no operator has asked to change.
const (
	maxHeaderBytes = 32 << 10
	idleTimeout    = time.Minute
	// connsPerSlot is how many connections may be open for each request that
	// may be in hand; most are idle.
	connsPerSlot = 4
	// answerTime is left to write an answer that comes as late as it may. One that comes
	// sooner has longer, and who doesn't read it makes room meanwhile; see package lobby.
	answerTime = 5 * time.Second
)

// Run listens and serves until ctx ends. Then it says that it isn't ready and
// goes on serving for DrainGrace, takes no more connections, finishes the
// requests in hand within DrainTimeout, closes the publisher and returns nil. A
// request that takes longer loses its connection, and the provider sends it
// again. An error means that it couldn't listen.
func (s *Service) Run(ctx context.Context) error {
	defer s.Close()
	s.awaitSeen(ctx)
	s.awaitAccounts(ctx)
	defer s.keepUp(ctx)()
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for webhooks: %w; choose another address with ingress.listen", err)
	}
	srv, conns := s.newServer(), lobby.New(ln, connsPerSlot*s.cfg.MaxInFlight)
	srv.ConnState = conns.Follow
	ended := make(chan error, 1)
	s.enter(serving, ln.Addr().String())
	go func() { ended <- srv.Serve(blame.Listener(s.tls.Listener(conns), srv.ErrorLog)) }()
	close(s.ready)
	s.deps.Log.LogAttrs(ctx, slog.LevelInfo, "listening for webhooks", slog.String("addr", s.Addr()), slog.Int("sources", len(s.routes)))
	select {
	case err := <-ended:
		s.enter(stopping, "")
		return fmt.Errorf("serve webhooks: %w", err)
	case <-ctx.Done():
	}
	if err := s.leave(ctx, ended); err != nil {
		s.enter(stopping, "")
		return fmt.Errorf("serve webhooks: %w", err)
	}
	s.enter(stopping, "")
	s.drain(ctx, srv)
	<-ended // http.ErrServerClosed
	s.deps.Log.LogAttrs(ctx, slog.LevelInfo, "stopped taking webhooks")
	return nil
}

// seenTimeout bounds the wait for the ids of what was stored before. Taking
// webhooks in matters more than telling late repeats.
const seenTimeout = 10 * time.Second

// awaitSeen waits until late repeats can be told.
func (s *Service) awaitSeen(ctx context.Context) {
	if s.seen == nil {
		return
	}
	timeout := time.NewTimer(seenTimeout)
	defer timeout.Stop()
	select {
	case <-s.seen.Loaded():
	case <-ctx.Done():
	case <-timeout.C:
		s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "ids of stored events are not all read, late repeats may be stored again until they are")
	}
}

// awaitAccounts waits until accounts are known, as long as for the ids. Then
// requests of those that aren't are asked to come again.
func (s *Service) awaitAccounts(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	if err := s.deps.Accounts.Loaded(bounded); err != nil && ctx.Err() == nil {
		s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "accounts have not been read, their requests are refused until they are", slog.Any("err", err))
	}
}

// newServer bounds every phase of a connection.
func (s *Service) newServer() *http.Server {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           s.Handler(),
		Protocols:         protocols,
		ReadHeaderTimeout: s.cfg.ReadTimeout,
		ReadTimeout:       s.cfg.ReadTimeout,
		WriteTimeout:      s.cfg.ReadTimeout + s.cfg.StoreTimeout + answerTime, // it begins with the request
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          blame.Log(s.deps.Log),
		// OPTIONS * is answered like anything else that isn't a webhook.
		DisableGeneralOptionsHandler: true,
	}
}
