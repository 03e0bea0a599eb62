package sourceapi

import (
	"context"
	"sync"
	"time"

	"github.com/tercelhq/tercel/pkg/fault"
)

// flights are the requests that are waited for, each by one call or several.
//
// One answer may serve a call if its request began no earlier than the call
// allows: not before the call itself, unless the call takes an older answer. So
// a call joins a request that still waits for its turn, and one that has been
// sent already only within Request.MaxAge. A trigger is never answered with what
// the API showed before the trigger was received.
type flights struct {
	mu  sync.Mutex // guards what follows, and the flights' calls, began and sent
	all map[string]*flight
}

// flight is one request. Its results are set before landed is closed.
type flight struct {
	landed chan struct{}
	answer Answer
	err    error

	calls  int // that wait for it; at none it is broken off
	cancel context.CancelFunc
	began  time.Time // when it was sent; zero until then
	sent   time.Time // the same by the system's own clock
}

// join returns the answer of a flight that serves a call, or of a new one that
// run makes, which is the call's own. Oldest is when its request may have begun at the earliest, if it
// has begun.
func (s *flights) join(ctx context.Context, key string, oldest time.Time, run func(context.Context, *flight) (Answer, error)) (answer Answer, own bool, err error) {
	s.mu.Lock()
	joined := time.Now()
	f := s.all[key]
	if own = f == nil || !f.began.IsZero() && f.began.Before(oldest); own {
		// It goes on while anybody waits for it, whatever becomes of the first.
		var fctx context.Context
		f = &flight{landed: make(chan struct{})}
		fctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
		s.all[key] = f
		go func() {
			answer, err := run(fctx, f)
			s.land(key, f, answer, err)
		}()
	}
	f.calls++
	s.mu.Unlock()
	select {
	case <-f.landed:
		return f.answer, own, f.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.calls--; f.calls == 0 {
		f.cancel()
		if s.all[key] == f { // whoever comes next must not get what was broken off
			delete(s.all, key)
		}
	}
	if f.began.IsZero() || f.sent.Sub(joined) > time.Since(f.sent) {
		// Most of its time, if not all, went by before it had its turn.
		return Answer{}, own, fault.Postpone(&cutShort{ctx.Err()}, outageMin)
	}
	return Answer{}, own, &cutShort{ctx.Err()}
}

// begin notes that a flight's request is sent now: later calls don't join it.
func (s *flights) begin(f *flight, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.began.IsZero() {
		f.began, f.sent = now, time.Now()
	}
}

func (s *flights) land(key string, f *flight, answer Answer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[key] == f {
		delete(s.all, key)
	}
	f.answer, f.err = answer, err
	f.cancel()
	close(f.landed)
}

// cutShort is the error of a call that ended before there was an answer.
type cutShort struct{ cause error }

func (n *cutShort) Error() string { return "no answer in time: " + n.cause.Error() }
func (n *cutShort) Unwrap() error { return n.cause }
