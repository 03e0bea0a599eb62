package main

import (
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

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
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
		store.mu.Lock()
		defer store.mu.Unlock()
		names := store.names[steps[0].GetTraceId()]
		return names["receive orders"] && names["enrich orders"] && names["deliver local"]
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
	want := `delivered, unless its when leaves it out: .event.type == "order.paid"`
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
		return len(steps) > 0 && steps[len(steps)-1].GetKind() == "delivered" && steps[len(steps)-1].GetAttempt() == 2
	})
	if w.GetStatus() != delivered || !slices.ContainsFunc(w.GetSteps(), func(s *adminv1.TimelineStep) bool {
		return s.GetKind() == "attempted" && s.GetStage() == "deliver" && s.GetName() == "crm" && strings.Contains(s.GetText(), "425")
	}) {
		t.Errorf("it is %s, told as %v; want the try that failed", w.GetStatus(), w.GetSteps())
	}
}
