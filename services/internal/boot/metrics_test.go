package boot_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"

	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// A histogram shows the traces of what it counted, to a scraper that asks for
// OpenMetrics. It does not run beside others: the telemetry is the process's.
func TestHistogramsHaveExemplars(t *testing.T) {
	cfg := pipeline.Default().Telemetry
	cfg.Sample = 1
	// Nobody takes the traces there, which doesn't matter.
	otlp := httptest.NewServer(http.NotFoundHandler())
	defer otlp.Close()
	cfg.OTLP = otlp.URL
	tel, err := boot.StartTelemetry(t.Context(), "test", cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Shutdown()
	ctx, span := otel.Tracer("test").Start(t.Context(), "work")
	h, err := metrics.MessagesHandled.Histogram()
	if err != nil {
		t.Fatal(err)
	}
	h.Record(ctx, .003, metrics.MessagesHandled.With("enrich", "orders", "acked"))
	span.End()

	want := `trace_id="` + span.SpanContext().TraceID().String() + `"`
	found := ""
	for line := range strings.Lines(scrape(t, tel.Handler(), "application/openmetrics-text")) {
		if strings.HasPrefix(line, "tercel_messages_handled_seconds_bucket") && strings.Contains(line, want) {
			found = line
		}
	}
	if !strings.Contains(found, `le="0.005"`) || !strings.Contains(found, "span_id") {
		t.Errorf("exemplar with %s: %q, want it at the bucket of 5 ms", want, found)
	}
}

// The names at /metrics are those that the declaration says.
func TestMetricsAreExposedUnderTheirNames(t *testing.T) {
	tel, err := boot.StartTelemetry(t.Context(), "test", pipeline.Default().Telemetry, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Shutdown()
	for _, m := range metrics.All() {
		measure(t, m)
	}
	exposed := map[string]string{} // kinds by name
	for line := range strings.Lines(scrape(t, tel.Handler(), "text/plain")) {
		if words := strings.Fields(line); len(words) == 4 && words[1] == "TYPE" {
			exposed[words[2]] = words[3]
		}
	}
	kinds := map[metrics.Kind]string{
		metrics.Counter: "counter", metrics.UpDownCounter: "gauge", metrics.Gauge: "gauge", metrics.Histogram: "histogram",
	}
	for _, m := range metrics.All() {
		if got, want := exposed[m.Prometheus()], kinds[m.Kind]; got != want {
			t.Errorf("%s is exposed as %q, want a %s", m.Prometheus(), got, want)
		}
	}
	if exposed["go_goroutines"] == "" || exposed["process_cpu_seconds_total"] == "" || exposed["target_info"] == "" {
		t.Error("metrics of the process, the runtime or the target are missing")
	}
}

// measure measures something of m.
func measure(t *testing.T, m *metrics.Metric) {
	t.Helper()
	var err error
	switch {
	case m.Kind == metrics.Gauge || m.Observed:
		_, err = metrics.Observe(func(o metrics.Observer) { o.Set(m, 1) }, m)
	case m.Kind == metrics.Counter:
		c, e := m.Counter()
		c.Add(t.Context(), 1)
		err = e
	case m.Kind == metrics.UpDownCounter:
		c, e := m.UpDownCounter()
		c.Add(t.Context(), 1)
		err = e
	default:
		h, e := m.Histogram()
		h.Record(t.Context(), 1)
		err = e
	}
	if err != nil {
		t.Fatal(err)
	}
}

func scrape(t *testing.T, h http.Handler, accept string) string {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("/metrics = %d, %v", w.Code, err)
	}
	return string(body)
}
