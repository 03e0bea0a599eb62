package main

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// spanStore is an OTLP/HTTP receiver.
type spanStore struct {
	mu    sync.Mutex
	names map[string]map[string]bool // trace id -> span names
}

func (s *spanStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var req collector.ExportTraceServiceRequest
	if r.URL.Path != "/v1/traces" || err != nil || proto.Unmarshal(body, &req) != nil {
		return // metrics
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				id := hex.EncodeToString(span.GetTraceId())
				if s.names[id] == nil {
					s.names[id] = map[string]bool{}
				}
				s.names[id][span.GetName()] = true
			}
		}
	}
}

// One trace leads from the webhook to the destination. Not in parallel: the
// process has one tracer.
func TestOneTraceFromWebhookToDestination(t *testing.T) {
	store := &spanStore{names: map[string]map[string]bool{}}
	srv := httptest.NewServer(store)
	t.Cleanup(srv.Close)
	s := startShop(t)
	s.put("1", 1)
	p := startLive(t, s, liveOptions{telemetry: `, otlp: "` + srv.URL + `"`})
	id := p.send("d-1", `{"type":"order.paid","id":"1"}`)
	var w way
	until(t, "the event is delivered", func() bool {
		w = decode[way](t, "event", "trace", id, "--data", p.data)
		return w.State == "done"
	})
	if len(w.Steps) < 2 || w.Steps[0].TraceID == "" || w.Steps[0].TraceID != w.Steps[1].TraceID {
		t.Fatalf("the stored messages carry different traces: %+v", w.Steps)
	}
	until(t, "the spans have arrived", func() bool {
		store.mu.Lock()
		defer store.mu.Unlock()
		names := store.names[w.Steps[0].TraceID]
		return names["receive orders"] && names["enrich orders"] && names["deliver local"]
	})
}

func TestTraceSaysUntilWhenAStageIsPaused(t *testing.T) {
	t.Parallel()
	if got := paused(&jetstream.ConsumerInfo{Paused: true, PauseRemaining: time.Hour}); !strings.HasPrefix(got, ", paused until 20") {
		t.Errorf("paused() = %q, want a time", got)
	}
	if got := paused(&jetstream.ConsumerInfo{}); got != "" {
		t.Errorf("paused() of a running stage = %q, want nothing", got)
	}
}

// What a stage gave up is not done, and above all not delivered, while nobody
// has made a dead letter of it: the reconciler may be away.
func TestPromise3TraceShowsWhatWasGivenUpWithoutADeadLetter(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	delivery := topology.Delivery{AckWait: time.Minute, MaxAttempts: 3}
	e := event.Event{ID: "evt-1", Source: "orders", Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook, ReceivedAt: time.Now()}
	giveUp := func(stream, subject string, cfg jetstream.ConsumerConfig) {
		m := nats.NewMsg(subject)
		m.Header = e.Header()
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		cons, err := js.CreateOrUpdateConsumer(t.Context(), stream, cfg)
		if err != nil {
			t.Fatal(err)
		}
		taken, err := cons.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if err := taken.TermWithReason("no use"); err != nil {
			t.Fatal(err)
		}
	}
	var w way
	shown := func(stage string) bool {
		tr := tracer{js: js, id: e.ID, source: "*"}
		var err error
		if w, err = tr.trace(t.Context()); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(w.Steps, func(s step) bool { return s.Stage == stage && strings.Contains(s.What, "given up") })
	}
	giveUp(topology.StreamRaw, e.RawSubject(), topology.EnrichConsumer("orders", delivery))
	until(t, "the trigger is shown as given up", func() bool { return shown("enrich orders") })
	giveUp(topology.StreamEnriched, e.EnrichedSubject(), topology.DeliverConsumer("local", []string{"tercel.enriched.>"}, delivery))
	until(t, "the event is shown as given up", func() bool { return shown("deliver local") })
	if w.State != "under way" {
		t.Errorf("the event is called %s, want under way: %+v", w.State, w.Steps)
	}
}

// Promise 8: that a trigger was dropped on purpose can be seen.
func TestPromise8TraceShowsWhatWasDropped(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	p := startLive(t, s, liveOptions{source: "    drop: .trigger.test == true\n"})
	id := p.send("d-1", `{"type":"order.paid","id":"1","test":true}`)
	var w way
	until(t, "the event is dropped", func() bool {
		w = decode[way](t, "event", "trace", id, "--data", p.data)
		return w.State == "dropped"
	})
	last := w.Steps[len(w.Steps)-1]
	if last.Stage != "enrich" || last.What != "dropped: the pipeline file says so at sources.orders.drop" || last.Stream != topology.StreamRaw {
		t.Errorf("last step %+v, want one that says where it was dropped", last)
	}
}

// Promise 8: who chooses events isn't said to have got each that it was done with.
func TestPromise8TraceShowsWhoChoosesEvents(t *testing.T) {
	t.Parallel()
	p := startLive(t, startShop(t), liveOptions{more: `destinations:
  picky: {files: {dir: DIR/picky}, when: .event.type == "order.paid"}
`})
	id := p.send("d-1", `{"type":"ping"}`)
	want := `delivered, unless its when leaves it out: .event.type == "order.paid"`
	until(t, "the event is done with", func() bool {
		w := decode[way](t, "event", "trace", id, "--data", p.data)
		return w.State == "done" && slices.ContainsFunc(w.Steps, func(s step) bool { return s.Stage == "deliver picky" && s.What == want })
	})
}
