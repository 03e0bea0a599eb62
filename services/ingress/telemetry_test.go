package ingress_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tercelhq/tercel/services/ingress"
)

// Every request is counted under its source and outcome; a name that a
// stranger chose is no attribute.
func TestRequestsAreCountedByOutcome(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) {
		// Names of its own, since all tests count into one reader.
		c.Sources = maps.Clone(c.Sources)
		c.Sources["counted"], c.Sources["counted-limit"] = c.Sources["rotating"], c.Sources["limited"]
	})
	before := counted(t)
	good := f.delivery("counted", "", `{"id":"e","kind":"k"}`)
	for range 3 {
		f.send(good)
	}
	bad := f.delivery("counted", "", `{"id":"e"}`)
	f.send(bad)
	bad.body += " "
	f.send(bad)
	bad.header.Set("Content-Type", "text/plain")
	f.send(bad)
	bad.header.Set("Content-Type", "application/json")
	bad.body = strings.Repeat("x", 600<<10)
	f.send(bad)
	stranger := good
	stranger.path = "/v1/stranger"
	f.send(stranger)
	for i := range 3 {
		f.send(f.delivery("counted-limit", "", fmt.Sprintf(`{"kind":"k","n":%d}`, i)))
	}
	got := counted(t)
	for what, want := range map[string]int64{
		"tercel.requests.answered counted accepted": 1, "tercel.requests.answered counted duplicate": 2,
		"tercel.requests.answered counted refused_structure": 1, "tercel.requests.answered counted refused_signature": 1,
		"tercel.requests.answered counted refused_type": 1, "tercel.requests.answered counted refused_size": 1,
		"tercel.requests.answered counted-limit accepted": 2, "tercel.requests.answered counted-limit refused_rate": 1,
		"tercel.requests.handled counted duplicate": 2,
		"tercel.bodies.received counted ":           3*21 + 10 + 11,
	} {
		if n := got[what] - before[what]; n != want {
			t.Errorf("%s: %d, want %d", what, n, want)
		}
	}
	if unknown := "tercel.requests.answered  unknown_source"; got[unknown] == before[unknown] {
		t.Error("a request to no source was not counted")
	}
	for what := range got {
		if strings.Contains(what, "stranger") {
			t.Errorf("a stranger's name is an attribute: %s", what)
		}
	}
}

// counted reads all metrics as "name source outcome" to value or count.
func counted(t *testing.T) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := measured.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	values := map[string]int64{}
	key := func(name string, set attribute.Set) string {
		source, _ := set.Value("source")
		outcome, _ := set.Value("outcome")
		return name + " " + source.AsString() + " " + outcome.AsString()
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					values[key(m.Name, p.Attributes)] += p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					values[key(m.Name, p.Attributes)] += int64(p.Count)
				}
			}
		}
	}
	return values
}
