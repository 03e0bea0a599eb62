package audit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/audit"
	"github.com/tercelhq/tercel/services/reconciler/internal/collector"
)

// fixture is a pipeline of one source on a real server.
type fixture struct {
	t  *testing.T
	js jetstream.JetStream
}

func setup(t *testing.T) *fixture {
	t.Helper()
	nc := natstest.Start(t, false).Connect()
	js, err := jetstream.New(nc, natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t, js}
	f.ensure()
	return f
}

func (f *fixture) ensure() {
	f.t.Helper()
	if err := topology.Ensure(f.t.Context(), f.js, topology.DefaultConfig()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) audit(settle time.Duration) *audit.Audit {
	f.t.Helper()
	a, err := audit.New(audit.Config{
		Every: 100 * time.Millisecond, Settle: settle, Sources: []string{"orders"}, Destinations: []string{"warehouse"}, LeaseTTL: 5 * time.Second,
		Streams: topology.DefaultConfig(),
	}, audit.Deps{JetStream: f.js, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

// until makes passes until what they did together fulfils ok.
func (f *fixture) until(a *audit.Audit, what string, ok func(sum, last audit.Result) bool) audit.Result {
	f.t.Helper()
	var sum audit.Result
	f.eventually(what, func() bool {
		res, err := a.RunOnce(f.t.Context())
		if err != nil {
			f.t.Fatalf("RunOnce() = %v", err)
		}
		sum.Audited += res.Audited
		sum.Recovered += res.Recovered
		sum.Repaired += res.Repaired
		return ok(sum, res)
	})
	return sum
}

// audited makes passes until n triggers are done with, and one more.
func (f *fixture) audited(a *audit.Audit, n int) audit.Result {
	f.t.Helper()
	sum := f.until(a, fmt.Sprint(n, " triggers audited"), func(sum, _ audit.Result) bool { return sum.Audited >= n })
	if sum.Audited != n {
		f.t.Fatalf("%d triggers audited, want %d", sum.Audited, n)
	}
	return sum
}

func (f *fixture) eventually(what string, ok func() bool) {
	f.t.Helper()
	end := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			f.t.Fatalf("%s: not within a minute", what)
		}
	}
}

// run runs something beside the test and returns what ends it.
func (f *fixture) run(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("Run() = %v", err)
		}
	}
	f.t.Cleanup(stop)
	return stop
}

func config() consume.Config {
	c := consume.DefaultConfig()
	c.Workers, c.AckWait, c.RetryMin, c.RetryMax = 4, time.Second, 20*time.Millisecond, 100*time.Millisecond
	return c
}

func (f *fixture) collector() (stop func()) {
	f.t.Helper()
	c, err := collector.New(collector.Config{Collect: config()}, collector.Deps{
		JetStream: f.js, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	stop = f.run(c.Run)
	f.eventually("the collector's consumer", func() bool {
		_, err := f.js.Consumer(f.t.Context(), topology.StreamAdvisories, "collect_dead_letters")
		return err == nil
	})
	return stop
}

// enricher runs the stage loop with a handler that works as the enricher
// does, except for triggers whose id begins with a word: "lost" is acknowledged
// without an event, "broken" is given up, "hanging" waits for release.
func (f *fixture) enricher(release <-chan struct{}) (stop func()) {
	f.t.Helper()
	cfg := config()
	loop, err := consume.New(cfg, topology.StreamRaw, topology.EnrichConsumer("orders", cfg.Delivery()),
		consume.Each(func(ctx context.Context, m consume.Message) error {
			e, err := event.FromHeader(m.Header)
			if err != nil {
				return err
			}
			again := e.Origin == event.Replay
			switch {
			case strings.HasPrefix(e.ID, "lost") && !again:
				return nil
			case strings.HasPrefix(e.ID, "broken") && !again:
				return fault.Permanent(errors.New("broken"))
			case strings.HasPrefix(e.ID, "hanging"):
				select {
				case <-release:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if e.TriggerSequence == 0 {
				e.TriggerSequence = m.Sequence
			}
			out := nats.NewMsg(e.EnrichedSubject())
			out.Header, out.Data = e.Header(), event.Body{}.Encode()
			_, err = f.js.PublishMsg(ctx, out, jetstream.WithMsgID(m.Header.Get(jetstream.MsgIDHeader)))
			return err
		}), consume.Deps{JetStream: f.js, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	return f.run(loop.Run)
}

func (f *fixture) trigger(id string) *jetstream.PubAck {
	f.t.Helper()
	e := event.Event{
		ID: id, Source: "orders", Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook,
		ContentType: "application/json", ReceivedAt: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC),
	}
	m := nats.NewMsg(e.RawSubject())
	m.Header, m.Data = e.Header(), []byte(`{"id":"`+id+`"}`)
	ack, err := f.js.PublishMsg(f.t.Context(), m, jetstream.WithMsgID(e.MsgID()))
	if err != nil {
		f.t.Fatal(err)
	}
	return ack
}

// event publishes an event of a trigger, as the enricher would.
func (f *fixture) event(e event.Event, msgID string) {
	f.t.Helper()
	e.Source, e.Account, e.Type, e.Origin = "orders", event.NoAccount, "order.paid", event.Webhook
	m := nats.NewMsg(e.EnrichedSubject())
	m.Header, m.Data = e.Header(), event.Body{}.Encode()
	if _, err := f.js.PublishMsg(f.t.Context(), m, jetstream.WithMsgID(msgID)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) stream(name string) jetstream.Stream {
	f.t.Helper()
	s, err := f.js.Stream(f.t.Context(), name)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) stored(name string) uint64 {
	f.t.Helper()
	return f.stream(name).CachedInfo().State.Msgs
}

func (f *fixture) consumer() *jetstream.ConsumerInfo {
	f.t.Helper()
	c, err := f.js.Consumer(f.t.Context(), topology.StreamRaw, topology.EnrichDurable("orders"))
	if err != nil {
		f.t.Fatal(err)
	}
	return c.CachedInfo()
}

// answered waits until the enricher has answered everything.
func (f *fixture) answered() {
	f.t.Helper()
	f.eventually("all triggers answered", func() bool {
		c, err := f.js.Consumer(f.t.Context(), topology.StreamRaw, topology.EnrichDurable("orders"))
		if err != nil {
			return false
		}
		i := c.CachedInfo()
		return i.NumPending == 0 && i.NumAckPending == 0 && i.Delivered.Stream == f.stream(topology.StreamRaw).CachedInfo().State.LastSeq
	})
}

// findings are all that were published, oldest first.
func findings(t *testing.T, js jetstream.JetStream) []report.Finding {
	t.Helper()
	var all []report.Finding
	for m, err := range consume.Scan(t.Context(), js, consume.ScanOptions{Stream: topology.StreamReports, Subjects: []string{report.SubjectFindings}}) {
		if err != nil {
			t.Fatal(err)
		}
		f, err := report.DecodeFinding(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}
