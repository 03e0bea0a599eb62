package consume_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// fixture is a stage loop over a real server.
type fixture struct {
	t      *testing.T
	server *natstest.Server
	js     jetstream.JetStream
	cfg    consume.Config
	keep   func(context.Context, consume.Message, consume.Reason) (uint64, error)
	note   func(consume.Message, consume.Attempt)
	log    io.Writer
}

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, server: natstest.Start(t, false), log: t.Output(), cfg: consume.Config{
		Workers: 4, Batch: 1, AckWait: 4 * time.Second, Timeout: 10 * time.Second, MaxAttempts: 3,
		RetryMin: 20 * time.Millisecond, RetryMax: 100 * time.Millisecond,
	}}
	var err error
	if f.js, err = jetstream.New(f.server.Connect(), natstest.Patient()); err != nil {
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
		consume.Deps{JetStream: f.js, Log: slog.New(slog.NewTextHandler(f.log, nil)), Keep: f.keep, Note: f.note})
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
		case <-time.After(time.Minute):
			f.t.Error("Run() did not end within a minute of being told to")
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
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		if cond() {
			return
		}
	}
	f.t.Fatalf("not within a minute: %s", what)
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

func (f *fixture) terminated() uint64 {
	f.t.Helper()
	s, err := f.js.Stream(f.t.Context(), topology.StreamAdvisories)
	if err != nil {
		f.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}
