package consume_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/topology"
)

// However often a message could not be tried, it has all its attempts left,
// with whatever process.
func TestWaitsAreNoAttempts(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	var out atomic.Bool
	out.Store(true)
	handler := noting(j, func(context.Context, consume.Message) error {
		if out.Load() {
			return fault.Postpone(errTest, 10*time.Millisecond)
		}
		return errTest
	})
	stop := f.start(handler)
	f.send("evt_1")
	f.eventually("more waits than there are attempts", func() bool { return j.count() >= 10 })
	stop()
	f.start(handler)
	waits := j.count() + 3
	f.eventually("more waits after a restart", func() bool { return j.count() >= waits })
	out.Store(false)
	r := f.reasons(1)[1]
	if r.Class != fault.Exhausted || r.Attempts != f.cfg.MaxAttempts {
		t.Errorf("reason %+v, want exhausted after %d attempts", r, f.cfg.MaxAttempts)
	}
	calls := j.of("evt_1")
	for i, c := range calls {
		if want := max(1, i+1-(len(calls)-f.cfg.MaxAttempts)); c.attempt != want {
			t.Errorf("call %d was attempt %d, want %d", i, c.attempt, want)
		}
	}
}

// A message that has waited for as long as it may becomes a dead letter.
func TestPromise3WaitingEndsInADeadLetter(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.cfg.GiveUpAfter = 500 * time.Millisecond
	f.start(noting(j, func(context.Context, consume.Message) error { return fault.Postpone(errTest, 20*time.Millisecond) }))
	started := time.Now()
	f.send("evt_1")
	r := f.reasons(1)[1]
	if r.Class != fault.Exhausted || r.Message != errTest.Error() || r.Attempts != 1 {
		t.Errorf("reason %+v, want exhausted with its error", r)
	}
	if took := time.Since(started); took < f.cfg.GiveUpAfter || j.count() < 3 {
		t.Errorf("given up after %s and %d tries, want more than %s", took, j.count(), f.cfg.GiveUpAfter)
	}
}

// Promise 3: what can't be tried for long is delivered ever less often, or the server's
// limit of deliveries would give it up hours before its time.
func TestPromise3WaitsGrowWithAge(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.js = skewed{f.js, time.Hour}
	tries := make(chan time.Time, 100)
	f.start(noting(j, func(context.Context, consume.Message) error {
		tries <- time.Now()
		return fault.Postpone(errTest, 20*time.Millisecond)
	}))
	f.send("evt_1")
	if first, second := <-tries, <-tries; second.Sub(first) < 3*time.Second {
		t.Errorf("a message of an hour is delivered again after %s, want 3.6s", second.Sub(first))
	}
}

// Promise 3: what only waits for another message is not given up for it, since its
// turn comes when that one has ended.
func TestPromise3WhatIsQueuedIsNotGivenUp(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.js = skewed{f.js, 25 * time.Hour} // all that comes is overdue
	f.start(noting(j, func(context.Context, consume.Message) error {
		if j.count() < 2*f.cfg.MaxAttempts {
			return fault.Queue(errTest, 20*time.Millisecond)
		}
		return nil
	}))
	f.send("evt_1")
	f.eventually("its turn comes", func() bool { return j.count() >= 2*f.cfg.MaxAttempts })
	f.settled()
	if n := f.terminated(); n != 0 {
		t.Errorf("%d given up", n)
	}
}

// skewed is a server whose clock is another than ours by so much.
type skewed struct {
	jetstream.JetStream
	by time.Duration
}

func (s skewed) CreateOrUpdateConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	c, err := s.JetStream.CreateOrUpdateConsumer(ctx, stream, cfg)
	return skewedConsumer{c, s.by}, err
}

type skewedConsumer struct {
	jetstream.Consumer
	by time.Duration
}

func (c skewedConsumer) CachedInfo() *jetstream.ConsumerInfo {
	info := *c.Consumer.CachedInfo()
	info.TimeStamp = info.TimeStamp.Add(c.by)
	return &info
}

// Promise 3: how long a message has waited is told by the server's clock, which
// says when it was stored too. A local one that is wrong gives up nothing too
// early and nothing never.
func TestPromise3WaitingIsMeasuredByTheServersClock(t *testing.T) {
	t.Parallel()
	t.Run("ours is behind", func(t *testing.T) {
		t.Parallel()
		f, j := setup(t), &journal{}
		f.js = skewed{f.js, 25 * time.Hour}
		f.start(noting(j, func(context.Context, consume.Message) error { return fault.Postpone(errTest, 20*time.Millisecond) }))
		f.send("evt_1")
		if r := f.reasons(1)[1]; r.Class != fault.Exhausted || j.count() != 1 || r.LastAt.Sub(r.FirstAt) < 24*time.Hour {
			t.Errorf("reason %+v after %d tries, want exhausted after one", r, j.count())
		}
	})
	t.Run("ours is ahead", func(t *testing.T) {
		t.Parallel()
		f, j := setup(t), &journal{}
		f.js, f.cfg.GiveUpAfter = skewed{f.js, -time.Hour}, 500*time.Millisecond
		f.start(noting(j, func(context.Context, consume.Message) error { return fault.Postpone(errTest, 20*time.Millisecond) }))
		f.send("evt_1")
		f.eventually("more tries than there is time for by our clock", func() bool { return j.count() > 30 })
	})
}

// A handler that asks how old a message is gets it by the same clock.
func TestAgeIsMeasuredByTheServersClock(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.js = skewed{f.js, 25 * time.Hour}
	ages := make(chan time.Duration, 1)
	f.start(consume.Each(func(_ context.Context, m consume.Message) error {
		ages <- m.Age
		return nil
	}))
	f.send("evt_1")
	if age := <-ages; age < 25*time.Hour-time.Minute {
		t.Errorf("a message is %s old, want 25 hours", age)
	}
}

// Promise 3: counts that can't be written leave time to keep the dead letters of
// the same batch.
func TestPromise3CountsLeaveTimeForDeadLetters(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.cfg.Workers, f.cfg.Batch, f.cfg.Linger, f.cfg.Timeout = 1, 2, time.Hour, 4*time.Second
	over := make(chan error, 10)
	f.keep = func(ctx context.Context, _ consume.Message, _ consume.Reason) (uint64, error) {
		over <- ctx.Err()
		return 1, ctx.Err()
	}
	f.start(noting(j, func(_ context.Context, m consume.Message) error {
		switch id := string(m.Data); {
		case id == "hopeless":
			return fault.Permanent(errTest)
		case id == "later" && len(j.of(id)) == 1, id == "mute" && len(j.of(id)) == 1:
			return fault.Postpone(errTest, 20*time.Millisecond)
		}
		return nil
	}))
	f.send("later", "now")
	f.eventually("a wait is counted", func() bool { return j.count() == 2 })
	f.send("with it") // in a batch with the one that comes again
	f.eventually("both are handled", func() bool { return len(j.of("later")) == 2 && len(j.of("with it")) == 1 })
	f.settled()
	// From here on nobody answers who writes a count.
	if err := f.js.DeleteKeyValue(t.Context(), topology.BucketWaits); err != nil {
		t.Fatal(err)
	}
	nc := f.server.Connect()
	if _, err := nc.Subscribe("$KV."+topology.BucketWaits+".>", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	f.send("mute", "hopeless")
	select {
	case err := <-over:
		if err != nil {
			t.Errorf("a dead letter is to be kept when the time is over: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("no dead letter is kept within a minute")
	}
}

// A message that takes down every process it is handed to becomes a dead letter
// too, without being handed out once more, although the server would go on.
func TestPromise3WhatNobodySurvivesIsGivenUpUnseen(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.send("evt_1")
	cfg := topology.EnrichConsumer("orders", f.cfg.Delivery())
	cons, err := f.js.CreateOrUpdateConsumer(t.Context(), topology.StreamRaw, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range f.cfg.MaxAttempts + 2 { // each delivery ends without an answer
		batch, err := cons.Fetch(1, jetstream.FetchMaxWait(20*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := <-batch.Messages(); !ok {
			t.Fatalf("no delivery: %v", batch.Error())
		}
	}
	f.start(noting(j, func(context.Context, consume.Message) error { return errors.New("survived") }))
	r := f.reasons(1)[1]
	if j.count() != 0 || r.Class != fault.Exhausted || !strings.Contains(r.Message, "without an answer") {
		t.Errorf("handed out %d times and given up with %+v, want never and its reason", j.count(), r)
	}
}

// In a batch each message has waits of its own.
func TestWaitsOfABatchAreCountedApart(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.cfg.Workers, f.cfg.Batch, f.cfg.MaxAttempts = 1, 50, 4
	f.start(noting(j, func(_ context.Context, m consume.Message) error {
		waits := int(m.Sequence % 5)
		if len(j.of(string(m.Data))) <= waits {
			return fault.Postpone(errTest, 10*time.Millisecond)
		}
		if m.Attempt == 2 {
			return nil
		}
		return errTest
	}))
	for i := range 40 {
		f.send("evt_" + string(rune('A'+i)))
	}
	f.settled()
	for i := range 40 {
		id := "evt_" + string(rune('A'+i))
		if got, want := len(j.of(id)), (i+1)%5+2; got != want {
			t.Errorf("%s was handed out %d times, want %d waits and 2 attempts", id, got, want-2)
		}
	}
}

// While the counts can't be read, as when their bucket has no leader, nothing is
// taken for a message that has used up its attempts.
func TestPromise3WaitsThatCantBeReadCostNothing(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.start(noting(j, func(context.Context, consume.Message) error { return fault.Postpone(errTest, 10*time.Millisecond) }))
	f.send("evt_1")
	f.eventually("more waits than there are attempts", func() bool { return j.count() >= 10 })
	s, err := f.js.Stream(t.Context(), "KV_"+topology.BucketWaits)
	if err != nil {
		t.Fatal(err)
	}
	readable := func(yes bool) {
		cfg := s.CachedInfo().Config
		cfg.AllowDirect = yes
		if _, err := f.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	readable(false)
	f.send("evt_2") // is handed out once: nothing has to be read for it
	f.eventually("the second is handed out", func() bool { return len(j.of("evt_2")) == 1 })
	f.eventually("both are in hand again and aren't handed out", func() bool {
		c, err := f.js.Consumer(t.Context(), topology.StreamRaw, topology.EnrichDurable("orders"))
		return err == nil && c.CachedInfo().NumRedelivered == 2 && len(j.of("evt_2")) == 1
	})
	readable(true)
	waits := len(j.of("evt_1")) + 3
	f.eventually("the first is handed out again", func() bool { return len(j.of("evt_1")) >= waits })
	if n := f.terminated(); n > 0 {
		t.Errorf("%d messages were given up", n)
	}
	for i, c := range j.of("evt_1") {
		if c.attempt > f.cfg.MaxAttempts {
			t.Errorf("call %d was attempt %d", i, c.attempt)
		}
	}
}

// Promise 3: the counts of messages whose bucket is lost are lost with it. However
// often they have waited, they have all their attempts then, and no more.
func TestPromise3LostWaitsCostNoAttempts(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"under a loop": false, "before a loop starts": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, j, told := setup(t), &journal{}, make(lines, 1000)
			f.log, f.cfg.RetryMax = told, 200*time.Millisecond
			var out atomic.Bool
			out.Store(true)
			handler := noting(j, func(context.Context, consume.Message) error {
				if out.Load() {
					return fault.Postpone(errTest, 10*time.Millisecond)
				}
				return errTest
			})
			stop := f.start(handler)
			f.send("evt_1")
			f.eventually("many more waits than there are attempts", func() bool { return j.count() >= 10 })
			if restart {
				stop()
			}
			if err := f.js.DeleteKeyValue(t.Context(), topology.BucketWaits); err != nil {
				t.Fatal(err)
			}
			if restart {
				f.start(handler)
			}
			f.eventually("the loop says what it misses", func() bool {
				select {
				case line := <-told:
					return strings.Contains(line, "earlier waits not known")
				default:
					return false
				}
			})
			out.Store(false)
			if _, err := topology.Restore(t.Context(), f.js, topology.DefaultConfig()); err != nil {
				t.Fatal(err)
			}
			r := f.reasons(1)[1]
			if r.Class != fault.Exhausted || r.Message != errTest.Error() || r.Attempts != f.cfg.MaxAttempts {
				t.Errorf("reason %+v, want exhausted by %d attempts", r, f.cfg.MaxAttempts)
			}
			calls := j.of("evt_1")
			for i, c := range calls[len(calls)-f.cfg.MaxAttempts:] {
				if c.attempt != i+1 {
					t.Errorf("attempt %d of the last ones is told as %d", i+1, c.attempt)
				}
			}
		})
	}
}

// Promise 3: what is held back, since the bucket of waits is gone and nobody makes it
// anew, is kept as a dead letter once it has waited for as long as it may: the stream
// would let it go without a word.
func TestPromise3WhatIsHeldBackForLostWaitsIsGivenUp(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.cfg.RetryMax, f.cfg.GiveUpAfter = 200*time.Millisecond, 3*time.Second
	if err := f.js.DeleteKeyValue(t.Context(), topology.BucketWaits); err != nil {
		t.Fatal(err)
	}
	f.start(noting(j, func(context.Context, consume.Message) error { return fault.Postpone(errTest, 10*time.Millisecond) }))
	f.send("evt_1")
	if r := f.reasons(1)[1]; r.Class != fault.Exhausted || !strings.Contains(r.Message, topology.BucketWaits) {
		t.Errorf("reason %+v, want exhausted for want of the bucket", r)
	}
	if n := j.count(); n != 1 {
		t.Errorf("handed out %d times, want once: what was tried before is held back", n)
	}
}
