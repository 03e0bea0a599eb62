package grafana_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/services/internal/grafana"
)

const deploy = "../../../deploy"

// units are those of Grafana's that the dashboards use.
var units = []string{"cps", "reqps", "Bps", "bytes", "percentunit", "s", "short"}

func TestPanelsSayWhatTheyShow(t *testing.T) {
	t.Parallel()
	legend := regexp.MustCompile(`\{\{(\w+)\}\}`)
	for _, d := range grafana.All() {
		titles := map[string]bool{}
		for _, r := range d.Rows {
			for _, p := range r.Panels {
				where := d.UID + ", " + r.Title + ", " + p.Title
				if p.Title == "" || !strings.HasSuffix(p.About, ".") || !slices.Contains(units, p.Unit) {
					t.Errorf("%s: no title, no description that is a sentence, or unit %q", where, p.Unit)
				}
				if titles[r.Title+p.Title] {
					t.Errorf("%s: twice", where)
				}
				titles[r.Title+p.Title] = true
				legends := map[string]bool{}
				for _, query := range p.Queries {
					if query.Legend == "" || legends[query.Legend] {
						t.Errorf("%s: legend %q is empty or there twice", where, query.Legend)
					}
					legends[query.Legend] = true
					for _, label := range legend.FindAllStringSubmatch(query.Legend, -1) {
						if !told(query.Expr, label[1]) {
							t.Errorf("%s: legend names %s, which %s doesn't leave", where, label[1], query.Expr)
						}
					}
				}
				if len(p.Queries) == 0 {
					t.Errorf("%s: asks for nothing", where)
				}
			}
		}
	}
}

// told says whether the result of an expression has a label: one that it groups
// by or, where it doesn't, one of its metrics.
func told(expr, label string) bool {
	by := regexp.MustCompile(`by \(([^)]*)\)`).FindAllStringSubmatch(expr, -1)
	for _, group := range by {
		if slices.Contains(strings.Split(group[1], ", "), label) {
			return true
		}
	}
	if len(by) > 0 {
		return false
	}
	if label == "instance" {
		return true
	}
	for _, m := range metrics.All() {
		if strings.Contains(expr, m.Prometheus()) && slices.ContainsFunc(m.Labels, func(l metrics.Label) bool { return l.Name == label }) {
			return true
		}
	}
	return false
}

// What dashboards and alerts ask for exists, with these labels and values, and
// what is measured is shown somewhere.
func TestQueriesAskForWhatIsDeclared(t *testing.T) {
	t.Parallel()
	shown := map[string]bool{}
	for where, expr := range expressions(t) {
		for _, fault := range undeclared(expr, shown) {
			t.Errorf("%s: %s", where, fault)
		}
	}
	for _, m := range metrics.All() {
		if !shown[m.Prometheus()] {
			t.Errorf("%s is on no dashboard and in no alert", m.Prometheus())
		}
	}
}

func TestUndeclaredFindsFaults(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]int{
		`sum(rate(tercel_requests_answered_total{outcome=~"refused_.*", source="$source"}[5m]))`: 0,
		`tercel_requests_handled_seconds_bucket{le="30"}`:                                        0,
		`sum(tercel_requests_answered)`:                                                          1,
		`tercel_requests_answered_total_bucket`:                                                  1,
		`tercel_requests_answered_total{stage="enrich"}`:                                         1,
		`tercel_requests_answered_total{outcome="refuse_origin"}`:                                1,
		`tercel_requests_answered_total{outcome=~"refuse_.*|accepted"}`:                          1,
	} {
		if got := undeclared(expr, map[string]bool{}); len(got) != want {
			t.Errorf("undeclared(%s) = %q, want %d faults", expr, got, want)
		}
	}
}

var (
	selector = regexp.MustCompile(`(tercel_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
)

// undeclared reports what an expression asks for that there can't be. It notes
// in shown the metrics that there are.
func undeclared(expr string, shown map[string]bool) []string {
	var faults []string
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		m := declaredAs(s[1])
		if m == nil {
			faults = append(faults, s[1]+" is not declared")
			continue
		}
		shown[m.Prometheus()] = true
		for _, match := range matcher.FindAllStringSubmatch(s[2], -1) {
			if fault := mismatch(m, match[1], match[2], match[3]); fault != "" {
				faults = append(faults, fault)
			}
		}
	}
	return faults
}

// declaredAs is the metric that a series is of, or nil.
func declaredAs(series string) *metrics.Metric {
	for _, m := range metrics.All() {
		name := m.Prometheus()
		if m.Kind != metrics.Histogram && series == name {
			return m
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if m.Kind == metrics.Histogram && series == name+suffix {
				return m
			}
		}
	}
	return nil
}

// mismatch says what is wrong with a matcher of m, or nothing.
func mismatch(m *metrics.Metric, label, op, value string) string {
	if label == "le" && m.Kind == metrics.Histogram {
		return ""
	}
	i := slices.IndexFunc(m.Labels, func(l metrics.Label) bool { return l.Name == label })
	if i < 0 {
		return m.Prometheus() + " has no label " + label
	}
	if len(m.Labels[i].Values) == 0 || value == "" {
		return ""
	}
	alternatives := []string{regexp.QuoteMeta(value)}
	if strings.HasSuffix(op, "~") {
		alternatives = strings.Split(value, "|")
	}
	for _, a := range alternatives {
		whole := regexp.MustCompile("^(?:" + a + ")$")
		if !slices.ContainsFunc(m.Labels[i].Values, whole.MatchString) {
			return fmt.Sprintf("%s of %s is never %s", label, m.Prometheus(), a)
		}
	}
	return ""
}

// expressions are those of all panels, variables and alerts, by their place.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, d := range grafana.All() {
		for _, v := range d.Variables {
			all[d.UID+", variable "+v.Name] = v.Metric + "{" + v.Label + `!=""}`
		}
		for _, r := range d.Rows {
			for _, p := range r.Panels {
				for i, query := range p.Queries {
					all[fmt.Sprintf("%s, %s, %s, query %d", d.UID, r.Title, p.Title, i)] = query.Expr
				}
			}
		}
	}
	for _, a := range alerts(t) {
		all["alert "+a.Alert] = a.Expr
	}
	return all
}

type alert struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	files, err := filepath.Glob(deploy + "/prometheus/rules/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("rules: %v %v", files, err)
	}
	var all []alert
	for _, name := range files {
		var f struct{ Groups []struct{ Rules []alert } }
		read(t, name, &f)
		for _, g := range f.Groups {
			all = append(all, g.Rules...)
		}
	}
	return all
}

func read(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// Each alert says what is wrong, what to do, and is proven to fire and to
// resolve.
func TestAlertsAreExplainedAndTested(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/runbooks.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	for _, s := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(string(text), -1) {
		sections[s[1]] = true
	}
	fires, resolves := tested(t)
	for _, a := range alerts(t) {
		if a.Annotations["summary"] == "" || !strings.HasSuffix(a.Annotations["description"], ".") || a.Labels["severity"] == "" {
			t.Errorf("%s: no summary, description or severity", a.Alert)
		}
		if want := "docs/runbooks.md#" + strings.ToLower(a.Alert); a.Annotations["runbook_url"] != want || !sections[a.Alert] {
			t.Errorf("%s: runbook %q, want %s, and that section", a.Alert, a.Annotations["runbook_url"], want)
		}
		if !fires[a.Alert] || !resolves[a.Alert] {
			t.Errorf("%s: tested to fire %t, and to resolve after that %t", a.Alert, fires[a.Alert], resolves[a.Alert])
		}
		delete(sections, a.Alert)
	}
	for s := range sections {
		t.Errorf("runbook %s: there is no such alert", s)
	}
}

// tested are the alerts that the tests of rules expect to fire, and those that
// they expect to have ended after that.
func tested(t *testing.T) (fires, resolves map[string]bool) {
	t.Helper()
	var f struct {
		Tests []struct {
			Expressions []struct {
				Expr    string
				Samples []any `yaml:"exp_samples"`
			} `yaml:"promql_expr_test"`
		}
	}
	read(t, deploy+"/prometheus/tests/tercel.yml", &f)
	fires, resolves = map[string]bool{}, map[string]bool{}
	for _, test := range f.Tests {
		fired := map[string]bool{}
		for _, e := range test.Expressions {
			name := regexp.MustCompile(`alertname="(\w+)"`).FindStringSubmatch(e.Expr)[1]
			if len(e.Samples) > 0 {
				fired[name], fires[name] = true, true
			} else if fired[name] {
				resolves[name] = true
			}
		}
	}
	return fires, resolves
}

// What Grafana would read has the shape that it wants, as far as that can be
// said without Grafana.
func TestDashboardsHaveTheirShape(t *testing.T) {
	t.Parallel()
	for _, d := range grafana.All() {
		text, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			UID, Title    string
			SchemaVersion int
			Templating    struct{ List []struct{ Name, Type string } }
			Panels        []struct {
				ID      int
				Type    string
				GridPos struct{ X, Y, W, H int }
				Targets []struct{ RefID, Expr string }
			}
		}
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if len(got.UID) > 40 || got.Title == "" || got.SchemaVersion < 36 {
			t.Errorf("%s: uid too long, no title, or an old schema", d.UID)
		}
		known := []string{"datasource", "__rate_interval", "__range"}
		for _, v := range got.Templating.List {
			known = append(known, v.Name)
		}
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, p := range got.Panels {
			if ids[p.ID] {
				t.Errorf("%s: panel id %d twice", d.UID, p.ID)
			}
			ids[p.ID] = true
			if g := p.GridPos; g.X < 0 || g.X+g.W > 24 || g.W < 1 || g.H < 1 {
				t.Errorf("%s: panel %d outside of the grid: %+v", d.UID, p.ID, g)
			}
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if on := taken[[2]int{x, y}]; on != "" {
						t.Errorf("%s: panel %d lies on %s", d.UID, p.ID, on)
					}
					taken[[2]int{x, y}] = fmt.Sprint("panel ", p.ID)
				}
			}
			for _, target := range p.Targets {
				for _, name := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
					if !slices.Contains(known, name[1]) {
						t.Errorf("%s: panel %d: no variable %s", d.UID, p.ID, name[1])
					}
				}
			}
		}
	}
}

// The files that Grafana gets are those that the package describes.
func TestDashboardFilesAreUpToDate(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(deploy + "/grafana/dashboards/*.json")
	if err != nil || len(files) != len(grafana.All()) {
		t.Errorf("files %v, %v; want one for each of %d dashboards", files, err, len(grafana.All()))
	}
	for _, d := range grafana.All() {
		want, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(deploy, "grafana/dashboards", d.UID+".json")); err != nil || string(got) != string(want) {
			t.Errorf("%s is out of date (%v); run scripts/generate", d.UID, err)
		}
	}
}
