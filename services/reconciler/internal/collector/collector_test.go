package collector_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/collector"
)

func TestMain(m *testing.M) {
	otel.SetTextMapPropagator(propagation.TraceContext{}) // as a service's main does
	os.Exit(m.Run())
}

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceParent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// fixture is a server with a collector at work.
type fixture struct {
	t   *testing.T
	js  jetstream.JetStream
	log *lines
}

// lines keeps what was logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func config(attempts int) consume.Config {
	c := consume.DefaultConfig()
	c.Workers, c.MaxAttempts, c.RetryMin, c.RetryMax = 2, attempts, 20*time.Millisecond, 100*time.Millisecond
	c.AckWait = 5 * time.Second
	return c
}

func setup(t *testing.T) fixture {
	t.Helper()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	f := fixture{t, js, &lines{}}
	c, err := collector.New(collector.Config{Collect: config(100)}, collector.Deps{
		JetStream: js, Log: slog.New(slog.NewTextHandler(f.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.run(c.Run)
	f.eventually("the collector's consumer", func() bool {
		_, err := js.Consumer(t.Context(), topology.StreamAdvisories, "collect_dead_letters")
		return err == nil
	})
	return f
}

// run runs something beside the test until its end.
func (f fixture) run(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("Run() = %v", err)
		}
	})
}

// stage runs the enricher's loop with a handler of the test's.
func (f fixture) stage(attempts int, handle func(context.Context, consume.Message) error) {
	f.t.Helper()
	cfg := config(attempts)
	loop, err := consume.New(cfg, topology.StreamRaw, topology.EnrichConsumer("orders", cfg.Delivery()), consume.Each(handle),
		consume.Deps{JetStream: f.js, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	f.run(loop.Run)
}

func (f fixture) eventually(what string, ok func() bool) {
	f.t.Helper()
	end := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			f.t.Fatalf("%s: not within a minute", what)
		}
	}
}

func (f fixture) stream(name string) jetstream.Stream {
	f.t.Helper()
	s, err := f.js.Stream(f.t.Context(), name)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f fixture) state(name string) jetstream.StreamState {
	f.t.Helper()
	return f.stream(name).CachedInfo().State
}

// trigger stores a webhook and returns it as an event.
func (f fixture) trigger(id string) event.Event {
	f.t.Helper()
	e := event.Event{
		ID: id, Source: "orders", Account: "acme", Type: "order.paid", Origin: event.Webhook, ContentType: "application/json",
		ReceivedAt: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC),
	}
	m := nats.NewMsg(e.RawSubject())
	m.Header, m.Data = e.Header(), []byte(`{"id":"`+id+`"}`)
	m.Header.Set(event.HeaderTraceParent, traceParent)
	if _, err := f.js.PublishMsg(f.t.Context(), m, jetstream.WithMsgID(e.MsgID())); err != nil {
		f.t.Fatal(err)
	}
	return e
}

// letters waits until n letters are stored and every advisory is answered.
func (f fixture) letters(n uint64) []deadletter.Letter {
	f.t.Helper()
	f.eventually(fmt.Sprint(n, " letters"), func() bool { return f.state(topology.StreamDLQ).Msgs >= n })
	f.settled()
	var got []deadletter.Letter
	for l, err := range deadletter.List(f.t.Context(), f.js, deadletter.Filter{}) {
		if err != nil {
			f.t.Fatal(err)
		}
		full, err := deadletter.Get(f.t.Context(), f.js, l.Sequence)
		if err != nil {
			f.t.Fatal(err)
		}
		got = append(got, full)
	}
	if uint64(len(got)) != n {
		f.t.Fatalf("%d letters, want %d", len(got), n)
	}
	return got
}

// settled waits until the collector has answered every advisory.
func (f fixture) settled() {
	f.t.Helper()
	f.eventually("all advisories answered", func() bool {
		last := f.state(topology.StreamAdvisories).LastSeq
		c, err := f.js.Consumer(f.t.Context(), topology.StreamAdvisories, "collect_dead_letters")
		return err == nil && c.CachedInfo().AckFloor.Stream == last && c.CachedInfo().NumPending == 0
	})
}

// check compares what every letter of a trigger must tell.
func check(t *testing.T, got deadletter.Letter, e event.Event) {
	t.Helper()
	if got.Event != e || string(got.Payload) != `{"id":"`+e.ID+`"}` || got.PayloadMissing {
		t.Errorf("original: %+v, payload %q, missing %t", got.Event, got.Payload, got.PayloadMissing)
	}
	if got.Stage != "enrich" || got.Name != "orders" || got.Subject != e.RawSubject() || got.MsgID != e.MsgID() ||
		got.Stream != topology.StreamRaw || got.OriginalSequence != 1 || got.StoredAt.IsZero() {
		t.Errorf("place: %+v", got)
	}
	r := got.Reason
	if r.FirstAt.IsZero() || r.LastAt.Before(r.FirstAt) || got.DeadAt.Before(r.FirstAt) || r.TraceID != traceID {
		t.Errorf("reason: %+v, dead at %s", r, got.DeadAt)
	}
}

// Promise 3: what a stage gives up becomes a letter with its whole context.
func TestGivenUpMessagesBecomeLetters(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err      error
		class    fault.Class
		attempts int
	}{
		"at once, being permanent":      {fault.Permanent(errors.New("order 7: no such record")), fault.Fatal, 1},
		"after the last of three tries": {errors.New("order 7: no such record"), fault.Exhausted, 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.stage(3, func(context.Context, consume.Message) error { return tt.err })
			e := f.trigger("evt_1")
			got := f.letters(1)[0]
			check(t, got, e)
			if r := got.Reason; r.Class != tt.class || r.Attempts != tt.attempts || r.Message != tt.err.Error() {
				t.Errorf("reason %+v", r)
			}
			if got.Kind != deadletter.Terminated {
				t.Errorf("kind %s", got.Kind)
			}
		})
	}
}

// Promise 3: a message whose workers die on each delivery becomes a letter.
func TestMessageOfDeadWorkersBecomesALetter(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	cfg := topology.EnrichConsumer("orders", topology.Delivery{AckWait: 200 * time.Millisecond, MaxAttempts: 1})
	cfg.MaxDeliver = 3 // the stage's own, beyond all waits, would take its time
	cons, err := f.js.CreateOrUpdateConsumer(ctx, topology.StreamRaw, cfg)
	if err != nil {
		t.Fatal(err)
	}
	e := f.trigger("evt_1")
	for attempt := range cfg.MaxDeliver {
		batch, err := cons.Fetch(1, jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if m := <-batch.Messages(); m == nil {
			t.Fatalf("attempt %d brought nothing: %v", attempt+1, batch.Error())
		}
	}
	// The server tells only while somebody asks for more.
	waiting, err := cons.Fetch(1, jetstream.FetchMaxWait(30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	got := f.letters(1)[0]
	check(t, got, e)
	if got.Kind != deadletter.MaxDeliver || got.Reason.Class != fault.Exhausted || got.Reason.Attempts != 3 {
		t.Errorf("kind %s, reason %+v", got.Kind, got.Reason)
	}
	select {
	case m := <-waiting.Messages():
		t.Errorf("delivered once more: %v", m)
	default:
	}
}

// Promise 4: a server that crashed tells twice.
func TestAdvisoryThatComesTwiceMakesOneLetter(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.stage(3, func(context.Context, consume.Message) error { return fault.Permanent(errors.New("broken")) })
	f.trigger("evt_1")
	f.letters(1)
	m, err := f.stream(topology.StreamAdvisories).GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.js.Publish(t.Context(), m.Subject, m.Data); err != nil {
		t.Fatal(err)
	}
	f.letters(1)
	if n := f.log.count("dead letter collected"); n != 1 {
		t.Errorf("told of %d letters, want 1", n)
	}
}

// A message that was removed before it could be kept makes a letter without
// payload, with the server's own word for what happened.
func TestOriginalThatIsGoneMakesALetterWithoutPayload(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]uint64{"the first": 1, "in the middle": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			cons, err := f.js.CreateOrUpdateConsumer(t.Context(), topology.StreamRaw,
				topology.EnrichConsumer("orders", topology.Delivery{AckWait: time.Minute, MaxAttempts: 3}))
			if err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				f.trigger(fmt.Sprint("evt_", i))
			}
			batch, err := cons.Fetch(3, jetstream.FetchMaxWait(5*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				<-batch.Messages()
			}
			if err := f.stream(topology.StreamRaw).DeleteMsg(t.Context(), remove); err != nil {
				t.Fatal(err)
			}
			got := f.letters(1)[0]
			if !got.PayloadMissing || len(got.Payload) > 0 || got.OriginalSequence != remove {
				t.Errorf("letter %+v", got)
			}
			if got.Reason.Message != "Unacknowledged message was deleted" || got.Kind != deadletter.Terminated {
				t.Errorf("reason %+v", got.Reason)
			}
			m, err := f.stream(topology.StreamDLQ).GetMsg(t.Context(), got.Sequence)
			if err != nil || m.Subject != "tercel.dlq.enrich.orders._.unknown" {
				t.Errorf("subject %s, %v", m.Subject, err)
			}
		})
	}
}

// Rubbish is given up without a letter, and what could be told of that, or of
// the collector's own consumer, begins no circle.
func TestRubbishMakesNoLetterAndNoCircle(t *testing.T) {
	t.Parallel()
	f := setup(t)
	forged := []string{
		"", "{}", "null", `{"type":"io.nats.jetstream.advisory.v1.terminated","stream":"TERCEL_RAW"}`,
		`{"type":"io.nats.jetstream.advisory.v1.terminated","stream":"TERCEL_ADVISORIES","consumer":"collect_dead_letters","stream_seq":1}`,
		`{"type":"io.nats.jetstream.advisory.v1.terminated","stream":"TERCEL_ENRICHED","consumer":"enrich_orders","stream_seq":1}`,
	}
	for _, data := range forged {
		subject := "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.TERCEL_RAW.enrich_orders"
		if _, err := f.js.Publish(t.Context(), subject, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	f.settled()
	if n := f.log.count("outcome=terminated"); n != 4 {
		t.Errorf("%d advisories were given up, want the 4 that name no message", n)
	}
	if got, want := f.state(topology.StreamAdvisories).LastSeq, uint64(len(forged)); got != want {
		t.Errorf("%d advisories, want %d", got, want)
	}
	if n := f.state(topology.StreamDLQ).Msgs; n != 0 {
		t.Errorf("%d letters, want none", n)
	}
}

// The consumers of other teams are left to them, which is said once.
func TestConsumersOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.trigger("evt_1")
	f.trigger("evt_2")
	cons, err := f.js.CreateOrUpdateConsumer(t.Context(), topology.StreamRaw, jetstream.ConsumerConfig{
		Durable: "analytics", AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := cons.Fetch(2, jetstream.FetchMaxWait(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for m := range batch.Messages() {
		if err := m.TermWithReason("not for us"); err != nil {
			t.Fatal(err)
		}
	}
	f.eventually("two advisories", func() bool { return f.state(topology.StreamAdvisories).LastSeq == 2 })
	f.settled()
	if n := f.state(topology.StreamDLQ).Msgs; n != 0 {
		t.Errorf("%d letters, want none", n)
	}
	if n := f.log.count("consumer=analytics"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
}

// Promise 5: the advisory waits until the letter is stored.
func TestAdvisoryWaitsForItsLetter(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if err := f.js.DeleteStream(t.Context(), topology.StreamDLQ); err != nil {
		t.Fatal(err)
	}
	f.stage(3, func(context.Context, consume.Message) error { return fault.Permanent(errors.New("broken")) })
	e := f.trigger("evt_1")
	f.eventually("a second attempt", func() bool { return f.log.count("attempt=2") > 0 })
	if err := topology.Ensure(t.Context(), f.js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	check(t, f.letters(1)[0], e)
}

// Promise 4: what a stage kept itself gets no second letter, however late its
// advisory is read; promise 3: what it only says it kept gets one.
func TestPromise3LettersOfTheStageItselfAreNotDoubled(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]bool{"kept": false, "kept, and lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			c := topology.DefaultConfig()
			c.DedupWindow = 100 * time.Millisecond // the stream knows nothing of repeats when the advisory comes
			if err := topology.Ensure(t.Context(), f.js, c); err != nil {
				t.Fatal(err)
			}
			cfg, durable := config(3), topology.EnrichDurable("orders")
			keep := func(ctx context.Context, m consume.Message, r consume.Reason) (uint64, error) {
				seq, err := deadletter.Keep(f.js, durable)(ctx, m, r)
				if lost {
					err = errors.Join(err, f.stream(topology.StreamDLQ).DeleteMsg(ctx, seq))
				}
				<-time.After(10 * c.DedupWindow)
				return seq, err
			}
			loop, err := consume.New(cfg, topology.StreamRaw, topology.EnrichConsumer("orders", cfg.Delivery()),
				consume.Each(func(context.Context, consume.Message) error { return fault.Permanent(errors.New("broken")) }),
				consume.Deps{JetStream: f.js, Log: slog.New(slog.DiscardHandler), Keep: keep})
			if err != nil {
				t.Fatal(err)
			}
			f.run(loop.Run)
			e := f.trigger("evt_1")
			f.eventually("the advisory", func() bool { return f.state(topology.StreamAdvisories).Msgs > 0 })
			check(t, f.letters(1)[0], e)
			if n := f.log.count("dead letter collected"); n != 1 {
				t.Errorf("told of %d letters, want one", n)
			}
		})
	}
}

func TestNewRefusesABadConfig(t *testing.T) {
	t.Parallel()
	_, err := collector.New(collector.Config{}, collector.Deps{JetStream: nil, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "workers") {
		t.Errorf("New() = %v, want an error that names workers", err)
	}
}

// What the server writes is read; whatever else comes is an error, never more.
func FuzzDecodeAdvisory(f *testing.F) {
	f.Add([]byte(`{"type":"io.nats.jetstream.advisory.v1.max_deliver","id":"a","timestamp":"2026-11-02T09:00:00.5Z",` +
		`"stream":"TERCEL_RAW","consumer":"enrich_orders","stream_seq":1,"deliveries":14,"domain":"x"}`))
	f.Add([]byte(`{"type":"io.nats.jetstream.advisory.v1.terminated","id":"a","timestamp":"2026-11-02T09:00:00Z","stream":"S",` +
		`"consumer":"c","consumer_seq":1,"stream_seq":9,"deliveries":1,"reason":"{\"class\":\"permanent\",\"message\":\"x\"}"}`))
	f.Add([]byte(`{"stream_seq":-1}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		stream, consumer, seq, reason, err := collector.DecodeAdvisory(data)
		if err != nil {
			if len(err.Error()) > 100 {
				t.Errorf("the error repeats the advisory: %v", err)
			}
			return
		}
		if stream == "" || consumer == "" || seq == 0 || reason.Message == "" || reason.Class == "" {
			t.Errorf("accepted %q as %s %s %d %+v", data, stream, consumer, seq, reason)
		}
	})
}
