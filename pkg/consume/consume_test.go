package consume_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/fault"
)

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

// Promise 3: a message is given up only after it was kept, since the server's
// word of it can be lost. However long that takes, its letter says why.
func TestPromise3MessagesAreKeptBeforeTheyAreGivenUp(t *testing.T) {
	t.Parallel()
	f, j := setup(t), &journal{}
	f.cfg.MaxAttempts = 1
	const refused = 4 // more than may end without an answer
	var tries, early atomic.Int64
	f.keep = func(_ context.Context, m consume.Message, r consume.Reason) (uint64, error) {
		early.Add(int64(f.terminated()))
		if string(m.Data) != "evt_1" || r.Class != fault.Fatal || r.Message != "connection refused" || r.Detail != "by whom" {
			t.Errorf("kept %q for %+v", m.Data, r)
		}
		if tries.Add(1) <= refused {
			return 0, errors.New("stream is full")
		}
		return 77, nil
	}
	f.start(noting(j, func(context.Context, consume.Message) error {
		return fault.WithDetail(fault.Permanent(errTest), "by whom")
	}))
	f.send("evt_1")
	f.settled()
	if r := f.reasons(1)[1]; r.Letter != 77 || r.Attempts != 1 {
		t.Errorf("reason %+v, want letter 77 after one attempt", r)
	}
	if tries.Load() != refused+1 || early.Load() != 0 || j.count() != refused+1 {
		t.Errorf("kept in %d tries and %d calls, with %d terminated before; want %d, as many and 0",
			tries.Load(), j.count(), early.Load(), refused+1)
	}
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
	f.cfg.Workers, f.cfg.AckWait, f.cfg.Timeout = 1, 4*time.Second, time.Minute
	f.start(noting(j, func(ctx context.Context, _ consume.Message) error {
		select {
		case <-time.After(5 * time.Second):
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

// What was answered gets no heartbeat while others of its batch still wait for
// their answers: the server would forget how long it was to wait.
func TestNoHeartbeatFollowsAnAnswer(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cfg.Workers, f.cfg.Batch, f.cfg.Linger, f.cfg.AckWait, f.cfg.Timeout = 1, 2, time.Hour, 3*time.Second, time.Minute
	type answer struct{ to, word string }
	var mu sync.Mutex // guards answers
	var answers []answer
	nc := f.server.Connect()
	if _, err := nc.Subscribe("$JS.ACK.>", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		answers = append(answers, answer{m.Subject, string(m.Data)})
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	// beats counts those behind the delay of the first message, of it and of others.
	beats := func() (own, others int) {
		mu.Lock()
		defer mu.Unlock()
		i := slices.IndexFunc(answers, func(a answer) bool { return strings.HasPrefix(a.word, "-NAK") })
		for _, a := range answers[max(i, 0):] {
			switch {
			case i < 0 || a.word != "+WPI":
			case a.to == answers[i].to:
				own++
			default:
				others++
			}
		}
		return own, others
	}
	release := make(chan struct{})
	f.keep = func(context.Context, consume.Message, consume.Reason) (uint64, error) {
		<-release
		return 1, nil
	}
	f.start(consume.Each(func(_ context.Context, m consume.Message) error {
		if string(m.Data) == "evt_1" {
			return fault.RetryAfter(errTest, time.Hour)
		}
		return fault.Permanent(errTest)
	}))
	defer close(release)
	f.send("evt_1", "evt_2")
	f.eventually("two heartbeats of the second message", func() bool { _, others := beats(); return others >= 2 })
	if own, _ := beats(); own > 0 {
		t.Errorf("%d heartbeats of the first message after its answer", own)
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

// A stream of messages that never pauses for long is handled as it comes: nobody
// waits until a batch is full.
func TestASteadyStreamIsHandledAsItComes(t *testing.T) {
	t.Parallel()
	const most = 1000
	f := setup(t)
	f.cfg.Workers, f.cfg.Batch, f.cfg.AckWait = 1, most, time.Minute
	handled := make(chan int, most)
	f.start(func(_ context.Context, msgs []consume.Message) []error {
		handled <- len(msgs)
		return make([]error, len(msgs))
	})
	for i := range most {
		f.send(fmt.Sprint(i))
		select {
		case n := <-handled:
			t.Logf("%d of %d were handled together", n, i+1)
			return
		default:
		}
	}
	t.Errorf("nothing is handled while %d messages come", most)
}

// A batch that may linger takes in what comes a little later, and is handed out
// at once when it is full or the loop stops.
func TestABatchLingersUntilItIsFull(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cfg.Workers, f.cfg.Batch, f.cfg.Linger, f.cfg.AckWait = 1, 3, time.Hour, time.Minute
	batches := make(chan int, 10)
	stop := f.start(func(_ context.Context, msgs []consume.Message) []error {
		batches <- len(msgs)
		return make([]error, len(msgs))
	})
	f.send("evt_1")
	select {
	case n := <-batches:
		t.Fatalf("a batch of %d was handed out before it was full", n)
	case <-time.After(300 * time.Millisecond):
	}
	f.send("evt_2", "evt_3", "evt_4")
	if n := <-batches; n != 3 {
		t.Errorf("a batch of %d, want 3", n)
	}
	stop()
	if n := <-batches; n != 1 {
		t.Errorf("a batch of %d at the end, want 1", n)
	}
}
