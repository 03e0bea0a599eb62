package metrics_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/metrics"
)

// nameForm is that of all names: words joined by dots.
var nameForm = regexp.MustCompile(`^tercel(\.[a-z]+(_[a-z]+)*)+$`)

func TestEveryMetricIsDeclaredInFull(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, m := range metrics.All() {
		if !nameForm.MatchString(m.Name) || seen[m.Prometheus()] {
			t.Errorf("%s: twice, or not of the form %s", m.Name, nameForm)
		}
		seen[m.Prometheus()] = true
		if m.Unit == "" && m != metrics.BuildInfo || !strings.HasSuffix(m.About, ".") {
			t.Errorf("%s: no unit, or no description that is a sentence", m.Name)
		}
		if (m.Kind == metrics.Histogram) != (len(m.Bounds) > 0) || !slices.IsSorted(m.Bounds) {
			t.Errorf("%s: bounds %v of a %s", m.Name, m.Bounds, m.Kind)
		}
		if m.Kind == metrics.Histogram && len(m.Bounds) > 16 {
			t.Errorf("%s: %d buckets; each is a series for each set of labels", m.Name, len(m.Bounds))
		}
		names := map[string]bool{}
		for _, l := range m.Labels {
			if names[l.Name] || !strings.HasSuffix(l.About, ".") {
				t.Errorf("%s: label %s twice or without a description", m.Name, l.Name)
			}
			names[l.Name] = true
		}
	}
	if len(seen) < 50 {
		t.Errorf("%d metrics; the table is not whole", len(seen))
	}
}

// What isn't declared can't become a series of its own.
func TestWithBoundsLabels(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		metric *metrics.Metric
		values []string
		want   string
	}{
		"all are there":                     {metrics.MessagesSettled, []string{"enrich", "orders", "acked"}, "name=orders,outcome=acked,stage=enrich"},
		"an unlisted value is another":      {metrics.MessagesSettled, []string{"enrich", "orders", "x\n{}"}, "name=orders,outcome=other,stage=enrich"},
		"an empty one is left out":          {metrics.RequestsAnswered, []string{"", "unknown_source"}, "outcome=unknown_source"},
		"those that are missing are, too":   {metrics.MessagesSettled, []string{"enrich"}, "stage=enrich"},
		"one more than declared is ignored": {metrics.BodiesReceived, []string{"orders", "accepted"}, "source=orders"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := metric.NewAddConfig([]metric.AddOption{tt.metric.With(tt.values...)}).Attributes()
			if got := set.Encoded(attribute.DefaultEncoder()); got != tt.want {
				t.Errorf("With(%q) = %s, want %s", tt.values, got, tt.want)
			}
		})
	}
}

func TestInstrumentsAreOfTheirKind(t *testing.T) {
	t.Parallel()
	if _, err := metrics.MessagesHandled.Counter(); err == nil {
		t.Error("a histogram made a counter")
	}
	if _, err := metrics.RequestsAnswered.Counter(); err == nil {
		t.Error("an observed counter made one that is added to")
	}
	if _, err := metrics.Observe(func(metrics.Observer) {}, metrics.MessagesSettled); err == nil {
		t.Error("a counter that is added to is observed")
	}
}

func ExampleMetric_Prometheus() {
	for _, m := range []*metrics.Metric{metrics.MessagesSettled, metrics.MessagesHandled, metrics.StreamSize, metrics.ConsumerPending} {
		fmt.Println(m.Prometheus())
	}
	// Output:
	// tercel_messages_settled_total
	// tercel_messages_handled_seconds
	// tercel_stream_size_bytes
	// tercel_consumer_pending
}
