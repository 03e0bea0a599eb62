package ingress

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"
)

// leave lets load balancers find out that this replica stops, while whoever
// they still send here is served. A request that met a closed door would be
// lost where its provider doesn't send it again. It returns what ended serving
// meanwhile.
func (s *Service) leave(ctx context.Context, ended <-chan error) error {
	if s.cfg.DrainGrace == 0 {
		return nil
	}
	s.enter(leaving, s.Addr())
	// Connections are ended by an answer that says so: closed while they are
	// idle, they could be in use again at the other end.
	s.parting.Store(true)
	s.deps.Log.LogAttrs(ctx, slog.LevelInfo, "not ready any more, webhooks are taken in for drain_grace yet",
		slog.Duration("drain_grace", s.cfg.DrainGrace))
	grace := time.NewTimer(s.cfg.DrainGrace)
	defer grace.Stop()
	select {
	case <-grace.C:
		return nil
	case err := <-ended:
		return err
	}
}

// drain stops the intake and lets the requests in hand finish.
func (s *Service) drain(ctx context.Context, srv *http.Server) {
	// The end of ctx must not cancel the requests in hand, only the wait for more.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	if err := srv.Shutdown(bounded); err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	// Connections that are new are waited for too, whether or not a request comes.
	if n := s.room.inHand(); n > 0 {
		s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "requests cut off at the end of drain_timeout",
			slog.Int("requests", n), slog.Duration("drain_timeout", s.cfg.DrainTimeout))
	}
	_ = srv.Close()
}
