package publish_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Promise 1: the server ends while batches are on their way. Whatever was
// answered with success is stored, and what wasn't is stored once in the end.
func TestServerEndingUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]publish.Config{
		"grouped": {Group: true, MaxBatch: 16}, "one by one": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.Timeout = time.Second
			f := setup(t, cfg)
			const n = 2000
			var next, done atomic.Int64
			var wg sync.WaitGroup
			half := make(chan struct{})
			for range 64 {
				wg.Go(func() {
					for i := next.Add(1); i <= n; i = next.Add(1) {
						publishUntilStored(t, f.pub, fmt.Sprint("id-", i))
						if done.Add(1) == n/4 {
							close(half)
						}
					}
				})
			}
			<-half
			f.server.Stop()
			f.server.Resume()
			wg.Wait()
			if got := stored(t, f.js); got != n {
				t.Errorf("%d messages stored, want %d", got, n)
			}
		})
	}
}

// Promise 1: in a stream that fills up under a batch, exactly those are stored
// that were answered so.
func TestFullStreamRefusesOnlyWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	f := setup(t, publish.Config{Group: true})
	s, err := f.js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxBytes = 8 << 10
	if _, err := f.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var ok, full atomic.Int64
	for i := range 200 {
		wg.Go(func() {
			switch _, err := f.pub.Publish(t.Context(), message(fmt.Sprint("id-", i))); {
			case err == nil:
				ok.Add(1)
			case errors.Is(err, publish.ErrUnavailable):
				full.Add(1)
			default:
				t.Errorf("Publish() = %v", err)
			}
		})
	}
	wg.Wait()
	if got := int64(stored(t, f.js)); got != ok.Load() || got == 0 || full.Load() == 0 {
		t.Errorf("%d stored, %d answered so and %d refused", got, ok.Load(), full.Load())
	}
}

// A message that the stream never takes fails alone.
func TestRefusedMessageFailsAloneInItsBatch(t *testing.T) {
	t.Parallel()
	f := setup(t, publish.Config{Group: true})
	s, err := f.js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxMsgSize = 1024
	if _, err := f.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			m := message(fmt.Sprint("id-", i))
			if i == 7 {
				m.Data = make([]byte, 2048)
			}
			if _, err := f.pub.Publish(t.Context(), m); (err != nil) != (i == 7) || errors.Is(err, publish.ErrUnavailable) {
				t.Errorf("Publish(id-%d) = %v", i, err)
			}
		})
	}
	wg.Wait()
	if got := stored(t, f.js); got != 49 {
		t.Errorf("%d messages stored, want 49", got)
	}
}

// Who has given up waiting gets no success, and what it had queued is not
// stored behind its back if nobody has begun to.
func TestAbandonedMessagesAreNotStored(t *testing.T) {
	t.Parallel()
	f := setup(t, publish.Config{Group: true})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 20 {
		if _, err := f.pub.Publish(gone, message(fmt.Sprint("id-", i))); err != nil && !errors.Is(err, publish.ErrUnavailable) {
			t.Errorf("Publish() = %v, want ErrUnavailable", err)
		}
	}
	if _, err := f.pub.Publish(t.Context(), message("kept")); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, f.js); got != 1 {
		t.Errorf("%d messages stored, want 1", got)
	}
	m, err := lastMessage(t, f.js)
	if err != nil || m.Header.Get(jetstream.MsgIDHeader) != "kept" {
		t.Errorf("stored %v, %v, want the one that was waited for", m, err)
	}
}

func lastMessage(t *testing.T, js jetstream.JetStream) (*jetstream.RawStreamMsg, error) {
	t.Helper()
	s, err := js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		return nil, err
	}
	return s.GetMsg(t.Context(), s.CachedInfo().State.LastSeq)
}
