package sink_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
)

// destinations are the place alone, under the name out.
func (p *place) destinations(t *testing.T) map[string]pipeline.Destination {
	t.Helper()
	return map[string]pipeline.Destination{"out": p.destination(t)}
}

// checkRows checks that exactly the events numbered 0 to n-1 are there.
func checkRows(t *testing.T, rows []row, n int) {
	t.Helper()
	seen := map[string]int{}
	for _, r := range rows {
		seen[r.EventID]++
	}
	for i := range n {
		if got := seen[fmt.Sprint("evt-", i)]; got != 1 {
			t.Errorf("event %d is there %d times", i, got)
		}
	}
	if len(rows) != n {
		t.Errorf("%d rows, want %d", len(rows), n)
	}
}

func deliversOnce(t *testing.T, k kind) {
	_, js := stream(t)
	p := k.place(t)
	dest := p.destination(t)
	dest.Subscribe = []string{"orders.>"}
	svc := start(t, js, quick(), map[string]pipeline.Destination{"out": dest})
	other := update("other", "1", 1, 1)
	other.Source = "refunds"
	publish(t, js, nil, append([]enriched{other}, numbered(0, 300)...)...)
	settled(t, js, "out")
	checkRows(t, k.events(t, p), 300)
	if err := svc.Healthy(t.Context()); err != nil {
		t.Errorf("Healthy() = %v", err)
	}
	svc.stop()
	if err := svc.Healthy(t.Context()); err == nil {
		t.Error("Healthy() = nil after the end")
	}
}

func absorbsRepeats(t *testing.T, k kind) {
	_, js := stream(t)
	p := k.place(t)
	events := numbered(0, 60)
	publish(t, js, nil, events...)
	publish(t, js, func(e enriched) string { return event.AgainID(e.MsgID(), event.Replay) }, events...)
	start(t, js, quick(), p.destinations(t))
	settled(t, js, "out")
	checkRows(t, k.events(t, p), 60)
	// All over again, as after the loss of the consumer's state.
	if err := js.DeleteConsumer(t.Context(), topology.StreamEnriched, topology.DeliverDurable("out")); err != nil {
		t.Fatal(err)
	}
	settled(t, js, "out")
	checkRows(t, k.events(t, p), 60)
}

// The test is the process that dies: it takes messages, writes them, and never
// acknowledges them.
func survivesCrashBeforeAck(t *testing.T, k kind) {
	_, js := stream(t)
	p := k.place(t)
	events := numbered(0, 50)
	publish(t, js, nil, events...)
	cfg := quick()
	consumer, err := js.CreateOrUpdateConsumer(t.Context(), topology.StreamEnriched,
		topology.DeliverConsumer("out", []string{"tercel.enriched.>"}, cfg.Delivery()))
	if err != nil {
		t.Fatal(err)
	}
	fetched, err := consumer.Fetch(30)
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for range fetched.Messages() {
		taken++
	}
	w := open(t, p)
	write(t, k, w, items(events[:taken]...), 0)
	if err := w.Close(); err != nil || taken != 30 {
		t.Fatalf("took %d messages, Close() = %v", taken, err)
	}
	start(t, js, cfg, p.destinations(t))
	settled(t, js, "out")
	checkRows(t, k.events(t, p), 50)
}

func waitsForDestination(t *testing.T, k kind) {
	_, js := stream(t)
	p := k.place(t)
	svc := start(t, js, quick(), p.destinations(t))
	publish(t, js, nil, numbered(0, 10)...)
	settled(t, js, "out")
	heal := p.breakIt(t)
	publish(t, js, nil, numbered(10, 400)...)
	eventually(t, "the service says that it is unwell", func() bool { return svc.Healthy(t.Context()) != nil })
	c, err := js.Consumer(t.Context(), topology.StreamEnriched, topology.DeliverDurable("out"))
	if err != nil {
		t.Fatal(err)
	}
	if floor := c.CachedInfo().AckFloor.Stream; floor != 10 {
		t.Errorf("messages up to %d are acknowledged, want 10", floor)
	}
	// The outage lasts longer than all attempts of one message would.
	outage := time.NewTimer(2 * time.Second)
	defer outage.Stop()
	<-outage.C
	heal()
	settled(t, js, "out")
	checkRows(t, k.events(t, p), 400)
	if err := svc.Healthy(t.Context()); err != nil {
		t.Errorf("Healthy() = %v after the outage", err)
	}
}

func restartsMidBatch(t *testing.T, k kind) {
	_, js := stream(t)
	p := k.place(t)
	const n = 600
	if err := open(t, p).Close(); err != nil {
		t.Fatal(err)
	}
	publish(t, js, nil, numbered(0, n)...)
	cfg := quick()
	cfg.Batch = 7
	rng := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		before := len(k.events(t, p))
		svc := start(t, js, cfg, p.destinations(t))
		eventually(t, "some more are written", func() bool {
			return len(k.events(t, p)) >= min(before+rng.IntN(60), n)
		})
		svc.stop() // finishes what it took
	}
	start(t, js, cfg, p.destinations(t))
	settled(t, js, "out")
	checkRows(t, k.events(t, p), n)
}

func isolatesPoison(t *testing.T, k kind) {
	_, js := stream(t)
	p := k.place(t)
	poison := map[string]func(m *nats.Msg){
		"no attributes":         func(m *nats.Msg) { m.Header = nats.Header{} },
		"a body that isn't one": func(m *nats.Msg) { m.Data = []byte(`{"trigger":`) },
		"a member twice":        func(m *nats.Msg) { m.Data = []byte(`{"trigger":1,"record":{},"record":{}}`) },
		"no trigger":            func(m *nats.Msg) { m.Data = []byte(`{}`) },
		"no record":             func(m *nats.Msg) { m.Data = []byte(`{"trigger":null,"record":null}`) },
		"no record id":          func(m *nats.Msg) { m.Header.Del(event.HeaderSubject) },
		"no time of observation": func(m *nats.Msg) {
			m.Header.Del(event.HeaderObservedAt)
		},
		"not UTF-8": func(m *nats.Msg) { m.Data = []byte("{\"trigger\":\"\xff\",\"record\":{}}") },
	}
	publish(t, js, nil, numbered(0, 20)...)
	for name, spoil := range poison {
		m := update("poison", name, 1, 1).message()
		spoil(m)
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, js, nil, numbered(20, 40)...)
	start(t, js, quick(), p.destinations(t))
	settled(t, js, "out")
	checkRows(t, k.events(t, p), 40)
	for range poison {
		reason := terminated(t, js)
		if reason.Class != fault.Fatal || reason.Attempts != 1 || !strings.Contains(reason.Message, "TERCEL_ENRICHED") {
			t.Errorf("terminated for %+v", reason)
		}
	}
}

// terminated takes the next advisory of a terminated message.
func terminated(t *testing.T, js jetstream.JetStream) consume.Reason {
	t.Helper()
	c, err := js.CreateOrUpdateConsumer(t.Context(), topology.StreamAdvisories, jetstream.ConsumerConfig{Durable: "test"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(10 * time.Second))
	if err != nil {
		t.Fatalf("no advisory: %v", err)
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	var advisory struct {
		Type   string `json:"type"`
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(m.Data(), &advisory); err != nil || !strings.HasSuffix(advisory.Type, ".terminated") {
		t.Fatalf("advisory %s: %v", m.Data(), err)
	}
	return consume.DecodeReason(advisory.Reason)
}

// What one destination can't take holds up no other.
func leavesOthersAtWork(t *testing.T, k kind) {
	_, js := stream(t)
	sick, healthy := k.place(t), sqlitePlace(t)
	if err := open(t, sick).Close(); err != nil {
		t.Fatal(err)
	}
	heal := sick.breakIt(t) // before the service ever opened it
	publish(t, js, nil, numbered(0, 500)...)
	svc := start(t, js, quick(), map[string]pipeline.Destination{"sick": sick.destination(t), "healthy": healthy.destination(t)})
	settled(t, js, "healthy")
	checkRows(t, healthy.rows(t), 500)
	err := svc.Healthy(t.Context())
	if err == nil || !strings.Contains(err.Error(), "destination sick") || strings.Contains(err.Error(), "destination healthy") {
		t.Errorf("Healthy() = %v, want only sick to be named", err)
	}
	heal()
	settled(t, js, "sick")
	checkRows(t, k.events(t, sick), 500)
}

// Two sinks share what is to be delivered, each event and its repeat at the same
// time, and when one of them ends the other goes on.
func takesSeveralSinks(t *testing.T, k kind) {
	_, js := stream(t)
	p := k.place(t)
	if err := open(t, p).Close(); err != nil { // else there is nothing yet to look into
		t.Fatal(err)
	}
	const n = 200
	for _, e := range numbered(0, n/2) {
		publish(t, js, nil, e)
		publish(t, js, func(e enriched) string { return event.AgainID(e.MsgID(), event.Replay) }, e)
	}
	cfg := quick()
	cfg.Batch = 7
	first := start(t, js, cfg, p.destinations(t))
	start(t, js, cfg, p.destinations(t))
	eventually(t, "some are written", func() bool { return len(k.events(t, p)) > 20 })
	first.stop()
	publish(t, js, nil, numbered(n/2, n)...)
	settled(t, js, "out")
	checkRows(t, k.events(t, p), n)
}
