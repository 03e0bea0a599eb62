package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// spanStore is an OTLP/HTTP receiver.
type spanStore struct {
	mu    sync.Mutex
	spans map[string][]*tracepb.Span // by trace id
}

func (s *spanStore) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
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
				s.spans[id] = append(s.spans[id], span)
			}
		}
	}
}

// find returns the span of that name in a trace, or nil.
func (s *spanStore) find(traceID, name string) *tracepb.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.spans[traceID] {
		if span.GetName() == name {
			return span
		}
	}
	return nil
}

// linked reports whether the span of that name has a link to one of another trace
// that is wanted.
func (s *spanStore) linked(traceID, name string, to func(*tracepb.Span) bool) bool {
	span := s.find(traceID, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, link := range span.GetLinks() {
		for _, other := range s.spans[hex.EncodeToString(link.GetTraceId())] {
			if bytes.Equal(other.GetSpanId(), link.GetSpanId()) && !bytes.Equal(other.GetTraceId(), span.GetTraceId()) && to(other) {
				return true
			}
		}
	}
	return false
}

func startSpanStore(t *testing.T) (s *spanStore, telemetry string) {
	s = &spanStore{spans: map[string][]*tracepb.Span{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return s, fmt.Sprintf(", otlp: %q", srv.URL)
}

// One trace leads from the webhook to the destination. Not in parallel: the
// process has one tracer.
func TestOneTraceFromWebhookToDestination(t *testing.T) {
	store, telemetry := startSpanStore(t)
	s := startShop(t)
	s.put("1", 1)
	p := startLive(t, s, liveOptions{telemetry: telemetry})
	id := p.send("d-1", `{"type":"order.paid","id":"1"}`)
	var w *adminv1.TraceEventResponse
	until(t, "the event is delivered", func() bool {
		w = p.trace(id)
		return w.GetStatus() == delivered
	})
	steps := w.GetSteps()
	if len(steps) < 2 || steps[0].GetTraceId() == "" || steps[0].GetTraceId() != steps[1].GetTraceId() {
		t.Fatalf("the stored messages carry different traces: %v", steps)
	}
	until(t, "the spans have arrived", func() bool {
		for _, name := range []string{"receive orders", "enrich orders", "deliver local"} {
			if store.find(steps[0].GetTraceId(), name) == nil {
				return false
			}
		}
		return true
	})
}

// What was replayed, and what reconciliation found, has a trace of its own that is
// linked to where it comes from; and what is logged of an event says its trace. Not
// in parallel: the process has one tracer.
func TestReplaysAndRepairsAreLinkedToWhatTheyComeFrom(t *testing.T) {
	store, telemetry := startSpanStore(t)
	s, log := startShop(t), &text{}
	s.put("1", 1)
	s.breakDown("1", true)
	p := startLive(t, s, liveOptions{telemetry: telemetry, log: log})
	id := p.send("d-dead", `{"type":"order.paid","id":"1"}`)
	until(t, "the event is a dead letter", func() bool {
		return strings.Contains(ok(t, "dlq", "list", "--api", p.ConsoleURL), "d-dead")
	})
	first := p.trace(id).GetSteps()[0].GetTraceId()
	logged := func(line string) bool {
		return strings.Contains(line, `"trace_id":"`+first+`"`) && strings.Contains(line, `"span_id":"`) && strings.Contains(line, `"event_id":"`+id+`"`)
	}
	if !slices.ContainsFunc(strings.Split(log.String(), "\n"), logged) {
		t.Errorf("no line says that event %s of trace %s failed:\n%s", id, first, log)
	}

	s.breakDown("1", false)
	ok(t, "dlq", "replay", "1", "--api", p.ConsoleURL)
	s.put("2", 1) // no webhook tells of it
	ok(t, "reconcile", "run", "orders", "order", "--api", p.ConsoleURL)
	traces := map[string]string{} // of what was sent in again, by origin
	js, err := jetstream.New(p.Conn, natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range consume.Scan(t.Context(), js, consume.ScanOptions{Stream: topology.StreamRaw}) {
		if err != nil {
			t.Fatal(err)
		}
		traces[m.Header.Get(event.HeaderOrigin)] = trace.SpanContextFromContext(event.ExtractTrace(t.Context(), m.Header)).TraceID().String()
	}
	until(t, "the replay's trace leads to the destination, and to the first one", func() bool {
		return store.find(traces["replay"], "deliver local") != nil && store.linked(traces["replay"], "replay", func(to *tracepb.Span) bool {
			return hex.EncodeToString(to.GetTraceId()) == first
		})
	})
	until(t, "the repair's trace leads to the destination, and to the run", func() bool {
		return store.find(traces["reconcile"], "deliver local") != nil && store.linked(traces["reconcile"], "repair", func(to *tracepb.Span) bool {
			return to.GetName() == "reconcile orders order"
		})
	})
}

// Promise 8: that a trigger was dropped on purpose can be seen.
func TestPromise8TraceShowsWhatWasDropped(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	p := startLive(t, s, liveOptions{source: "    drop: .trigger.test == true\n"})
	id := p.send("d-1", `{"type":"order.paid","id":"1","test":true}`)
	var w *adminv1.TraceEventResponse
	until(t, "the event is dropped", func() bool {
		w = p.trace(id)
		return w.GetStatus() == dropped
	})
	last := w.GetSteps()[len(w.GetSteps())-1]
	if last.GetStage() != "enrich" || last.GetText() != "dropped: the pipeline file says so at sources.orders.drop" || last.GetPosition().GetStream() != topology.StreamRaw {
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
	want := `delivered, unless its subscribe left it out then, or its when does: .event.type == "order.paid"`
	until(t, "the event is done with", func() bool {
		w := p.trace(id)
		return w.GetStatus() == delivered && slices.ContainsFunc(w.GetSteps(), func(s *adminv1.TimelineStep) bool {
			return s.GetStage() == "deliver" && s.GetName() == "picky" && s.GetText() == want
		})
	})
}

// Promise 8: a delivery that took several tries says so, and why.
func TestPromise8TraceShowsTheTriesOfADelivery(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusTooEarly)
		}
	}))
	t.Cleanup(receiver.Close)
	s := startShop(t)
	s.put("1", 1)
	p := startLive(t, s, liveOptions{
		more: fmt.Sprintf("sink: {retry_min: 50ms, retry_max: 100ms}\ndestinations:\n  crm: {http: {url: %q, secrets: [\"file:DIR/signing\"], allow_private: true}}\n", receiver.URL),
		before: func(dir string) {
			writeFile(t, filepath.Join(dir, "signing"), "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 24)))
		},
	})
	id := p.send("d-1", `{"type":"order.paid","id":"1"}`)
	var w *adminv1.TraceEventResponse
	until(t, "both tries are told", func() bool {
		w = p.trace(id)
		steps := w.GetSteps()
		return len(steps) > 0 && steps[len(steps)-1].GetKind() == "delivered" && steps[len(steps)-1].GetAttempt() == 2 && w.GetStatus() == delivered
	})
	if !slices.ContainsFunc(w.GetSteps(), func(s *adminv1.TimelineStep) bool {
		return s.GetKind() == "attempted" && s.GetStage() == "deliver" && s.GetName() == "crm" && strings.Contains(s.GetText(), "425")
	}) {
		t.Errorf("it is told as %v; want the try that failed", w.GetSteps())
	}
}
