package ingress_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/ingress"
)

// at is when every test takes place.
var at = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// measured collects the metrics of all services of the test run.
var measured = sdkmetric.NewManualReader()

func TestMain(m *testing.M) {
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(measured)))
	otel.SetTracerProvider(sdktrace.NewTracerProvider())
	otel.SetTextMapPropagator(propagation.TraceContext{})
	os.Exit(m.Run())
}

const sources = `
sources:
  stripe: {preset: stripe, secrets: [env:STRIPE]}
  hub: {preset: github, secrets: [env:PLAIN]}
  std: {preset: standard-webhooks, secrets: [env:STANDARD]}
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:PLAIN]
    event: {id: header.X-Delivery, type: body.kind, time: [body.at, header.X-At]}
    request: {max_body: 16KiB}
  tenants:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:PLAIN]
    event: {id: header.X-Delivery, type: body.kind, time: [body.at, header.X-At]}
    accounts: [north, "south.2"]
  rotating:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:OTHER, env:PLAIN]
    event: {id: body.id, type: body.kind}
  bytes:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {id: header.X-Delivery, type: header.X-Kind}
    request: {content_types: ["*"], max_body: 2MiB}
  anonymous:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {type: "{header.X-Kind}.{body.action}"}
  limited:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {type: body.kind}
    limit: {requests: 2, per: 1h}
`

var environment = map[string]string{
	"STRIPE": "whsec_0123456789abcdef", "PLAIN": "a secret of enough length", "OTHER": "the secret that comes next",
	"PAIR": "user:a password of enough length", "STANDARD": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
}

// decoded reads the sources above.
func decoded(t testing.TB) map[string]provider.Source {
	t.Helper()
	f, err := pipeline.Decode("tercel.yaml", []byte(sources), config.WithLookupEnv(func(name string) (string, bool) {
		v, ok := environment[name]
		return v, ok
	}))
	if err != nil {
		t.Fatal(err)
	}
	return f.Sources
}

// fixture is a service on a real server with all streams.
type fixture struct {
	t       testing.TB
	server  *natstest.Server
	conn    *nats.Conn
	stream  jetstream.Stream
	sources map[string]provider.Source
	service *ingress.Service
	log     *logged
	deps    ingress.Deps // beside those that the fixture has
}

func setup(t testing.TB, change ...func(*ingress.Config)) *fixture {
	t.Helper()
	return setupWith(t, ingress.Deps{}, change...)
}

// setupWith is setup with a clock of its own, or another way outside.
func setupWith(t testing.TB, deps ingress.Deps, change ...func(*ingress.Config)) *fixture {
	t.Helper()
	cfg := ingress.Config{Ingress: pipeline.Default().Ingress, Sources: decoded(t), Streams: topology.DefaultConfig()}
	cfg.Listen, cfg.DrainGrace, cfg.StoreTimeout = "127.0.0.1:0", 0, 20*time.Second
	for _, c := range change {
		c(&cfg)
	}
	f := &fixture{t: t, deps: deps, server: natstest.Start(t, cfg.Streams.Durability == topology.Synced), sources: cfg.Sources, log: &logged{}}
	f.conn = f.server.Connect()
	js := f.jetstream()
	if err := topology.Ensure(t.Context(), js, cfg.Streams); err != nil {
		t.Fatal(err)
	}
	var err error
	if f.stream, err = js.Stream(t.Context(), topology.StreamRaw); err != nil {
		t.Fatal(err)
	}
	f.serve(cfg)
	return f
}

// sealKeys are those of every service.
var sealKeys = []config.Secret{config.NewSecret("the key that seals the accounts of tests")}

// serve makes the service, with accounts that end with the test.
func (f *fixture) serve(cfg ingress.Config) {
	f.t.Helper()
	log := slog.New(slog.NewJSONHandler(f.log, nil))
	accounts, err := account.Open(account.Config{Sources: cfg.Sources, Streams: cfg.Streams, SealKeys: sealKeys}, account.Deps{Conn: f.conn, Log: log})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(accounts.Close)
	deps := f.deps
	deps.Conn, deps.Log, deps.Accounts = f.conn, log, accounts
	if deps.Now == nil {
		deps.Now = func() time.Time { return at }
	}
	f.service, err = ingress.New(cfg, deps)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(f.service.Close)
}

// run runs the service until stop, which waits for its end and returns its error.
func (f *fixture) run() (stop func() error) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.service.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	f.t.Cleanup(func() { _ = stop() })
	select {
	case <-f.service.Ready():
	case err := <-ended:
		f.t.Fatalf("Run() = %v before it was ready", err)
	}
	return stop
}

func (f *fixture) jetstream() jetstream.JetStream {
	f.t.Helper()
	js, err := jetstream.New(f.conn, natstest.Patient())
	if err != nil {
		f.t.Fatal(err)
	}
	return js
}

// stored is how many messages the stream has.
func (f *fixture) stored() uint64 {
	f.t.Helper()
	info, err := f.stream.Info(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return info.State.Msgs
}

// attributes are those of a stored trigger. That it says who took it in, and how
// long the checks took, is looked at here and then left out.
func attributes(t testing.TB, h nats.Header) (event.Event, error) {
	t.Helper()
	e, err := event.FromHeader(h)
	host, _ := os.Hostname()
	c, unread := event.ParseChecked(e.Checked)
	if unread != nil || c.Took <= 0 || c.By != host[:min(len(host), 32)] {
		t.Errorf("the trigger was taken in by %+v, %v; want a time, by host %s", c, unread, host)
	}
	e.Checked, e.Received = "", ""
	return e, err
}

// last is the message that was stored last.
func (f *fixture) last() *jetstream.RawStreamMsg {
	f.t.Helper()
	info, err := f.stream.Info(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	m, err := f.stream.GetMsg(f.t.Context(), info.State.LastSeq)
	if err != nil {
		f.t.Fatalf("message %d: %v", info.State.LastSeq, err)
	}
	return m
}

// delivery is a request as a provider makes it.
type delivery struct {
	method, path string
	header       http.Header
	body         string
	chunked      bool
}

// delivery returns one that the source takes, signed at the moment of the test.
func (f *fixture) delivery(source, id, body string) delivery {
	src := f.sources[source]
	d := delivery{method: http.MethodPost, path: "/v1/" + source, body: body, header: http.Header{
		"Content-Type": {"application/json"}, "X-Delivery": {id}, "X-Github-Delivery": {id}, "X-Github-Event": {"issues"}, "X-Kind": {"thing.made"},
	}}
	keys := src.Keys()
	return d.signed(src.Verifier(), keys[len(keys)-1], id, at)
}

func (d delivery) signed(v *signature.Verifier, k signature.Key, id string, at time.Time) delivery {
	for name, values := range v.Sign(k, []byte(d.body), id, at) {
		d.header[name] = values
	}
	return d
}

// raw is the delivery as it goes over the wire.
func (d delivery) raw() []byte {
	var b bytes.Buffer
	b.WriteString(d.method + " " + d.path + " HTTP/1.1\r\nHost: hooks.example.com\r\n")
	if err := d.header.Write(&b); err != nil {
		panic(err)
	}
	if d.chunked {
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		w := bytes.NewBufferString(d.body)
		for w.Len() > 0 {
			part := w.Next(1000)
			b.WriteString(fmt.Sprintf("%x\r\n", len(part)) + string(part) + "\r\n")
		}
		b.WriteString("0\r\n\r\n")
		return b.Bytes()
	}
	b.WriteString(fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(d.body), d.body))
	return b.Bytes()
}

// request is the delivery as a server reads it.
func (d delivery) request(t testing.TB) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(d.raw())))
	if err != nil {
		t.Fatalf("the test's own request: %v", err)
	}
	return r
}

// send gives the delivery to the handler.
func (f *fixture) send(d delivery) reply {
	f.t.Helper()
	w := httptest.NewRecorder()
	f.service.Handler().ServeHTTP(w, d.request(f.t))
	return readReply(f.t, w.Code, w.Header(), w.Body.Bytes())
}

// reply is what came back.
type reply struct {
	code   int
	header http.Header
	Status string `json:"status"`
	ID     string `json:"id"`
	Events int    `json:"events"`
	Error  string `json:"error"`
	Req    string `json:"request_id"`
}

// readReply checks what holds for every answer.
func readReply(t testing.TB, code int, header http.Header, body []byte) reply {
	t.Helper()
	r := reply{code: code, header: header}
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatalf("%d answered with %q: %v", code, body, err)
	}
	wants := map[string]string{"Content-Type": "application/json"}
	if code != http.StatusOK {
		wants["X-Request-Id"], wants["Cache-Control"], wants["X-Content-Type-Options"] = r.Req, "no-store", "nosniff"
	}
	if r.Req == "" {
		t.Error("no request id in the body")
	}
	for name, want := range wants {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if (code == http.StatusOK) != (r.Status != "" && r.Error == "") {
		t.Errorf("%d with status %q and error %q", code, r.Status, r.Error)
	}
	if again := code == 503 || code == 429; again != (header.Get("Retry-After") != "") {
		t.Errorf("%d with Retry-After %q", code, header.Get("Retry-After"))
	}
	return r
}

// logged is a log that a test can read.
type logged struct {
	mu   sync.Mutex // guards the text
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
