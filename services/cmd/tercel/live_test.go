package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/tercelhq/tercel/pkg/pipeline"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// shop is a source with an API, whose orders can be broken.
type shop struct {
	srv *httptest.Server

	mu     sync.Mutex
	orders map[string]string // id -> JSON
	broken map[string]bool
	asked  http.Header // of the last request
}

func startShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{orders: map[string]string{}, broken: map[string]bool{}}
	s.srv = httptest.NewServer(s)
	t.Cleanup(s.srv.Close)
	return s
}

func (s *shop) put(id string, version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now().UTC().Add(-time.Minute).Format(time.RFC3339Nano)
	s.orders[id] = fmt.Sprintf(`{"id":%q,"version":%d,"updated_at":%q}`, id, version, at)
}

// remove deletes orders without telling anybody.
func (s *shop) remove(ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.orders, id)
	}
}

// putRaw makes any text the answer to a request for one order.
func (s *shop) putRaw(id, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders[id] = text
}

func (s *shop) breakDown(id string, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken[id] = broken
}

// lastAsked is the header of the last request.
func (s *shop) lastAsked() http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, one := strings.CutPrefix(r.URL.Path, "/orders/")
	s.asked = r.Header
	switch {
	case one && s.broken[id]: // some APIs answer with what they were sent
		http.Error(w, fmt.Sprint("broken: ", r.Header), http.StatusUnprocessableEntity)
	case one && s.orders[id] == "":
		http.NotFound(w, r)
	case one:
		_, _ = io.WriteString(w, s.orders[id])
	case s.broken["list"]:
		http.Error(w, fmt.Sprint("broken: ", r.Header), http.StatusUnprocessableEntity)
	default:
		all := []string{}
		for _, o := range s.orders {
			all = append(all, o)
		}
		fmt.Fprintf(w, `{"orders":[%s]}`, strings.Join(all, ","))
	}
}

// livePipeline is a whole pipeline in this process, as tercel up runs it.
type livePipeline struct {
	t      *testing.T
	config string
	data   string
	source *pipeline.File
	running
}

// liveOptions are what a test wants to be otherwise.
type liveOptions struct {
	reconciler string           // more keys of the section
	api        string           // more keys of the source's api
	accounts   bool             // the source's are in a bucket
	telemetry  string           // more keys of telemetry
	source     string           // more keys of the source, each a line with its indent
	reconcile  string           // more keys of the resource's reconcile
	more       string           // more sections of the file; DIR stands for its folder
	log        io.Writer        // also takes the log, at the level debug
	before     func(dir string) // what else the file's folder needs
}

const liveSecret = "a webhook secret of enough length"

func startLive(t *testing.T, shop *shop, o liveOptions) *livePipeline {
	t.Helper()
	dir := t.TempDir()
	p := &livePipeline{t: t, config: filepath.Join(dir, "tercel.yaml"), data: filepath.Join(dir, "data")}
	secret, accounts := filepath.Join(dir, "secret"), ""
	if o.accounts {
		accounts = fmt.Sprintf("    accounts: {bucket: tercel_accounts}\nseal_keys: [\"file:%s\"]\n", secret)
	}
	text := fmt.Sprintf(`
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: ["file:%s"]
    event: {id: header.X-Delivery, type: body.type}
    api: {base: %q, allow_private: true%s}
    resources:
      order:
        triggers: [order.*]
        id: body.id
        get: /orders/{id}
        version: record.version
        reconcile: {list: /orders, items: orders, every: 1h, settle: 1s, time: record.updated_at%s}
%s%singress: {listen: "127.0.0.1:0", drain_grace: 0s}
enricher: {retry_min: 50ms, retry_max: 200ms}
reconciler: {catch_up: 5s%s}
telemetry: {listen: "127.0.0.1:0"%s}
console: {listen: "127.0.0.1:0"}
%s`, secret, shop.srv.URL, o.api, o.reconcile, o.source, accounts, o.reconciler, o.telemetry, strings.ReplaceAll(o.more, "DIR", dir))
	for path, content := range map[string]string{secret: liveSecret, p.config: text} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if o.before != nil {
		o.before(dir)
	}
	var err error
	if p.source, err = pipeline.Load(p.config); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(t.Output(), nil))
	if o.log != nil {
		log = boot.NewLogger(io.MultiWriter(t.Output(), o.log), "debug")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan running, 1), make(chan error, 1)
	go func() {
		ended <- runAll(ctx, p.source, allOptions{
			DataDir: p.data, NATSListen: "127.0.0.1:0", Log: log,
			Ready: func(r running) { ready <- r },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the pipeline ended with %v", err)
		}
	})
	select {
	case r := <-ready:
		p.running = r
	case err := <-ended:
		ended <- err
		t.Fatalf("the pipeline did not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the pipeline did not start within a minute")
	}
	return p
}

// request is a signed webhook.
func (p *livePipeline) request(delivery, body string) *http.Request {
	p.t.Helper()
	src := p.source.Sources["orders"]
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.IngressURL+"/v1/orders", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header = src.Verifier().Sign(src.Keys()[0], []byte(body), "", time.Now())
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Delivery", delivery)
	return req
}

// send sends a webhook and returns the event's id.
func (p *livePipeline) send(delivery, body string) string {
	p.t.Helper()
	resp, err := http.DefaultClient.Do(p.request(delivery, body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		ID string `json:"id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		p.t.Fatalf("webhook %s: %s, %v", delivery, resp.Status, err)
	}
	return answer.ID
}

// States of events.
const (
	pending    = adminv1.EventStatus_EVENT_STATUS_PENDING
	delivered  = adminv1.EventStatus_EVENT_STATUS_DELIVERED
	deadLetter = adminv1.EventStatus_EVENT_STATUS_DEAD_LETTER
	dropped    = adminv1.EventStatus_EVENT_STATUS_DROPPED
	refused    = adminv1.EventStatus_EVENT_STATUS_REFUSED
)

// trace is the way of an event, which is empty while nothing is known of it.
func (p *livePipeline) trace(id string) *adminv1.TraceEventResponse {
	p.t.Helper()
	w := &adminv1.TraceEventResponse{}
	if o := tercel(p.t, "", "event", "trace", id, "--json", "--api", p.ConsoleURL); o.code == boot.OK {
		decodeMessage(p.t, o.out, w)
	}
	return w
}

// status is what became of an event.
func (p *livePipeline) status(id string) adminv1.EventStatus {
	p.t.Helper()
	return p.trace(id).GetStatus()
}

// decodeMessage reads what a command printed with --json.
func decodeMessage(t *testing.T, text string, m proto.Message) {
	t.Helper()
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatalf("no %s: %v\n%s", m.ProtoReflect().Descriptor().Name(), err, text)
	}
}

// told runs a command with --json that prints one message.
func told[M proto.Message](t *testing.T, m M, args ...string) M {
	t.Helper()
	decodeMessage(t, ok(t, append(args, "--json")...), m)
	return m
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
