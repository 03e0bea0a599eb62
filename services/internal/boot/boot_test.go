package boot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// fake is a service that ends when told so.
type fake struct {
	end     chan error
	stopped atomic.Bool
	unwell  atomic.Bool
}

func (f *fake) Run(ctx context.Context) error {
	select {
	case err := <-f.end:
		return err
	case <-ctx.Done():
		f.stopped.Store(true)
		return nil
	}
}

func (f *fake) Healthy(context.Context) error {
	if f.unwell.Load() {
		return errors.New("stream is away")
	}
	return nil
}

func start(t *testing.T, services map[string]boot.Service) (url string, stop context.CancelFunc, ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	tel, err := boot.StartTelemetry(ctx, "test", pipeline.Default().Telemetry, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	addr, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- boot.Group{
			Log: slog.New(slog.DiscardHandler), Services: services, Metrics: tel.Handler(), Listen: "127.0.0.1:0",
			Started: func(a string) { addr <- a },
		}.Run(ctx)
	}()
	return "http://" + <-addr, cancel, done
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func TestHealthTellsWhatIsWrong(t *testing.T) {
	a, b := &fake{}, &fake{}
	url, stop, ended := start(t, map[string]boot.Service{"a": a, "b": b})
	if code, _ := get(t, url+"/livez"); code != http.StatusOK {
		t.Errorf("/livez = %d", code)
	}
	if code, _ := get(t, url+"/readyz"); code != http.StatusOK {
		t.Errorf("/readyz = %d, want 200", code)
	}
	b.unwell.Store(true)
	if code, body := get(t, url+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, `"b":"stream is away"`) || !strings.Contains(body, `"a":"ready"`) {
		t.Errorf("/readyz = %d %s, want 503 and what is wrong with b", code, body)
	}
	counter, err := otel.Meter("test").Int64Counter("tercel.tests.counted")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), 3)
	if _, body := get(t, url+"/metrics"); !strings.Contains(body, "tercel_tests_counted_total") || !strings.Contains(body, "go_goroutines") {
		t.Error("/metrics lacks the service's or the runtime's metrics")
	}
	stop()
	if err := <-ended; err != nil || !a.stopped.Load() || !b.stopped.Load() {
		t.Errorf("Run() = %v, stopped %t and %t; want a clean stop of both", err, a.stopped.Load(), b.stopped.Load())
	}
}

func TestOneFailureStopsTheOthersAndIsTold(t *testing.T) {
	a, b := &fake{end: make(chan error, 1)}, &fake{}
	_, _, ended := start(t, map[string]boot.Service{"a": a, "b": b})
	a.end <- errors.New("out of luck")
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "a: out of luck") || !b.stopped.Load() {
		t.Errorf("Run() = %v, b stopped %t; want a's error and b stopped", err, b.stopped.Load())
	}
}

func TestLogsAreJSONAtTheLevelAskedFor(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := boot.NewLogger(&out, "warn")
	log.Info("quiet")
	log.Warn("loud", slog.String("event_id", "e"))
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["msg"] != "loud" || line["event_id"] != "e" {
		t.Errorf("log is %q (%v), want one line of JSON", out.String(), err)
	}
}
