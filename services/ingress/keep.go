package ingress

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tercelhq/tercel/pkg/intake"
)

// watchEvery is how often files are looked at for changes. A notice of the
// operating system's would be faster, and doesn't come on every file system
// that secrets are mounted from.
const watchEvery = 2 * time.Second

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
	if s.tls != nil {
		all.Go(func() { s.tls.keep(ctx, s.deps.Log) })
	}
	all.Go(func() { every(ctx, watchEvery, func() { s.logRefusals(ctx, false) }) })
	all.Go(func() { every(ctx, intake.Every, func() { s.noteIntake(ctx) }) })
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

// every calls do each time that d has gone by, until ctx ends.
func every(ctx context.Context, d time.Duration, do func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			do()
		case <-ctx.Done():
			return
		}
	}
}

// watched is a file or folder that may change.
type watched struct {
	path string
	last fs.FileInfo // nil when it wasn't there
}

// changed reports whether the file is another one than at the last call, or
// was written to since.
func (w *watched) changed() bool {
	now, err := os.Stat(w.path)
	if err != nil {
		now = nil
	}
	last := w.last
	w.last = now
	if now == nil || last == nil {
		return (now == nil) != (last == nil)
	}
	return !os.SameFile(now, last) || !now.ModTime().Equal(last.ModTime()) || now.Size() != last.Size()
}

// seldom lets something be said once a minute.
type seldom struct{ next atomic.Int64 } // Unix nanoseconds

func (s *seldom) may(now time.Time) bool {
	next := s.next.Load()
	return now.UnixNano() >= next && s.next.CompareAndSwap(next, now.Add(time.Minute).UnixNano())
}
