package reconciler_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler"
)

// written is a log that a test reads.
type written struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// Promise 3: a trigger that was accepted and lost inside alarms: with an error in
// the log, in the metric that alerts rest on, and as a finding that status and
// reports show. It does not run beside others: the meter provider is the
// process's.
func TestLostInsideAlarms(t *testing.T) {
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	defer otel.SetMeterProvider(before)
	f := setup(t, "1h")
	f.cfg.CatchUp = 30 * time.Second
	e := event.Event{ID: "hook", Source: "orders", Account: "north", Type: "order.paid", Origin: event.Webhook, ContentType: "application/json"}
	m := nats.NewMsg(e.RawSubject())
	m.Header, m.Data = e.Header(), []byte(`{"kind":"order.paid","id":"o3"}`)
	if _, err := f.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	f.swallow() // an enricher that answers triggers and stores nothing
	log := &written{}
	s, err := reconciler.New(f.cfg, reconciler.Deps{Conn: f.server.Connect(), Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	}()
	eventually(t, "the first run, by schedule", func() bool { return len(f.reports()) == 1 })
	if rep := f.reports()[0]; rep.Evidence.Causes[report.LostInside] != 1 || rep.Evidence.Causes[report.Unknown] != 4 {
		t.Errorf("causes %v, want one lost inside", rep.Evidence.Causes)
	}
	eventually(t, "the error in the log", func() bool {
		return strings.Contains(log.String(), `level=ERROR msg="triggers were accepted but lost inside: their records were found by reconciliation" resource=orders.north.order`)
	})
	eventually(t, "the finding", func() bool {
		for _, x := range findings(t, f.js) {
			if x.Kind == report.RecordsLostInside && x.Name == "orders.north.order" && x.Count == 1 {
				return true
			}
		}
		return false
	})
	if got, want := measured(t, reader, "tercel.records.explained"), "cause=lost_inside,resource=order,source=orders 1"; !strings.Contains(got, want) {
		t.Errorf("metric %s, want %s", got, want)
	}
}

func measured(t *testing.T, reader metric.Reader, name string) string {
	t.Helper()
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	var points []string
	for _, scope := range got.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					points = append(points, fmt.Sprint(p.Attributes.Encoded(attribute.DefaultEncoder()), " ", p.Value))
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					points = append(points, fmt.Sprint(p.Attributes.Encoded(attribute.DefaultEncoder()), " ", p.Value))
				}
			}
		}
	}
	return strings.Join(points, "\n")
}

// swallow answers all triggers of the source, without an event, until the test
// ends, and waits until it has answered those that are there.
func (f *fixture) swallow() {
	f.t.Helper()
	cfg := consume.DefaultConfig()
	answered := make(chan struct{}, 1)
	loop, err := consume.New(cfg, topology.StreamRaw, topology.EnrichConsumer("orders", cfg.Delivery()),
		consume.Each(func(context.Context, consume.Message) error {
			select {
			case answered <- struct{}{}:
			default:
			}
			return nil
		}), consume.Deps{JetStream: f.js, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Errorf("the stage: %v", err)
		}
	})
	select {
	case <-answered:
	case <-time.After(time.Minute):
		f.t.Fatal("the trigger was not answered within a minute")
	}
}

// findings are all that were published, oldest first.
func findings(t *testing.T, js jetstream.JetStream) []report.Finding {
	t.Helper()
	var all []report.Finding
	for m, err := range consume.Scan(t.Context(), js, consume.ScanOptions{Stream: topology.StreamReports, Subjects: []string{report.SubjectFindings}}) {
		if err != nil {
			t.Fatal(err)
		}
		f, err := report.DecodeFinding(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}
