package consume_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// fixture is a stage loop over a real server.
type fixture struct {
	t      *testing.T
	server *natstest.Server
	js     jetstream.JetStream
	cfg    consume.Config
}

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, server: natstest.Start(t, false), cfg: consume.Config{
		Workers: 4, Batch: 1, AckWait: time.Second, Timeout: 10 * time.Second, MaxAttempts: 3,
		RetryMin: 20 * time.Millisecond, RetryMax: 100 * time.Millisecond,
	}}
	var err error
	if f.js, err = jetstream.New(f.server.Connect()); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), f.js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	return f
}

// start runs a loop until the returned function, which waits for its end, or
// the test's end.
func (f *fixture) start(h consume.Handler) (stop func()) {
	f.t.Helper()
	loop, err := consume.New(f.cfg, topology.StreamRaw, topology.EnrichConsumer("orders", f.cfg.Delivery()), h,
		consume.Deps{JetStream: f.js, Log: slog.New(slog.NewTextHandler(f.t.Output(), nil))})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := loop.Run(ctx); err != nil {
			f.t.Errorf("Run() = %v", err)
		}
	}()
	stop = func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			f.t.Error("Run() did not end within 20s of being told to")
		}
	}
	f.t.Cleanup(stop)
	return stop
}

func (f *fixture) send(ids ...string) {
	f.t.Helper()
	for _, id := range ids {
		m := nats.NewMsg("tercel.raw.orders._.order.paid")
		m.Header.Set(event.HeaderID, id)
		m.Data = []byte(id)
		if _, err := f.js.PublishMsg(f.t.Context(), m); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fixture) eventually(what string, cond func() bool) {
	f.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		if cond() {
			return
		}
	}
	f.t.Fatalf("not within 20s: %s", what)
}

// settled waits until every message has its answer.
func (f *fixture) settled() {
	f.t.Helper()
	f.eventually("every message has its answer", func() bool {
		c, err := f.js.Consumer(f.t.Context(), topology.StreamRaw, topology.EnrichDurable("orders"))
		if err != nil {
			return false
		}
		i := c.CachedInfo()
		return i.NumPending == 0 && i.NumAckPending == 0 && i.Delivered.Stream > 0
	})
}

// reasons reads the reasons of the terminated messages by sequence.
func (f *fixture) reasons(n int) map[uint64]consume.Reason {
	f.t.Helper()
	s, err := f.js.Stream(f.t.Context(), topology.StreamAdvisories)
	if err != nil {
		f.t.Fatal(err)
	}
	f.eventually(fmt.Sprint(n, " advisories"), func() bool {
		i, err := s.Info(f.t.Context())
		return err == nil && i.State.LastSeq >= uint64(n)
	})
	all := map[uint64]consume.Reason{}
	for seq := uint64(1); seq <= uint64(n); seq++ {
		m, err := s.GetMsg(f.t.Context(), seq)
		if err != nil {
			f.t.Fatal(err)
		}
		var a struct {
			Sequence uint64 `json:"stream_seq"`
			Reason   string `json:"reason"`
		}
		if err := json.Unmarshal(m.Data, &a); err != nil {
			f.t.Fatal(err)
		}
		all[a.Sequence] = consume.DecodeReason(a.Reason)
	}
	return all
}

// journal is what handlers were called with.
type journal struct {
	mu    sync.Mutex
	calls []call
}

type call struct {
	id      string
	attempt int
	at      time.Time
}

func (j *journal) note(m consume.Message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls = append(j.calls, call{string(m.Data), m.Attempt, time.Now()})
}

func (j *journal) of(id string) (calls []call) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.calls {
		if c.id == id {
			calls = append(calls, c)
		}
	}
	return calls
}

func (j *journal) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.calls)
}

func noting(j *journal, f func(ctx context.Context, m consume.Message) error) consume.Handler {
	return consume.Each(func(ctx context.Context, m consume.Message) error {
		j.note(m)
		return f(ctx, m)
	})
}

var errTest = errors.New("connection refused")

func TestEachMessageGetsTheAnswerThatItsErrorDeserves(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err   func(attempt int) error
		calls int
		class fault.Class // "": acknowledged
	}{
		"success":                 {func(int) error { return nil }, 1, ""},
		"permanent":               {func(int) error { return fmt.Errorf("order 7: %w", fault.Permanent(errTest)) }, 1, fault.Fatal},
		"transient to the end":    {func(int) error { return fmt.Errorf("order 7: %w", errTest) }, 3, fault.Exhausted},
		"throttled to the end":    {func(int) error { return fault.RetryAfter(fmt.Errorf("order 7: %w", errTest), 0) }, 3, fault.Exhausted},
		"transient, then success": {func(n int) error { return map[bool]error{true: errTest}[n < 3] }, 3, ""},
		"transient, then permanent": {func(n int) error {
			if n == 2 {
				return fault.Permanent(fmt.Errorf("order 7: %w", errTest))
			}
			return errTest
		}, 2, fault.Fatal},
		"panic": {func(int) error { panic("order 7") }, 3, fault.Exhausted},
		"panic once": {func(n int) error {
			if n == 1 {
				panic("order 7")
			}
			return nil
		}, 2, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, j := setup(t), &journal{}
			f.start(noting(j, func(_ context.Context, m consume.Message) error { return tt.err(m.Attempt) }))
			before := time.Now()
			f.send("evt_1")
			f.eventually("all calls", func() bool { return j.count() == tt.calls })
			f.settled()
			for i, c := range j.of("evt_1") {
				if c.attempt != i+1 {
					t.Errorf("call %d is attempt %d", i+1, c.attempt)
				}
			}
			if tt.class == "" {
				if f.terminated() > 0 {
					t.Error("a message that was acknowledged was terminated too")
				}
				return
			}
			r := f.reasons(1)[1]
			if r.Class != tt.class || r.Attempts != tt.calls || r.FirstAt.Before(before.Add(-time.Second)) || r.LastAt.Before(r.FirstAt) {
				t.Errorf("reason %+v, want class %s after %d attempts", r, tt.class, tt.calls)
			}
			if want := map[bool]string{true: "handler of stage enrich panicked", false: "order 7: connection refused"}[strings.HasPrefix(name, "panic")]; r.Message != want {
				t.Errorf("reason %q, want %q", r.Message, want)
			}
		})
	}
}

func (f *fixture) terminated() uint64 {
	f.t.Helper()
	s, err := f.js.Stream(f.t.Context(), topology.StreamAdvisories)
	if err != nil {
		f.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// Every message gets exactly one answer, however answers, batches and workers
// mix; none is left to wait for ever.
func TestExactlyOneAnswerPerMessage(t *testing.T) {
	t.Parallel()
	for name, batch := range map[string]int{"one by one": 1, "in batches": 7} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, j := setup(t), &journal{}
			f.cfg.Batch, f.cfg.AckWait = batch, 30*time.Second // a message without an answer would be seen
			const n = 200
			var ids []string
			for i := range n {
				ids = append(ids, fmt.Sprint("evt_", i))
			}
			f.send(ids...)
			f.start(func(_ context.Context, msgs []consume.Message) []error {
				if len(msgs) > batch {
					t.Errorf("a batch of %d, want at most %d", len(msgs), batch)
				}
				errs := make([]error, len(msgs))
				for i, m := range msgs {
					j.note(m)
					switch k := m.Sequence % 4; {
					case k == 1 && m.Attempt == 1:
						errs[i] = errTest
					case k == 2:
						errs[i] = fault.Permanent(errTest)
					case k == 3 && m.Attempt < 3:
						errs[i] = fault.RetryAfter(errTest, time.Millisecond)
					}
				}
				return errs
			})
			f.eventually("all calls", func() bool { return j.count() == n/4*(2+1+3+1) })
			f.settled()
			if got := len(f.reasons(n / 4)); got != n/4 || f.terminated() != n/4 {
				t.Errorf("%d messages terminated by %d advisories, want %d", got, f.terminated(), n/4)
			}
		})
	}
}

func TestBatchesFillWhenMessagesWait(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cfg.Workers, f.cfg.Batch = 1, 10
	var ids []string
	for i := range 100 {
		ids = append(ids, fmt.Sprint("evt_", i))
	}
	f.send(ids...)
	var mu sync.Mutex
	var sizes []int
	var order []string
	f.start(func(_ context.Context, msgs []consume.Message) []error {
		mu.Lock()
		defer mu.Unlock()
		sizes = append(sizes, len(msgs))
		for _, m := range msgs {
			order = append(order, string(m.Data))
		}
		return make([]error, len(msgs))
	})
	f.settled()
	mu.Lock()
	defer mu.Unlock()
	if len(sizes) > 20 || !slices.Equal(order, ids) {
		t.Errorf("batches of %v, want them nearly full and in order", sizes)
	}
}

// A handler that returns the wrong number of errors is a programmer's mistake:
// nothing of its batch is acknowledged.
func TestWrongNumberOfErrorsAcknowledgesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.start(func(context.Context, []consume.Message) []error { return nil })
	f.send("evt_1")
	f.settled()
	if r := f.reasons(1)[1]; r.Class != fault.Exhausted || r.Attempts != 3 {
		t.Errorf("reason %+v, want the attempts used up", r)
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.start(noting(j, func(_ context.Context, m consume.Message) error {
		if m.Attempt == 1 {
			return fault.RetryAfter(errTest, 1500*time.Millisecond)
		}
		return nil
	}))
	f.send("evt_1")
	f.eventually("two calls", func() bool { return j.count() == 2 })
	c := j.of("evt_1")
	if wait := c[1].at.Sub(c[0].at); wait < 1450*time.Millisecond {
		t.Errorf("tried again after %s, want 1.5s", wait)
	}
}

func TestDelayGrowsUpToItsBound(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.cfg.MaxAttempts, f.cfg.RetryMin, f.cfg.RetryMax = 5, 100*time.Millisecond, 300*time.Millisecond
	f.start(noting(j, func(context.Context, consume.Message) error { return errTest }))
	f.send("evt_1")
	f.eventually("five calls", func() bool { return j.count() == 5 })
	c := j.of("evt_1")
	for i, want := range []time.Duration{100, 200, 300, 300} {
		// The server counts from when it reads the answer; a millisecond is lost.
		if wait := c[i+1].at.Sub(c[i].at); wait < (want-2)*time.Millisecond {
			t.Errorf("attempt %d came after %s, want %dms", i+2, wait, want)
		}
	}
}

// A slow handler keeps its message, and the messages that wait behind it keep
// theirs: each is delivered once although every one takes longer than AckWait.
func TestHeartbeatsKeepWhatIsInHand(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.cfg.Workers, f.cfg.AckWait = 1, time.Second
	f.start(noting(j, func(ctx context.Context, _ consume.Message) error {
		select {
		case <-time.After(2500 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}))
	f.send("evt_1", "evt_2", "evt_3")
	f.eventually("three calls", func() bool { return j.count() >= 3 })
	f.settled()
	for _, id := range []string{"evt_1", "evt_2", "evt_3"} {
		if c := j.of(id); len(c) != 1 || c[0].attempt != 1 {
			t.Errorf("%s was handled in %d calls %+v, want 1 with attempt 1", id, len(c), c)
		}
	}
}

// A handler that ignores its context loses its message in the end: somebody
// else gets it.
func TestHangingHandlerLosesItsMessage(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.cfg.Workers, f.cfg.Timeout = 2, 100*time.Millisecond
	release := make(chan struct{})
	f.start(noting(j, func(_ context.Context, m consume.Message) error {
		if m.Attempt == 1 {
			<-release
		}
		return nil
	}))
	defer close(release)
	f.send("evt_1")
	f.eventually("a second delivery", func() bool { return j.count() == 2 })
}

func TestHandlerGetsNoMoreThanTimeout(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cfg.Timeout, f.cfg.MaxAttempts = 100*time.Millisecond, 1
	f.start(consume.Each(func(ctx context.Context, _ consume.Message) error {
		<-ctx.Done()
		return ctx.Err()
	}))
	f.send("evt_1")
	if r := f.reasons(1)[1]; r.Message != context.DeadlineExceeded.Error() || r.Attempts != 1 {
		t.Errorf("reason %+v, want the deadline after one attempt", r)
	}
}

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
	if took := time.Since(started); took > 2*time.Second {
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
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := loop.Run(ctx); err == nil {
		t.Error("Run() = nil for a consumer that the server refuses")
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

func TestReasonIsBoundedAndReadBack(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	for name, message := range map[string]string{
		"plain": "order 7: status 500", "quotes": `say "x"`, "long": strings.Repeat("é", 10_000), "no UTF-8": "a\xffb", "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := consume.Reason{Class: fault.Exhausted, Message: message, Attempts: 12, FirstAt: at, LastAt: at.Add(time.Hour), TraceID: "0af7"}
			text := r.Encode()
			got := consume.DecodeReason(text)
			if len(text) > 5<<10 || strings.ContainsAny(text, "\r\n") {
				t.Errorf("%d bytes %.80q, want one line of at most 5 KiB", len(text), text)
			}
			if got.Class != r.Class || got.Attempts != 12 || !got.LastAt.Equal(r.LastAt) || got.TraceID != "0af7" ||
				!strings.HasPrefix(got.Message, strings.ToValidUTF8(message[:min(len(message), 4000)], "\uFFFD")) {
				t.Errorf("DecodeReason() = %.200v", got)
			}
		})
	}
	if got := consume.DecodeReason("Unacknowledged message was deleted"); got.Class != fault.Exhausted || got.Message == "" {
		t.Errorf("DecodeReason() of the server's own = %+v", got)
	}
}

func FuzzDecodeReason(f *testing.F) {
	f.Add(`{"class":"permanent","message":"x","attempts":1}`)
	f.Add("Unacknowledged message was deleted")
	f.Add(`{"class":""}`)
	f.Fuzz(func(t *testing.T, text string) {
		if r := consume.DecodeReason(text); r.Class == "" {
			t.Errorf("DecodeReason(%q) has no class", text)
		}
	})
}

func ExampleReason_Encode() {
	at := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	fmt.Println(consume.Reason{Class: fault.Fatal, Message: "order 7: status 422", Attempts: 1, FirstAt: at, LastAt: at}.Encode())
	// Output: {"class":"permanent","message":"order 7: status 422","attempts":1,"first_at":"2026-11-03T12:00:00Z","last_at":"2026-11-03T12:00:00Z"}
}
