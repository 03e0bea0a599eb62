package publish_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/topology"
)

type fixture struct {
	server *natstest.Server
	js     jetstream.JetStream
	pub    *publish.Publisher
}

func setup(t *testing.T, cfg publish.Config) fixture {
	t.Helper()
	s := natstest.Start(t, true)
	nc := s.Connect()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, time.Minute) // a sync takes long on a disk that others use
	p, err := publish.New(nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return fixture{s, js, p}
}

func message(id string) *nats.Msg {
	m := nats.NewMsg("tercel.raw.orders._.order.paid")
	m.Header.Set(jetstream.MsgIDHeader, id)
	m.Data = []byte(`{"id":"` + id + `"}`)
	return m
}

func stored(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

var modes = map[string]publish.Config{"grouped": {Group: true}, "one by one": {}}

// Promise 1: an acknowledged message is in the stream, at the place it was told.
func TestPublishedMessagesAreStoredAtTheirSequence(t *testing.T) {
	t.Parallel()
	for name, cfg := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, cfg)
			const n = 300
			seqs := make([]uint64, n)
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					ack, err := f.pub.Publish(t.Context(), message(fmt.Sprint("id-", i)))
					if err != nil || ack.Duplicate {
						t.Errorf("Publish(%d) = %+v, %v", i, ack, err)
					}
					seqs[i] = ack.Sequence
				})
			}
			wg.Wait()
			s, err := f.js.Stream(t.Context(), topology.StreamRaw)
			if err != nil {
				t.Fatal(err)
			}
			for i, seq := range seqs {
				m, err := s.GetMsg(t.Context(), seq)
				if err != nil || m.Header.Get(jetstream.MsgIDHeader) != fmt.Sprint("id-", i) {
					t.Fatalf("message %d is not at sequence %d: %v", i, seq, err)
				}
			}
			if got := stored(t, f.js); got != n {
				t.Errorf("%d messages stored, want %d", got, n)
			}
		})
	}
}

// Promise 4: a storm of one id is stored once, and its neighbours are stored too.
func TestRepeatsAreStoredOnceAndHarmNoNeighbour(t *testing.T) {
	t.Parallel()
	for name, cfg := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, cfg)
			var mu sync.Mutex
			firsts := 0
			storm := func(times int) {
				var wg sync.WaitGroup
				for i := range times {
					id := "same"
					if i%10 == 0 {
						id = fmt.Sprint("other-", i)
					}
					wg.Go(func() {
						ack, err := f.pub.Publish(t.Context(), message(id))
						if err != nil {
							t.Errorf("Publish(%s): %v", id, err)
						}
						mu.Lock()
						defer mu.Unlock()
						if !ack.Duplicate {
							firsts++
						}
					})
				}
				wg.Wait()
			}
			storm(500)
			storm(500) // now every id is known
			if got := stored(t, f.js); got != 51 || firsts != 51 {
				t.Errorf("%d stored, %d answered as new, want 51 of each", got, firsts)
			}
		})
	}
}

// An id that the server knows and the publisher doesn't (as after a restart)
// makes the server refuse the batch; everybody in it is stored all the same.
func TestForeignDuplicateDoesNotFailItsBatch(t *testing.T) {
	t.Parallel()
	f := setup(t, publish.Config{Group: true})
	if _, err := f.js.PublishMsg(t.Context(), message("id-7")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			ack, err := f.pub.Publish(t.Context(), message(fmt.Sprint("id-", i)))
			if err != nil || ack.Duplicate != (i == 7) {
				t.Errorf("Publish(id-%d) = %+v, %v", i, ack, err)
			}
		})
	}
	wg.Wait()
	if got := stored(t, f.js); got != 100 {
		t.Errorf("%d messages stored, want 100", got)
	}
}

func TestServerAwayIsUnavailableAndARepeatIsSafe(t *testing.T) {
	t.Parallel()
	for name, cfg := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.Timeout = 500 * time.Millisecond
			f := setup(t, cfg)
			f.server.Stop()
			_, err := f.pub.Publish(t.Context(), message("id-1"))
			if !errors.Is(err, publish.ErrUnavailable) {
				t.Fatalf("Publish() with the server away = %v, want ErrUnavailable", err)
			}
			f.server.Resume()
			deadline, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			for {
				if _, err = f.pub.Publish(deadline, message("id-1")); err == nil {
					break
				}
				if deadline.Err() != nil {
					t.Fatalf("Publish() after the server came back: %v", err)
				}
			}
			if got := stored(t, f.js); got != 1 {
				t.Errorf("%d messages stored, want 1", got)
			}
		})
	}
}

func TestCloseCommitsWhatWaitsAndRefusesMore(t *testing.T) {
	t.Parallel()
	f := setup(t, publish.Config{Group: true})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			_, err := f.pub.Publish(t.Context(), message(fmt.Sprint("id-", i)))
			if err != nil && !errors.Is(err, publish.ErrClosed) {
				t.Errorf("Publish() during Close = %v", err)
			}
		})
	}
	f.pub.Close()
	wg.Wait()
	if _, err := f.pub.Publish(t.Context(), message("late")); !errors.Is(err, publish.ErrClosed) {
		t.Errorf("Publish() after Close = %v, want ErrClosed", err)
	}
}

func TestMessageWithoutAnIDIsRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, publish.Config{})
	if _, err := f.pub.Publish(t.Context(), nats.NewMsg("tercel.raw.orders._.x")); err == nil {
		t.Error("a message without Nats-Msg-Id was published: a repeat of it could not be told")
	}
}

// What is never taken for its size is told from what isn't taken now, whoever refuses
// it: the client, the server, or the stream. It isn't tried until its time is over.
func TestTooLargeIsToldFromUnavailable(t *testing.T) {
	t.Parallel()
	large := map[string]func(*nats.Msg){
		"more than the server's max_payload":  func(m *nats.Msg) { m.Data = make([]byte, 2<<20) },
		"more than the stream's max_msg_size": func(m *nats.Msg) { m.Data = make([]byte, 600<<10) },
		"more headers than any stream takes":  func(m *nats.Msg) { m.Header.Set("X", strings.Repeat("x", 70<<10)) },
	}
	for name, cfg := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, cfg)
			s, err := f.js.Stream(t.Context(), topology.StreamRaw)
			if err != nil {
				t.Fatal(err)
			}
			limited := s.CachedInfo().Config
			limited.MaxMsgSize = 512 << 10
			if _, err := f.js.UpdateStream(t.Context(), limited); err != nil {
				t.Fatal(err)
			}
			for name, enlarge := range large {
				made := func() *nats.Msg { m := message("large"); enlarge(m); return m }
				_, one := f.pub.Publish(t.Context(), made())
				_, all := f.pub.PublishAll(t.Context(), []*nats.Msg{message("small"), made()})
				_, plain := f.js.PublishMsg(t.Context(), made())
				for way, err := range map[string]error{"Publish": one, "PublishAll": all, "of package jetstream": plain} {
					if !publish.TooLarge(err) || errors.Is(err, publish.ErrUnavailable) {
						t.Errorf("%s, %s: %v, want it to be too large", name, way, err)
					}
				}
			}
			if got := stored(t, f.js); got != 0 {
				t.Errorf("%d messages stored, want none", got)
			}
			limited.MaxBytes, limited.MaxMsgSize = 1, -1
			if _, err := f.js.UpdateStream(t.Context(), limited); err != nil {
				t.Fatal(err)
			}
			if _, err := f.pub.Publish(t.Context(), message("late")); err == nil || publish.TooLarge(err) {
				t.Errorf("into a full stream: %v, want that it is full", err)
			}
		})
	}
}
