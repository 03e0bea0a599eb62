package enricher_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/enricher"
)

func TestMain(m *testing.M) {
	otel.SetTextMapPropagator(propagation.TraceContext{})
	os.Exit(m.Run())
}

// fixture is an enricher over a real server and a source API of the test's own.
type fixture struct {
	t      *testing.T
	server *natstest.Server
	nc     *nats.Conn
	js     jetstream.JetStream
	api    *httptest.Server
	cfg    enricher.Config
	// accounts are those of the sources, where the test has some.
	accounts *account.Set
	// now is the enricher's clock, where the test sets it.
	now func() time.Time

	mu   sync.Mutex // guards seen
	seen []string   // paths asked for, in order
}

// oneSource is a pipeline file with one source, whose API is at %s.
const oneSource = `
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, encoding: hex, signed: "{body}"}
    secrets: [env:SECRET]
    event: {id: body.id, type: body.kind}
    api: {base: "%s", allow_private: true, timeout: 5s}
    resources:
      order:
        triggers: [order.*]
        id: body.order.id
        get: /orders/{id}
        record: data
        related: {customer: "/customers/{record.customer_id}", notes: {get: "/orders/{id}/notes", optional: true}}
        version: record.version
      batch:
        triggers: [batch.*]
        id: body.orders[].id
        get: /plain/{id}
        version: record.version
`

// setup starts the server and the API; start starts the enricher.
func setup(t *testing.T, file string, api http.HandlerFunc) *fixture {
	t.Helper()
	f := &fixture{t: t, server: natstest.Start(t, false)}
	f.nc = f.server.Connect()
	var err error
	if f.js, err = jetstream.New(f.nc, natstest.Patient()); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), f.js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	f.api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.seen = append(f.seen, r.URL.EscapedPath())
		f.mu.Unlock()
		api(w, r)
	}))
	t.Cleanup(f.api.Close)
	pipe, err := pipeline.Decode("tercel.yaml", []byte(strings.ReplaceAll(file, "%s", f.api.URL)),
		config.WithLookupEnv(func(string) (string, bool) { return "a secret of enough length", true }))
	if err != nil {
		t.Fatal(err)
	}
	f.cfg = enricher.Config{
		Config: consume.Config{
			Workers: 4, Batch: 1, AckWait: 5 * time.Second, Timeout: 10 * time.Second, MaxAttempts: 3,
			RetryMin: 20 * time.Millisecond, RetryMax: 100 * time.Millisecond,
		},
		Sources: pipe.Sources, Streams: pipe.Streams,
	}
	return f
}

// start runs an enricher until the returned function, which waits for its
// end, or the test's end.
func (f *fixture) start() (stop func()) {
	f.t.Helper()
	s, err := enricher.New(f.cfg, enricher.Deps{
		Conn: f.nc, Log: slog.New(slog.NewTextHandler(f.t.Output(), nil)), Accounts: f.accounts, Now: f.now,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Run(ctx); err != nil {
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
	f.eventually("the service is healthy", func() bool { return s.Healthy(f.t.Context()) == nil })
	return stop
}

// eventually waits until cond holds.
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

func (f *fixture) asked(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, p := range f.seen {
		if p == path {
			n++
		}
	}
	return n
}

func trigger(typ, id string) event.Event {
	return event.Event{
		ID: id, Source: "orders", Account: event.NoAccount, Type: typ, Origin: event.Webhook,
		ContentType: "application/json", ReceivedAt: time.Now(),
	}
}

// send publishes a trigger as the ingress does and returns its sequence.
func (f *fixture) send(e event.Event, body string) uint64 {
	f.t.Helper()
	m := nats.NewMsg(e.RawSubject())
	m.Header = e.Header()
	m.Header.Set(jetstream.MsgIDHeader, e.MsgID())
	m.Header.Set(event.HeaderTraceParent, traceParent)
	m.Data = []byte(body)
	ack, err := f.js.PublishMsg(f.t.Context(), m)
	if err != nil {
		f.t.Fatal(err)
	}
	return ack.Sequence
}

const traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// settled waits until every trigger of a source has its answer.
func (f *fixture) settled(source string) {
	f.t.Helper()
	stream, err := f.js.Stream(f.t.Context(), topology.StreamRaw)
	if err != nil {
		f.t.Fatal(err)
	}
	f.eventually("every trigger of "+source+" has its answer", func() bool {
		i := f.consumer(source)
		// The server counts what is pending a moment after it was stored.
		last, err := topology.LastFor(f.t.Context(), stream, i.Config)
		return err == nil && i.NumPending == 0 && i.NumAckPending == 0 && i.Delivered.Stream >= last
	})
}

func (f *fixture) consumer(source string) *jetstream.ConsumerInfo {
	f.t.Helper()
	c, err := f.js.Consumer(f.t.Context(), topology.StreamRaw, topology.EnrichDurable(source))
	if err != nil {
		f.t.Fatal(err)
	}
	return c.CachedInfo()
}

// messages reads a whole stream.
func (f *fixture) messages(stream string) []*jetstream.RawStreamMsg {
	f.t.Helper()
	s, err := f.js.Stream(f.t.Context(), stream)
	if err != nil {
		f.t.Fatal(err)
	}
	var all []*jetstream.RawStreamMsg
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(f.t.Context(), seq)
		if err != nil {
			f.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// reason waits for the first advisory and returns why which message was given
// up.
func (f *fixture) reason() (consume.Reason, uint64) {
	f.t.Helper()
	f.eventually("an advisory", func() bool { return len(f.messages(topology.StreamAdvisories)) == 1 })
	var advisory struct {
		Sequence uint64 `json:"stream_seq"`
		Reason   string `json:"reason"`
	}
	if err := json.Unmarshal(f.messages(topology.StreamAdvisories)[0].Data, &advisory); err != nil {
		f.t.Fatal(err)
	}
	return consume.DecodeReason(advisory.Reason), advisory.Sequence
}

// events reads TERCEL_ENRICHED.
func (f *fixture) events() []enriched {
	f.t.Helper()
	var all []enriched
	for _, m := range f.messages(topology.StreamEnriched) {
		e, err := event.FromHeader(m.Header)
		if err != nil {
			f.t.Fatal(err)
		}
		all = append(all, enriched{e, m.Subject, m.Header, string(m.Data)})
	}
	return all
}

type enriched struct {
	event.Event
	subject string
	header  nats.Header
	body    string
}

// answers is an API that has fixed answers by path and 404 for all others.
func answers(byPath map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, ok := byPath[r.URL.EscapedPath()]
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, body)
	}
}

var discard = slog.New(slog.DiscardHandler)

func rawMessage(subject string, h nats.Header, body string) *nats.Msg {
	return &nats.Msg{Subject: subject, Header: h, Data: []byte(body)}
}
