package consume_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Stopping ends the intake. What is in hand, with a worker or waiting for one,
// is finished and acknowledged; nothing is left for the ack wait to bring back.
func TestStopFinishesTheWorkInHand(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.cfg.Workers, f.cfg.AckWait = 2, 30*time.Second
	release := make(chan struct{})
	stop := f.start(noting(j, func(ctx context.Context, _ consume.Message) error {
		<-release
		return ctx.Err() // an error if stopping has canceled the work
	}))
	var ids []string
	for i := range 20 {
		ids = append(ids, fmt.Sprint("evt_", i))
	}
	f.send(ids...)
	f.eventually("two in hand", func() bool { return j.count() == 2 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	select {
	case <-stopped:
		t.Fatal("Run() returned with work in hand")
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	<-stopped
	c, err := f.js.Consumer(t.Context(), topology.StreamRaw, topology.EnrichDurable("orders"))
	if err != nil {
		t.Fatal(err)
	}
	// Acknowledgements carry no answer: the server may still be reading them.
	f.eventually("nothing is unanswered", func() bool {
		i, err := c.Info(t.Context())
		return err == nil && i.NumAckPending == 0 && i.AckFloor.Stream == uint64(j.count())
	})
	if n := j.count(); n > 2+4 {
		t.Errorf("%d messages were handled after the stop, want those in hand alone", n)
	}
}

// What the server was handing out at the moment of stopping is worked on too,
// and does not wait for its ack wait to pass.
func TestStopLeavesNothingOnTheWay(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.cfg.Workers, f.cfg.Batch, f.cfg.AckWait = 2, 50, 30*time.Second
	var ids []string
	for i := range 5000 {
		ids = append(ids, fmt.Sprint("evt_", i))
	}
	f.send(ids...)
	for round := range 5 {
		stop := f.start(func(_ context.Context, msgs []consume.Message) []error {
			for _, m := range msgs {
				j.note(m)
			}
			return make([]error, len(msgs))
		})
		f.eventually("some calls", func() bool { return j.count() >= 500*(round+1) })
		stop()
		c, err := f.js.Consumer(t.Context(), topology.StreamRaw, topology.EnrichDurable("orders"))
		if err != nil {
			t.Fatal(err)
		}
		f.eventually("nothing is unanswered", func() bool {
			i, err := c.Info(t.Context())
			return err == nil && i.NumAckPending == 0
		})
	}
}

// A message that fails while the loop stops doesn't come back to its last pull
// again and again.
func TestStopUsesUpNoFurtherAttempts(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.cfg.MaxAttempts = 1000
	begun := make(chan struct{})
	release := make(chan struct{})
	var once sync.Once
	stop := f.start(noting(j, func(context.Context, consume.Message) error {
		once.Do(func() { close(begun) })
		<-release
		return errTest
	}))
	f.send("evt_1")
	<-begun
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	<-time.After(100 * time.Millisecond) // the stop is seen by then, the last pull not over
	close(release)
	<-stopped
	if n := j.count(); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

func TestStopOfAnIdleLoopIsPrompt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	stop := f.start(consume.Each(func(context.Context, consume.Message) error { return nil }))
	f.send("evt_1")
	f.settled()
	started := time.Now()
	stop()
	if took := time.Since(started); took > 15*time.Second {
		t.Errorf("an idle loop took %s to stop", took)
	}
}

func TestDeletedConsumerIsMadeAgain(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.start(noting(j, func(context.Context, consume.Message) error { return nil }))
	f.send("evt_1")
	f.settled()
	if err := f.js.DeleteConsumer(t.Context(), topology.StreamRaw, topology.EnrichDurable("orders")); err != nil {
		t.Fatal(err)
	}
	f.send("evt_2")
	f.eventually("the second message", func() bool { return len(j.of("evt_2")) > 0 })
	f.settled()
}

// A consumer that the server can't write down, because its files are gone, works
// all the same, and is made again after a restart of the server.
func TestConsumerWithoutItsFilesWorks(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	stop := f.start(noting(j, func(context.Context, consume.Message) error { return nil }))
	f.send("evt_1")
	f.settled()
	stop()
	files, err := filepath.Glob(filepath.Join(f.server.StoreDir(), "jetstream", "*", "streams", topology.StreamRaw, "obs", topology.EnrichDurable("orders")))
	if err != nil || len(files) != 1 {
		t.Fatalf("the consumer's files are %v, %v", files, err)
	}
	if err := os.RemoveAll(files[0]); err != nil {
		t.Fatal(err)
	}
	f.cfg.AckWait = 2 * time.Second // which the server can't write down
	f.start(noting(j, func(context.Context, consume.Message) error { return nil }))
	f.send("evt_2")
	f.eventually("the second message", func() bool { return len(j.of("evt_2")) > 0 })
	f.server.Stop()
	f.server.Resume()
	f.eventually("a connection", func() bool { return f.js.Conn().IsConnected() })
	f.send("evt_3")
	f.eventually("the third message", func() bool { return len(j.of("evt_3")) > 0 })
	f.settled()
}

func TestServerRestartIsSurvived(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.start(noting(j, func(context.Context, consume.Message) error { return nil }))
	f.send("evt_1")
	f.settled()
	f.server.Stop()
	f.server.Resume()
	f.eventually("a connection", func() bool { return f.js.Conn().IsConnected() })
	f.send("evt_2")
	f.eventually("the second message", func() bool { return len(j.of("evt_2")) > 0 })
	f.settled()
}

// A message in hand while the server is away is answered or delivered again.
func TestServerRestartDuringWorkLosesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cfg.MaxAttempts = 100
	var done sync.Map
	begun, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.start(consume.Each(func(_ context.Context, m consume.Message) error {
		once.Do(func() { close(begun) })
		<-release
		done.Store(string(m.Data), true)
		return nil
	}))
	var ids []string
	for i := range 50 {
		ids = append(ids, fmt.Sprint("evt_", i))
	}
	f.send(ids...)
	<-begun
	f.server.Stop()
	close(release)
	f.server.Resume()
	f.settled()
	for _, id := range ids {
		if _, ok := done.Load(id); !ok {
			t.Errorf("%s was never handled", id)
		}
	}
}

// Two loops share a consumer: between them each message is handled once.
func TestLoopsShareTheirConsumer(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	var first, second atomic.Int32
	counting := func(n *atomic.Int32) consume.Handler {
		return noting(j, func(context.Context, consume.Message) error {
			n.Add(1)
			<-time.After(5 * time.Millisecond)
			return nil
		})
	}
	f.start(counting(&first))
	f.start(counting(&second))
	const n = 200
	for i := range n {
		f.send(fmt.Sprint("evt_", i))
	}
	f.settled()
	if j.count() != n || first.Load() == 0 || second.Load() == 0 {
		t.Errorf("%d calls, %d and %d, want %d shared by both", j.count(), first.Load(), second.Load(), n)
	}
}

func TestRefusedConsumerEndsTheLoop(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := topology.EnrichConsumer("orders", f.cfg.Delivery())
	c.FilterSubject, c.FilterSubjects = "", []string{"tercel.raw.>", "tercel.raw.orders.>"} // they overlap
	loop, err := consume.New(f.cfg, topology.StreamRaw, c, consume.Each(nil), consume.Deps{JetStream: f.js, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := loop.Run(ctx); err == nil {
		t.Error("Run() = nil for a consumer that the server refuses")
	}
}

// A stream that has as many consumers as it may have is waited for: many scans
// at once, say, end by themselves.
func TestAStreamFullOfConsumersIsWaitedFor(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	stream, err := f.js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxConsumers = 1
	if _, err := f.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "other", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	told := make(lines, 100)
	f.log = told
	f.start(noting(j, func(context.Context, consume.Message) error { return nil }))
	f.send("evt_1")
	f.eventually("the loop says what it waits for", func() bool {
		select {
		case line := <-told:
			return strings.Contains(line, "maximum consumers limit")
		default:
			return false
		}
	})
	if err := stream.DeleteConsumer(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	f.eventually("the message", func() bool { return j.count() == 1 })
}

// lines is a log.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}

// An operator's 0s is no wish for the default.
func TestGivingUpAfterNoTimeIsRefused(t *testing.T) {
	t.Parallel()
	cfg := consume.DefaultConfig()
	cfg.GiveUpAfter = 0
	if want := "more than 0s"; cfg.Problems()["give_up_after"] != want {
		t.Errorf("problems %v, want give_up_after: %s", cfg.Problems(), want)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	good := topology.EnrichConsumer("orders", topology.Delivery{AckWait: time.Second, MaxAttempts: 3})
	for name, change := range map[string]func(*consume.Config, *jetstream.ConsumerConfig){
		"no workers":         func(c *consume.Config, _ *jetstream.ConsumerConfig) { c.Workers = 0 },
		"no batch":           func(c *consume.Config, _ *jetstream.ConsumerConfig) { c.Batch = 0 },
		"a short ack wait":   func(c *consume.Config, _ *jetstream.ConsumerConfig) { c.AckWait = time.Millisecond },
		"no timeout":         func(c *consume.Config, _ *jetstream.ConsumerConfig) { c.Timeout = 0 },
		"no attempts":        func(c *consume.Config, _ *jetstream.ConsumerConfig) { c.MaxAttempts = 0 },
		"delays upside down": func(c *consume.Config, _ *jetstream.ConsumerConfig) { c.RetryMax = c.RetryMin - 1 },
		"foreign consumer":   func(_ *consume.Config, j *jetstream.ConsumerConfig) { j.Durable = "theirs" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, consumer := consume.DefaultConfig(), good
			change(&cfg, &consumer)
			if _, err := consume.New(cfg, topology.StreamRaw, consumer, consume.Each(nil), consume.Deps{}); err == nil {
				t.Error("New() took it")
			}
		})
	}
}

// A consumer that an operator has paused stays so over a restart, until it is
// resumed: the server keeps the pause when the loop updates the consumer.
func TestAPauseOutlastsARestart(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	handler := noting(j, func(context.Context, consume.Message) error { return nil })
	stop := f.start(handler)
	f.send("evt_1")
	f.settled()
	durable := topology.EnrichDurable("orders")
	if _, err := f.js.PauseConsumer(t.Context(), topology.StreamRaw, durable, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	stop()
	f.start(handler)
	f.send("evt_2")
	info := func() *jetstream.ConsumerInfo {
		c, err := f.js.Consumer(t.Context(), topology.StreamRaw, durable)
		if err != nil {
			t.Fatal(err)
		}
		return c.CachedInfo()
	}
	f.eventually("the new loop pulls", func() bool { return info().NumWaiting > 0 })
	if i := info(); !i.Paused || i.NumPending != 1 || j.count() != 1 {
		t.Errorf("after a restart: paused %t, %d pending, %d calls; want a pause, 1 and 1", i.Paused, i.NumPending, j.count())
	}
	if _, err := f.js.ResumeConsumer(t.Context(), topology.StreamRaw, durable); err != nil {
		t.Fatal(err)
	}
	f.eventually("the second call", func() bool { return j.count() == 2 })
}

// A panic over one message costs the others of its batch nothing.
func TestPromise3PanicIsOneMessagesAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cfg.Workers, f.cfg.Batch = 1, 50
	for i := range 10 {
		f.send(fmt.Sprint("evt_", i))
	}
	f.start(func(_ context.Context, msgs []consume.Message) []error {
		for _, m := range msgs {
			if string(m.Data) == "evt_3" {
				panic("cannot be")
			}
		}
		return make([]error, len(msgs))
	})
	if r := f.reasons(1)[4]; r.Class != fault.Exhausted || !strings.Contains(r.Message, "panicked") {
		t.Errorf("reason %+v of the fourth message", r)
	}
	f.settled()
	if n := f.terminated(); n != 1 {
		t.Errorf("%d messages were given up, want one", n)
	}
}

// What an answer waits for, such as a dead letter's place, has an end by the
// stage's timeout (promise 10).
func TestAnswersHaveAnEnd(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cfg.Timeout = 3 * time.Second // less than the storing of a dead letter may take
	left := make(chan time.Duration, 1)
	f.keep = func(ctx context.Context, _ consume.Message, _ consume.Reason) (uint64, error) {
		end, _ := ctx.Deadline() // a time long ago where there is none
		select {
		case left <- time.Until(end):
		default:
		}
		return 1, nil
	}
	f.start(consume.Each(func(context.Context, consume.Message) error { return fault.Permanent(errTest) }))
	f.send("evt-1")
	f.settled()
	if got := <-left; got < -time.Hour || got > f.cfg.Timeout {
		t.Errorf("the storing of a dead letter ends in %s, want within %s", got, f.cfg.Timeout)
	}
}

// Promise 3: an answer to a message of a stream that was deleted meanwhile settles
// none of the new stream's, which has the same sequence: its own worker may crash.
func TestPromise3AnswersAreNotForTheNextStreamOfTheName(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		ids []string // that fill the hand, or leave room
		err error
	}{
		"while the loop pulls":            {ids: []string{"old_1"}},
		"while the hand is full":          {ids: []string{"old_1", "old_2"}},
		"a message that is given up":      {ids: []string{"old_1"}, err: fault.Permanent(errTest)},
		"a message that is to come again": {ids: []string{"old_1"}, err: fault.RetryAfter(errTest, time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, j := setup(t), &journal{}
			f.cfg.Workers, f.cfg.AckWait, f.cfg.Timeout = 1, 2*time.Second, time.Minute
			release := make(chan struct{})
			f.start(noting(j, func(_ context.Context, m consume.Message) error {
				if strings.HasPrefix(string(m.Data), "new") {
					return nil
				}
				<-release
				return tt.err
			}))
			f.send(tt.ids...)
			f.eventually("the first is in work", func() bool { return j.count() == 1 })
			if err := f.js.DeleteStream(t.Context(), topology.StreamRaw); err != nil {
				t.Fatal(err)
			}
			<-time.After(consume.RemakeAfter) // as another replica does
			if _, err := topology.Restore(t.Context(), f.js, topology.DefaultConfig()); err != nil {
				t.Fatal(err)
			}
			cons, err := f.js.CreateConsumer(t.Context(), topology.StreamRaw, topology.EnrichConsumer("orders", f.cfg.Delivery()))
			if err != nil {
				t.Fatal(err)
			}
			f.send("new_1")
			batch, err := cons.Fetch(1, jetstream.FetchMaxWait(20*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := <-batch.Messages(); !ok {
				t.Fatalf("no delivery: %v", batch.Error())
			}
			close(release)
			f.eventually("what a worker had when it crashed is delivered again", func() bool { return len(j.of("new_1")) > 0 })
			f.settled()
		})
	}
}
