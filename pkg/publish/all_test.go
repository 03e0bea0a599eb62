package publish_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/topology"
)

// set returns messages with the ids NAME-0, NAME-1 and so on.
func set(name string, n int) []*nats.Msg {
	var msgs []*nats.Msg
	for i := range n {
		msgs = append(msgs, message(fmt.Sprintf("%s-%d", name, i)))
	}
	return msgs
}

// sets counts the messages of each set in the stream, up to one that is stored
// behind all that was sent before: what a stream's information gives as the last
// sequence may lie in the middle of a batch that is being stored, such as one
// that the client had kept for the time when the server is back.
func sets(t *testing.T, js jetstream.JetStream) map[string]int {
	t.Helper()
	end, err := js.PublishMsg(t.Context(), message("end"))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for seq := uint64(1); seq < end.Sequence; seq++ {
		m, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(m.Header.Get(jetstream.MsgIDHeader), "-")
		count[name]++
	}
	return count
}

func TestAllAreStoredInOrderWhateverWasThere(t *testing.T) {
	t.Parallel()
	for name, cfg := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, cfg)
			for _, there := range []string{"s-2", "s-5"} {
				if _, err := f.js.PublishMsg(t.Context(), message(there)); err != nil {
					t.Fatal(err)
				}
			}
			for again := range 2 {
				acks, err := f.pub.PublishAll(t.Context(), set("s", 7))
				if err != nil {
					t.Fatal(err)
				}
				for i, want := range []publish.Ack{{Sequence: 3}, {Sequence: 4}, {Sequence: 1, Duplicate: true}, {Sequence: 5}, {Sequence: 6}, {Sequence: 2, Duplicate: true}, {Sequence: 7}} {
					if want.Duplicate = want.Duplicate || again > 0; acks[i] != want {
						t.Errorf("time %d: message %d: %+v, want %+v", again, i, acks[i], want)
					}
				}
			}
			if got := stored(t, f.js); got != 7 {
				t.Errorf("%d stored, want 7", got)
			}
		})
	}
}

// Promise 4: the same set many times at once is stored once, and all others are too.
func TestAllAreStoredOnceInAStorm(t *testing.T) {
	t.Parallel()
	for name, cfg := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, cfg)
			var wg sync.WaitGroup
			for i := range 120 {
				name := "same"
				if i%3 == 0 {
					name = fmt.Sprint("other", i)
				}
				wg.Go(func() {
					if _, err := f.pub.PublishAll(t.Context(), set(name, 20)); err != nil {
						t.Errorf("PublishAll(%s): %v", name, err)
					}
				})
			}
			wg.Wait()
			got := sets(t, f.js)
			if len(got) != 41 {
				t.Errorf("%d sets stored, want 41", len(got))
			}
			for name, n := range got {
				if n != 20 {
					t.Errorf("%d messages of %s stored, want 20", n, name)
				}
			}
		})
	}
}

// One message that the stream doesn't take, or for which it has no room, keeps
// its whole set out.
func TestNoneIsStoredIfOneCannotBe(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limit       func(*jetstream.StreamConfig)
		unavailable bool
	}{
		"one is too large":   {func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1024 }, false},
		"the stream is full": {func(c *jetstream.StreamConfig) { c.MaxBytes = 2000 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, publish.Config{})
			s, err := f.js.Stream(t.Context(), topology.StreamRaw)
			if err != nil {
				t.Fatal(err)
			}
			cfg := s.CachedInfo().Config
			tt.limit(&cfg)
			if _, err := f.js.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			msgs := set("s", 10)
			msgs[7].Data = make([]byte, 2048)
			if _, err := f.pub.PublishAll(t.Context(), msgs); err == nil || errors.Is(err, publish.ErrUnavailable) != tt.unavailable {
				t.Errorf("PublishAll() = %v, want unavailable %t", err, tt.unavailable)
			}
			if got := stored(t, f.js); got != 0 {
				t.Errorf("%d stored, want none", got)
			}
			if _, err := f.pub.PublishAll(t.Context(), set("small", 3)); err != nil {
				t.Errorf("what fits is refused after it: %v", err)
			}
		})
	}
}

// The server ends while sets are on their way and stays away until they have
// all been given up. Nobody sends one again, and still none is stored in part;
// what was answered with success is there.
func TestSetsAreWholeAfterTheServerEnded(t *testing.T) {
	t.Parallel()
	for name, cfg := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.Timeout = 500 * time.Millisecond
			f := setup(t, cfg)
			const writers, size = 16, 50
			var wg sync.WaitGroup
			var mu sync.Mutex
			acknowledged := map[string]bool{}
			underWay := make(chan struct{}, writers)
			for w := range writers {
				wg.Go(func() {
					for i := 0; ; i++ { // until the server has gone
						name := fmt.Sprintf("set%d.%d", w, i)
						_, err := f.pub.PublishAll(t.Context(), set(name, size))
						if i == 2 {
							underWay <- struct{}{}
						}
						mu.Lock()
						acknowledged[name] = err == nil
						mu.Unlock()
						if err != nil && i >= 2 {
							return
						}
					}
				})
			}
			for range writers {
				<-underWay
			}
			f.server.Stop()
			wg.Wait()
			f.server.Resume()
			checkWhole(t, sets(t, f.js), acknowledged, size)
		})
	}
}

// checkWhole reports sets that are stored in part, or not though acknowledged.
func checkWhole(t *testing.T, got map[string]int, acknowledged map[string]bool, size int) {
	t.Helper()
	for name, n := range got {
		if n != size {
			t.Errorf("%d messages of %s stored, want %d or none", n, name, size)
		}
	}
	for name, ok := range acknowledged {
		if ok && got[name] != size {
			t.Errorf("%s was acknowledged, %d of %d messages are stored", name, got[name], size)
		}
	}
}

// On a replicated stream: a set is whole through a change of leader, a part that
// is there already is told, and asking for ids leaves no trace of the question.
func TestReplicatedSetsAreWhole(t *testing.T) {
	t.Parallel()
	c := setupCluster(t)
	if _, err := c.js.PublishMsg(t.Context(), message("first-3")); err != nil {
		t.Fatal(err)
	}
	acks, err := c.pubs[0].PublishAll(t.Context(), set("first", 5)) // refused, asked for, and stored
	if err != nil || !acks[3].Duplicate || acks[4].Duplicate {
		t.Fatalf("PublishAll() = %+v, %v, want the fourth as a duplicate", acks, err)
	}
	s, err := c.js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	leader := s.CachedInfo().Cluster.Leader
	const n, size = 120, 20
	acknowledged := map[string]bool{"first": true}
	var mu sync.Mutex
	var wg sync.WaitGroup
	started := make(chan struct{}, n)
	for i := range n {
		wg.Go(func() {
			name := fmt.Sprint("set", i)
			started <- struct{}{}
			for deadline := time.Now().Add(60 * time.Second); ; {
				_, err := c.pubs[i%2].PublishAll(t.Context(), set(name, size))
				if err == nil {
					break
				}
				if !errors.Is(err, publish.ErrUnavailable) && !errors.Is(err, publish.ErrBusy) || time.Now().After(deadline) {
					t.Errorf("PublishAll(%s) = %v", name, err)
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			acknowledged[name] = true
		})
	}
	for range n / 4 {
		<-started
	}
	for _, server := range c.servers {
		if server.Name() == leader {
			server.Stop()
		}
	}
	wg.Wait()
	got := sets(t, c.js)
	if got["first"] != 5 {
		t.Errorf("%d of the first set, want 5", got["first"])
	}
	delete(got, "first")
	delete(acknowledged, "first")
	if checkWhole(t, got, acknowledged, size); len(got) != n {
		t.Errorf("%d sets stored, want %d", len(got), n)
	}
}

func TestSetsThatCannotBeToldApartAreRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, publish.Config{})
	for name, msgs := range map[string][]*nats.Msg{
		"one id twice": {message("a"), message("b"), message("a")},
		"no id":        {message("a"), nats.NewMsg("tercel.raw.orders._.x")},
		"too many":     set("s", publish.MaxAll+1),
	} {
		if _, err := f.pub.PublishAll(t.Context(), msgs); err == nil {
			t.Errorf("%s: published", name)
		}
	}
	if acks, err := f.pub.PublishAll(t.Context(), set("s", publish.MaxAll)); err != nil || len(acks) != publish.MaxAll {
		t.Errorf("PublishAll() of the most messages: %d acknowledged, %v", len(acks), err)
	}
	if got := stored(t, f.js); got != publish.MaxAll {
		t.Errorf("%d stored, want %d", got, publish.MaxAll)
	}
	f.pub.Close()
	if _, err := f.pub.PublishAll(t.Context(), set("late", 2)); !errors.Is(err, publish.ErrClosed) {
		t.Errorf("PublishAll() after Close = %v, want ErrClosed", err)
	}
}
