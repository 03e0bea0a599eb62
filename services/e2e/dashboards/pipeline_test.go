package dashboards_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/freeport"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

const (
	ordersSecret = "the orders' webhook secret"
	ordersToken  = "the orders' API token"
)

// pipelineFile makes something of each kind happen within seconds: repeats,
// retries, dead letters, refusals, dropped and malformed events, and
// reconciliations. Addresses and the folder are filled in.
const pipelineFile = `
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:ORDERS_SECRET]
    event: {id: header.X-Delivery, type: body.kind, time: body.at}
    api: {base: $API, token: env:ORDERS_TOKEN, allow_private: true, rate: {requests: 500, per: 1s}}
    resources:
      order:
        triggers: [order.*]
        id: body.order.id
        get: /orders/{id}
        version: record.updated_at
        reconcile:
          list: /orders
          since: updated_after
          order: ascending
          items: orders
          next: {cursor: next_cursor, param: cursor}
          limit: {param: limit, size: 100}
          every: 3s
          settle: 1s
          overlap: 5s
  notes:
    verify: {scheme: token, header: X-Token}
    secrets: [env:ORDERS_SECRET]
    event: {id: header.X-Delivery, type: body.kind}
    request: {schemas: {note.*: $DIR/note.json}, schema_mode: warn}
    drop: '.trigger.kind == "note.unwanted"'
destinations:
  database: {sqlite: {path: $DIR/orders.db}}
  partner: {http: {url: $PARTNER, secrets: [env:PARTNER_SECRET], allow_private: true}, when: '.event.type != "order.created"'}
streams: {raw: {max_bytes: 64MiB}, enriched: {max_bytes: 64MiB}}
ingress: {listen: $INGRESS, drain_grace: 0s}
console: {listen: $CONSOLE}
enricher: {max_attempts: 3, retry_min: 100ms, retry_max: 500ms}
sink: {retry_min: 100ms, retry_max: 1s}
reconciler: {audit_every: 2s, audit_settle: 30s}
telemetry: {listen: $HEALTH, otlp: $OTLP}
`

// pipeline is a running "tercel up" with what is around it.
type pipeline struct {
	ingress, console, health string // addresses
	provider                 *simulator.Provider
	output                   *bytes.Buffer // of the process; to be read after its end
}

// startPipeline runs the whole pipeline until the test ends.
func startPipeline(t *testing.T) *pipeline {
	t.Helper()
	provider, err := simulator.New(simulator.Config{
		Seed: 1, Events: 6000, Records: 1000, Duplicate: .1, Drop: .05, Forge: .4, Poison: .1, Unavailable: .15, Rate: 30,
		Secret: config.NewSecret(ordersSecret), Token: config.NewSecret(ordersToken),
	})
	if err != nil {
		t.Fatal(err)
	}
	dir, api := t.TempDir(), serve(t, provider)
	var asked atomic.Int64
	partner := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1)%20 == 0 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	// It takes traces, without which there are no exemplars.
	traces := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	p := &pipeline{ingress: freeAddr(t), console: freeAddr(t), health: freeAddr(t), provider: provider, output: &bytes.Buffer{}}
	file := strings.NewReplacer("$API", api, "$DIR", dir, "$PARTNER", partner, "$INGRESS", p.ingress, "$CONSOLE", p.console,
		"$HEALTH", p.health, "$OTLP", traces).Replace(pipelineFile)
	write(t, filepath.Join(dir, "tercel.yaml"), file)
	write(t, filepath.Join(dir, "note.json"), `{"type": "object", "required": ["text"]}`)
	cmd := exec.Command(program(t), "up", "--config", filepath.Join(dir, "tercel.yaml"), "--data", filepath.Join(dir, "data"), "--nats-listen", "")
	cmd.Env = append(os.Environ(), "ORDERS_SECRET="+ordersSecret, "ORDERS_TOKEN="+ordersToken, "PARTNER_SECRET=whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQ=")
	cmd.Stdout, cmd.Stderr = p.output, p.output
	run(t, cmd, p.output, "http://"+p.health+"/readyz")
	return p
}

// run runs a program until the test ends, and returns when its address ready
// answers. What it wrote is shown if the test fails.
func run(t *testing.T, cmd *exec.Cmd, output *bytes.Buffer, ready string) {
	t.Helper()
	// A test that is killed takes its programs along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		end := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer end.Stop()
		<-ended
		if t.Failed() {
			t.Logf("%s\n%s", cmd.Args[0], output.String()[max(0, output.Len()-8000):])
		}
	})
	eventually(t, cmd.Args[0]+" is ready", func() error {
		select {
		case <-ended:
			t.Fatalf("%s ended at its start", cmd.Args[0])
		default:
		}
		return answers(ready)
	})
}

// program builds tercel, once.
func program(t *testing.T) string {
	t.Helper()
	name := filepath.Join(binDir, "tercel")
	if _, err := os.Stat(name); err == nil {
		return name
	}
	if out, err := exec.Command("go", "build", "-o", name, "../../cmd/tercel").CombinedOutput(); err != nil {
		t.Fatalf("build tercel: %v\n%s", err, out)
	}
	return name
}

// binDir has the program under test.
var binDir string

func TestMain(m *testing.M) {
	var err error
	if binDir, err = os.MkdirTemp("", "tercel-dashboards-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(binDir)
	os.Exit(code)
}

// note sends a webhook of the second source.
func (p *pipeline) note(t *testing.T, id, body string) int {
	t.Helper()
	return p.post(t, "/v1/notes", body, map[string]string{"X-Token": ordersSecret, "X-Delivery": id})
}

// post sends a request to the ingress and returns the status.
func (p *pipeline) post(t *testing.T, path, body string, header map[string]string) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+p.ingress+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// freeAddr returns an address for a program to listen on.
func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// answers is nil when url answers 200.
func answers(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("%s: %s", resp.Status, body))
	}
	return err
}

// eventually waits for a condition, for a minute and a half at most.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline := time.NewTimer(90 * time.Second)
	defer deadline.Stop()
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("not within 90 s: %s: %v", what, err)
		case <-time.After(wait):
		}
	}
}
