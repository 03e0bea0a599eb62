package run_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// It does not run beside others: the meter provider is the process's.
func TestMetricsTellVerdictsAndLag(t *testing.T) {
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	defer otel.SetMeterProvider(before)
	f := setup(t)
	hour := noon.Add(-time.Hour)
	f.shop.put("a", hour)
	f.shop.put("b", hour)
	f.saw("b", hour, false)
	f.do(f.runner(ascending))
	f.pass(3 * time.Minute)

	// Another process that looks at the cursor tells the same.
	other, err := run.NewMetrics(f.clock)
	if err != nil {
		t.Fatal(err)
	}
	f.met.Close()
	f.met = other
	if _, err := f.runner(ascending).Due(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer other.Close()

	points := collected(t, reader)
	want := fmt.Sprintf(`tercel.reconciliations.ended outcome=complete,resource=order,source=orders 1
tercel.reconciliations.incomplete resource=order,source=orders 0
tercel.reconciliations.lagged resource=order,source=orders 300
tercel.reconciliations.overdue resource=order,source=orders 0
tercel.reconciliations.paused resource=order,source=orders 0
tercel.reconciliations.succeeded resource=order,source=orders %d
tercel.records.compared resource=order,source=orders,verdict=matched 1
tercel.records.compared resource=order,source=orders,verdict=missed 1
tercel.records.explained cause=unknown,resource=order,source=orders 1`, noon.Unix())
	points = slices.DeleteFunc(points, func(p string) bool { return !strings.Contains(p, "tercel.rec") })
	if got := strings.Join(points, "\n"); got != want {
		t.Errorf("metrics\n%s\nwant\n%s", got, want)
	}
}

// collected are the figures that a reader has, in order.
func collected(t *testing.T, reader *metric.ManualReader) []string {
	t.Helper()
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	var points []string
	for _, scope := range got.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					points = append(points, fmt.Sprint(m.Name, " ", p.Attributes.Encoded(attribute.DefaultEncoder()), " ", p.Value))
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					points = append(points, fmt.Sprint(m.Name, " ", p.Attributes.Encoded(attribute.DefaultEncoder()), " ", int64(p.Value)))
				}
			}
		}
	}
	slices.Sort(points)
	return points
}

// It does not run beside others either.
func TestMetricsTellOrphansAndStoppedScans(t *testing.T) {
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	defer otel.SetMeterProvider(before)
	f := setup(t)
	f.hold(12)
	f.shop.remove("o001")
	f.scan(f.scanner(ascending), burying)
	f.shop.remove(all(9)...)
	f.pass(time.Hour)
	f.scan(f.scanner(ascending), onDemand)
	f.scan(f.scanner(ascending), dryRun) // is no alarm
	points := slices.DeleteFunc(collected(t, reader), func(p string) bool {
		return !strings.Contains(p, "tercel.deletions") && !strings.Contains(p, "verdict=orphaned")
	})
	want := `tercel.deletions.stopped resource=order,source=orders 1
tercel.records.compared resource=order,source=orders,verdict=orphaned 1`
	if got := strings.Join(points, "\n"); got != want {
		t.Errorf("metrics\n%s\nwant\n%s", got, want)
	}
}
