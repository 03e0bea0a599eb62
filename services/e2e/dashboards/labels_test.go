package dashboards_test

import (
	"bufio"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/metrics"
)

// Nothing that a stranger or a source sends becomes a label: whatever it is, all
// series have the labels that are declared, with values that are listed or that
// the pipeline file gives.
func TestNobodyMakesSeries(t *testing.T) {
	t.Parallel()
	p := startPipeline(t)
	const n = 300
	p.hostile(t, n)
	eventually(t, "the notes have gone through", func() error { return p.delivered(n) })
	for _, fault := range p.undeclared(t) {
		t.Error(fault)
	}
}

// hostile sends n requests of each kind with names that nobody has configured,
// all of them different; some are well signed.
func (p *pipeline) hostile(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		name := fmt.Sprintf("x-%d", i)
		p.post(t, "/v1/"+name, `{}`, nil)
		p.post(t, "/"+name, `{}`, nil)
		p.post(t, "/v1/notes/"+name, `{}`, map[string]string{"X-Token": "wrong", "X-Delivery": name})
		p.post(t, "/v1/orders/"+name+"?"+name+"=1", `{"kind": "`+name+`"}`, map[string]string{"X-" + name: name, "Traceparent": name})
		body := fmt.Sprintf(`{"kind": "note.%s\"{}\n%d", "text": %q}`, name, i, name)
		if status := p.note(t, name, strings.ReplaceAll(body, "\n", `\n`)); status != http.StatusOK {
			t.Fatalf("a note of an unusual type: %d", status)
		}
	}
}

var sample = regexp.MustCompile(`^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? [^ ]+$`)

// samples are the labels of all series at /metrics, by name.
func (p *pipeline) samples(t *testing.T) map[string][]string {
	t.Helper()
	resp, err := http.Get("http://" + p.health + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	all := map[string][]string{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		parts := sample.FindStringSubmatch(lines.Text())
		if parts == nil {
			t.Fatalf("/metrics: %q", lines.Text())
		}
		all[parts[1]] = append(all[parts[1]], parts[2])
	}
	return all
}

// delivered is nil when so many notes have been written to the database.
func (p *pipeline) delivered(want int) error {
	resp, err := http.Get("http://" + p.health + "/metrics")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), `tercel_events_delivered_total{destination="database",outcome="written"} `); ok {
			if got := strings.TrimSpace(rest); got != fmt.Sprint(want) {
				return fmt.Errorf("%s are written, want %d", got, want)
			}
			return nil
		}
	}
	return fmt.Errorf("none is written, want %d", want)
}

var label = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)

// names are those that the pipeline file and the server's set-up give.
var names = []string{"orders", "notes", "order", "database", "partner", "dead_letters"}

// given is what other labels without a list must look like.
var given = map[string]*regexp.Regexp{
	"stream": regexp.MustCompile(`^(TERCEL_[A-Z]+|KV_tercel_[a-z_]+)$`),
	"method": regexp.MustCompile(`^[A-Z]\w+(\.[A-Z]\w+)?$`),
}

// undeclared reports series at /metrics that no declaration allows: another
// name, a label too many, or a value that is neither listed nor a name of the
// pipeline's.
func (p *pipeline) undeclared(t *testing.T) []string {
	t.Helper()
	declared := map[string]*metrics.Metric{}
	for _, m := range metrics.All() {
		suffixes := []string{""}
		if m.Kind == metrics.Histogram {
			suffixes = []string{"_bucket", "_sum", "_count"}
		}
		for _, s := range suffixes {
			declared[m.Prometheus()+s] = m
		}
	}
	var faults []string
	all := p.samples(t)
	if len(all) < 80 {
		t.Fatalf("%d names at /metrics: they aren't all", len(all))
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := declared[name]
		if m == nil {
			if !slices.ContainsFunc([]string{"go_", "process_", "target_info", "promhttp_"}, func(own string) bool { return strings.HasPrefix(name, own) }) {
				faults = append(faults, name+" is not declared")
			}
			continue
		}
		for _, labels := range all[name] {
			for _, l := range label.FindAllStringSubmatch(labels, -1) {
				if fault := strange(m, l[1], l[2]); fault != "" {
					faults = append(faults, name+": "+fault)
				}
			}
		}
	}
	return faults
}

// strange says what is wrong with a label of m, or nothing.
func strange(m *metrics.Metric, name, value string) string {
	if name == "le" && m.Kind == metrics.Histogram {
		return ""
	}
	i := slices.IndexFunc(m.Labels, func(l metrics.Label) bool { return l.Name == name })
	switch {
	case i < 0:
		return "label " + name + " is not declared"
	case len(m.Labels[i].Values) > 0:
		if !slices.Contains(m.Labels[i].Values, value) {
			return name + " is " + value + ", which is not listed"
		}
	case name == "source" || name == "resource" || name == "destination" || name == "name":
		if !slices.Contains(names, value) {
			return name + " is " + value + ", which is no name of the pipeline's"
		}
	case given[name] != nil && !given[name].MatchString(value):
		return name + " is " + value + ", want " + given[name].String()
	}
	return ""
}
