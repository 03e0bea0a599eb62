package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/console"
)

// Tokens of a fixture, by the names of their holders.
const (
	operatorToken = "the operator's token of a test"
	viewerToken   = "the viewer's token of a test"
	oldToken      = "a token that has expired"
)

// file is a pipeline with two sources and three destinations.
const file = `
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:SECRET]
    event: {id: header.X-Delivery, type: body.type}
    api: {base: "http://127.0.0.1:1", allow_private: true}
    redact: [body.card, record.card]
    resources: {order: {triggers: [order.*], id: body.id, get: "/orders/{id}", version: record.version, reconcile: {list: /orders}}}
  bills:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:SECRET]
    event: {id: header.X-Delivery, type: body.type}
destinations:
  warehouse: {sqlite: {path: warehouse.db}}
  archive: {files: {dir: archive}, subscribe: ["orders.>"]}
  nobody: {files: {dir: nobody}, subscribe: ["bills.>"]}
`

// fixture is a console over a server of its own.
type fixture struct {
	*testing.T
	nc      *nats.Conn
	js      jetstream.JetStream
	service *console.Service
	url     string
	log     *lines
	stop    func() // ends the console and waits for it
}

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// setup starts a console with the tokens above, changed by edit.
func setup(t *testing.T, edits ...func(*console.Config, *console.Deps)) *fixture {
	t.Helper()
	srv := natstest.Start(t, false)
	f := &fixture{T: t, nc: srv.Connect(), log: &lines{}}
	var err error
	if f.js, err = jetstream.New(f.nc, natstest.Patient()); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), f.js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	cfg, deps := configured(t), console.Deps{Conn: f.nc, Log: slog.New(slog.NewJSONHandler(io.MultiWriter(f.log, t.Output()), nil))}
	for _, edit := range edits {
		edit(&cfg, &deps)
	}
	if f.service, err = console.New(cfg, deps); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.service.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	t.Cleanup(f.stop)
	select {
	case <-f.service.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("Run() = %v", err)
	case <-time.After(time.Minute):
		t.Fatal("not listening within a minute")
	}
	f.url = f.service.URL()
	return f
}

// configured is the configuration of a fixture.
func configured(t testing.TB) console.Config {
	t.Helper()
	parsed, err := pipeline.Decode("tercel.yaml", []byte(file), config.WithLookupEnv(func(string) (string, bool) {
		return "a webhook secret of enough length", true
	}))
	if err != nil {
		t.Fatal(err)
	}
	return console.Config{
		Console: pipeline.Console{Listen: "127.0.0.1:0", Tokens: map[string]pipeline.Token{
			"olivia": {Role: pipeline.Operator, Token: config.NewSecret(operatorToken)},
			"victor": {Role: pipeline.Viewer, Token: config.NewSecret(viewerToken)},
			"oscar":  {Role: pipeline.Operator, Token: config.NewSecret(oldToken), Expires: "2020-01-01"},
		}},
		Sources: parsed.Sources, Destinations: parsed.Destinations, Redact: parsed.Redactions(), Version: "v1.2.3",
	}
}

// answer is what a call over HTTP and JSON got.
type answer struct {
	status  int
	header  http.Header
	body    map[string]any
	text    string
	code    string // of an error
	message string
	reason  string // of its ErrorInfo
	field   string
}

// post calls a method as a program with HTTP and JSON alone does.
func (f *fixture) post(token, method, body string, edits ...func(*http.Request)) answer {
	f.Helper()
	req, err := http.NewRequestWithContext(f.Context(), http.MethodPost, f.url+"/tercel.admin.v1."+method, bytes.NewReader([]byte(body)))
	if err != nil {
		f.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for _, edit := range edits {
		edit(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if json.Unmarshal(text, &a.body) != nil {
		return a
	}
	if resp.StatusCode == http.StatusOK {
		return a
	}
	a.code, _ = a.body["code"].(string)
	a.message, _ = a.body["message"].(string)
	details, _ := a.body["details"].([]any)
	for _, d := range details {
		d, _ := d.(map[string]any)
		debug, _ := d["debug"].(map[string]any)
		a.reason, _ = debug["reason"].(string)
		a.field, _ = debug["field"].(string)
	}
	return a
}

// bearer is a client option that sends a token.
func bearer(token string) connect.ClientOption {
	return connect.WithInterceptors(tokenInterceptor(token))
}

type tokenInterceptor string

func (t tokenInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		req.Header().Set("Authorization", "Bearer "+string(t))
		return next(ctx, req)
	}
}

func (t tokenInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(t))
		return conn
	}
}

func (tokenInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.After(time.Minute); !ok(); {
		select {
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// adminClientOptions are those of a gRPC client with a token.
func adminClientOptions(token string) []connect.ClientOption {
	return []connect.ClientOption{connect.WithGRPC(), bearer(token)}
}
