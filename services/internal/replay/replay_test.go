package replay_test

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

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/replay"
)

// pipe is a pipeline of an enricher and two destinations, which are stage loops
// as in the services, and fail when they are told to.
type pipe struct {
	*testing.T
	js jetstream.JetStream
	// sick are the stages that fail for good; took what destinations have taken.
	sick sync.Map
	mu   sync.Mutex
	took map[string][]string
	once atomic.Int64 // lets so many messages through a sick stage
}

func setup(t *testing.T) *pipe {
	t.Helper()
	p := &pipe{T: t, js: natstest.Run(t), took: map[string][]string{}}
	if err := topology.Ensure(t.Context(), p.js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	cfg := consume.DefaultConfig()
	cfg.MaxAttempts, cfg.RetryMin, cfg.RetryMax = 2, time.Millisecond, time.Millisecond
	p.stage(cfg, topology.StreamRaw, topology.EnrichConsumer("orders", cfg.Delivery()), p.enrich)
	for _, name := range []string{"crm", "lake"} {
		p.stage(cfg, topology.StreamEnriched, topology.DeliverConsumer(name, []string{"tercel.enriched.orders.>"}, cfg.Delivery()),
			func(_ context.Context, m consume.Message) error { return p.deliver(name, m) })
	}
	return p
}

func (p *pipe) stage(cfg consume.Config, stream string, c jetstream.ConsumerConfig, f func(context.Context, consume.Message) error) {
	p.Helper()
	loop, err := consume.New(cfg, stream, c, consume.Each(f), consume.Deps{
		JetStream: p.js, Log: slog.New(slog.DiscardHandler), Keep: deadletter.Keep(p.js, c.Durable),
	})
	if err != nil {
		p.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = loop.Run(ctx) })
	p.Cleanup(func() { stop(); running.Wait() })
}

func (p *pipe) enrich(ctx context.Context, m consume.Message) error {
	e, err := event.FromHeader(m.Header)
	if err != nil {
		return fault.Permanent(err)
	}
	if _, sick := p.sick.Load("enrich"); sick {
		return fault.Permanent(fmt.Errorf("get order %s: 404 Not Found", e.ID))
	}
	if e.Type == "order.unwanted" {
		return nil
	}
	msg := nats.NewMsg(e.EnrichedSubject())
	msg.Header, msg.Data = e.Header(), []byte(`{"record":{"id":"7"}}`)
	_, err = p.js.PublishMsg(ctx, msg, jetstream.WithMsgID(m.Header.Get(jetstream.MsgIDHeader)))
	return err
}

func (p *pipe) deliver(name string, m consume.Message) error {
	e, err := event.FromHeader(m.Header)
	if err != nil || !e.For(name) {
		return err
	}
	if _, sick := p.sick.Load(name); sick && p.once.Add(-1) < 0 {
		return fault.Permanent(errors.New("column 17 is missing"))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took[name] = append(p.took[name], e.ID)
	return nil
}

// got is what a destination has taken, in order of ids.
func (p *pipe) got(name string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(slices.Values(p.took[name]))
}

// send stores n triggers and waits until each is delivered to lake or a letter.
// send sends triggers, for those destinations alone if there are any.
func (p *pipe) send(n int, typ string, only ...string) {
	p.Helper()
	for i := range n {
		e := event.Event{
			ID: fmt.Sprintf("%s-%03d", typ, i), Source: "orders", Account: event.NoAccount, Type: typ, Origin: event.Webhook,
			ContentType: "application/json", ReceivedAt: time.Now(),
		}
		m := nats.NewMsg(e.RawSubject())
		m.Header, m.Data = e.Header(), []byte("{}")
		if len(only) > 0 {
			m.Header.Set(event.HeaderDestinations, strings.Join(only, ","))
		}
		if _, err := p.js.PublishMsg(p.Context(), m, jetstream.WithMsgID(e.MsgID())); err != nil {
			p.Fatal(err)
		}
	}
}

func (p *pipe) until(what string, ok func() bool) {
	p.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			p.Fatalf("not within a minute: %s", what)
		}
	}
}

func (p *pipe) letters(f deadletter.Filter) (n int) {
	p.Helper()
	for _, err := range deadletter.List(p.Context(), p.js, f) {
		if err != nil {
			p.Fatal(err)
		}
		n++
	}
	return n
}

var open = deadletter.Filter{States: []deadletter.State{deadletter.StateOpen}}

func (p *pipe) plan(c replay.Choice) replay.Plan {
	p.Helper()
	plan, err := replay.Make(p.Context(), p.js, c)
	if err != nil {
		p.Fatal(err)
	}
	return plan
}

func (p *pipe) run(ctx context.Context, j replay.Job) (replay.Progress, []replay.Failure) {
	p.Helper()
	var failures []replay.Failure
	told := 0
	got, err := replay.Run(ctx, p.js, j, func(replay.Progress) { told++ }, func(f replay.Failure) { failures = append(failures, f) })
	if err != nil {
		p.Fatal(err)
	}
	if told < 2 || !got.Done {
		p.Errorf("told %d times, done %t; want at the start and at the end", told, got.Done)
	}
	return got, failures
}

func (p *pipe) job(s []uint64) replay.Job {
	return replay.Job{Sequences: s, Send: replay.Letters(p.js, deadletter.ReplayOptions{}), Rate: 10_000, MaxFailures: 10, Watch: time.Minute}
}

// One destination was down: what it lacks is planned, tried with one, and sent
// again to it alone.
func TestADestinationThatWasDownGetsWhatItLacks(t *testing.T) {
	t.Parallel()
	p := setup(t)
	p.sick.Store("crm", true)
	p.send(60, "order.paid")
	p.until("all are letters", func() bool { return p.letters(open) == 60 && len(p.got("lake")) == 60 })
	choice := replay.Choice{Filter: open}
	plan := p.plan(choice)
	if len(plan.Sequences) != 60 || plan.Before != 0 || plan.Missing != 0 || plan.Oldest.After(plan.Newest) || plan.Oldest.IsZero() {
		t.Errorf("plan %+v", plan)
	}
	if want := []replay.Destination{{Name: "crm", Count: 60}}; !slices.Equal(plan.Destinations, want) {
		t.Errorf("it reaches %+v, want %+v", plan.Destinations, want)
	}
	if n := p.letters(open); n != 60 || len(p.got("crm")) != 0 {
		t.Fatal("a plan did something")
	}
	p.sick.Delete("crm")
	if got, _ := p.run(t.Context(), p.job(plan.Sequences[:1])); got.Replayed != 1 || got.Delivered != 1 || got.DeadAgain != 0 || got.Stopped != "" {
		t.Errorf("a dry run on one: %+v", got)
	}
	got, failures := p.run(t.Context(), p.job(plan.Sequences))
	if got.Planned != 60 || got.Replayed != 59 || got.Skipped != 1 || got.Delivered != 59 || got.DeadAgain != 0 || len(failures) != 1 {
		t.Errorf("%+v with failures %v, want 59 delivered and the one skipped", got, failures)
	}
	if !errors.Is(failures[0].Err, deadletter.ErrReplayed) {
		t.Errorf("skipped for %v, want that it was replayed before", failures[0].Err)
	}
	if n := len(p.got("crm")); n != 60 || len(p.got("lake")) != 60 {
		t.Errorf("crm has %d, lake %d events; want 60 each", n, len(p.got("lake")))
	}
	again := p.plan(replay.Choice{Filter: deadletter.Filter{}})
	if len(again.Sequences) != 0 || again.Before != 60 {
		t.Errorf("a second plan has %d, %d before; want 0 and 60", len(again.Sequences), again.Before)
	}
}

// What was for one destination alone is planned for that one.
func TestAPlanNamesThoseThatAMessageIsFor(t *testing.T) {
	t.Parallel()
	p := setup(t)
	p.sick.Store("enrich", true)
	p.send(1, "order.paid", "crm")
	p.until("it is a letter", func() bool { return p.letters(open) == 1 })
	if got, want := p.plan(replay.Choice{Filter: open}).Destinations, []replay.Destination{{Name: "crm", Count: 1}}; !slices.Equal(got, want) {
		t.Errorf("it reaches %+v, want %+v", got, want)
	}
}

// A cause that isn't mended stops the replay, and the rest stays as it was.
func TestAReplayStopsWhenErrorsComeBack(t *testing.T) {
	t.Parallel()
	p := setup(t)
	p.sick.Store("crm", true)
	p.send(200, "order.paid")
	p.until("all are letters", func() bool { return p.letters(open) == 200 })
	plan := p.plan(replay.Choice{Filter: open})
	p.once.Store(3)
	j := p.job(plan.Sequences)
	j.Rate, j.MaxFailures = 100, 5
	got, _ := p.run(t.Context(), j)
	if got.DeadAgain < 5 || got.Replayed == 200 || !strings.Contains(got.Stopped, "have failed") || got.Delivered != 3 {
		t.Errorf("%+v, want it stopped after 5 dead letters, with 3 delivered", got)
	}
	if left := p.plan(replay.Choice{Filter: open}); len(left.Sequences) != 200-got.Replayed+got.DeadAgain {
		t.Errorf("%d letters are open, want %d untouched and %d new ones", len(left.Sequences), 200-got.Replayed, got.DeadAgain)
	}
}

// A trigger that is enriched at last is delivered once every destination has it;
// one that nobody wants is done too.
func TestTriggersAreFollowedToTheirDestinations(t *testing.T) {
	t.Parallel()
	p := setup(t)
	p.sick.Store("enrich", true)
	p.send(10, "order.paid")
	p.send(5, "order.unwanted")
	p.until("all are letters", func() bool { return p.letters(open) == 15 })
	plan := p.plan(replay.Choice{Filter: open})
	if want := []replay.Destination{{"crm", 15}, {"lake", 15}}; !slices.Equal(plan.Destinations, want) {
		t.Errorf("it reaches %+v, want %+v", plan.Destinations, want)
	}
	p.sick.Delete("enrich")
	if got, _ := p.run(t.Context(), p.job(plan.Sequences)); got.Delivered != 10 || got.Filtered != 5 || got.DeadAgain != 0 {
		t.Errorf("%+v, want 10 delivered and the 5 that nobody wants filtered", got)
	}
	if len(p.got("crm")) != 10 || len(p.got("lake")) != 10 {
		t.Errorf("crm %v, lake %v; want 10 each before it is called delivered", p.got("crm"), p.got("lake"))
	}
}

func TestAReplayThatIsCalledOffSendsNothingMore(t *testing.T) {
	t.Parallel()
	p := setup(t)
	p.sick.Store("crm", true)
	p.send(50, "order.paid")
	p.until("all are letters", func() bool { return p.letters(open) == 50 })
	p.sick.Delete("crm")
	j := p.job(p.plan(replay.Choice{Filter: open}).Sequences)
	j.Rate = 20
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got, err := replay.Run(ctx, p.js, j, func(pr replay.Progress) {
		if pr.Replayed >= 3 {
			cancel()
		}
	}, func(replay.Failure) {})
	if err != nil || got.Replayed < 3 || got.Replayed >= 50 || !got.Done || got.Stopped != "it was called off" {
		t.Errorf("%+v, %v", got, err)
	}
	if n := p.letters(open); n != 50-got.Replayed {
		t.Errorf("%d letters are open, want %d: each that was sent is marked", n, 50-got.Replayed)
	}
}

// What can't be sent is told, and the others are sent nevertheless.
func TestLettersThatCantBeSent(t *testing.T) {
	t.Parallel()
	p := setup(t)
	p.sick.Store("enrich", true)
	p.send(3, "order.paid")
	p.until("all are letters", func() bool { return p.letters(open) == 3 })
	p.sick.Delete("enrich")
	gone := deadletter.Letter{OriginalSequence: 50, PayloadMissing: true, Stream: topology.StreamRaw, Consumer: topology.EnrichDurable("orders")}
	if _, err := deadletter.Publish(t.Context(), p.js, gone); err != nil {
		t.Fatal(err)
	}
	plan := p.plan(replay.Choice{Filter: open})
	if len(plan.Sequences) != 3 || plan.Missing != 1 {
		t.Errorf("plan %+v, want one that is missing", plan)
	}
	got, failures := p.run(t.Context(), p.job(append(plan.Sequences, 4, 99)))
	if got.Replayed != 3 || got.Failed != 1 || got.Skipped != 1 || got.Delivered != 3 || len(failures) != 2 {
		t.Errorf("%+v, %v; want one that failed and one that isn't there", got, failures)
	}
}
