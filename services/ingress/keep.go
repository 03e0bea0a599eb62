package ingress

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/services/internal/control"
	"github.com/tercelhq/tercel/services/internal/watch"
)

// keepUp starts what reads lists, certificates and secrets anew while the
// service runs, and what tells of refusals, waits until each was read once, and returns what ends them.
func (s *Service) keepUp(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it serves on after the end of ctx
	var all, first sync.WaitGroup
	for _, r := range s.routes {
		if r.origin == nil || r.origin.cfg.List.IsZero() {
			continue
		}
		first.Add(1)
		all.Go(func() { r.origin.keepList(ctx, s.deps.Log, first.Done) })
	}
	all.Go(func() { s.tls.Keep(ctx, s.deps.Log) })
	all.Go(func() { watch.Every(ctx, watch.Interval, func() { s.logRefusals(ctx, false) }) })
	all.Go(func() {
		if err := control.ServeVerify(ctx, s.deps.Conn, s.verifyAgain); err != nil {
			s.deps.Log.LogAttrs(ctx, slog.LevelError, "no stored request can be checked again", slog.Any("err", err))
		}
	})
	all.Go(func() { watch.Every(ctx, intake.Every, func() { s.noteIntake(ctx) }) })
	first.Wait() // each is bounded
	return func() {
		cancel()
		all.Wait()
		s.noteIntake(context.WithoutCancel(ctx))
	}
}

// noteIntake stores what became of requests since the last time. If that fails
// the next time has it too.
func (s *Service) noteIntake(ctx context.Context) {
	if err := s.intake.Flush(ctx); err != nil && ctx.Err() == nil {
		s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "what became of requests is not noted yet", slog.Any("err", err))
	}
}

// seldom lets something be said once a minute.
type seldom struct{ next atomic.Int64 } // Unix nanoseconds

func (s *seldom) may(now time.Time) bool {
	next := s.next.Load()
	return now.UnixNano() >= next && s.next.CompareAndSwap(next, now.Add(time.Minute).UnixNano())
}
