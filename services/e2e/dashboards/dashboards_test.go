package dashboards_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// empty are the queries that have no figures in a pipeline that is well, by
// dashboard, panel and legend, with the reason.
var empty = map[string]string{
	"tercel-source, Schemas violated and keys fetched, key {{outcome}}":                    "no source has keys that are fetched",
	"tercel-source, Accounts, {{state}}":                                                   "no source has accounts that come and go",
	"tercel-streams, Account's limit, limit":                                               "the embedded server's account has none",
	"tercel-streams, Servers left, left":                                                   "there is only one",
	"tercel-reconciliation, Accepted but lost, {{source}}":                                 "nothing is lost",
	"tercel-reconciliation, Faults found, {{kind}}, repaired {{repaired}}":                 "nobody meddles with the server",
	"tercel-reconciliation, Consumers set going again, {{stage}} {{name}}":                 "none stands still",
	"tercel-reconciliation, Probes and stopped deletions, {{source}} probed":               "what is usual takes days to learn",
	"tercel-reconciliation, Probes and stopped deletions, {{source}} {{resource}} stopped": "nothing looks for orphans",
}

// Every query and every variable of every dashboard has an answer from a real
// Prometheus that scrapes the real pipeline, and the main alerts fire and resolve
// there.
func TestDashboardsShowTheRunningPipeline(t *testing.T) {
	tool(t, "prometheus")
	p := startPipeline(t)
	prom := startPrometheus(t, p.health)
	calm := p.stir(t)
	eventually(t, "requests are refused, and it is told", fires(prom, "TercelRequestsRefused"))
	eventually(t, "there are dead letters, and it is told", fires(prom, "TercelDeadLettersGrowing"))
	queries := panels(t)
	if len(queries) < 80 {
		t.Fatalf("only %d queries found", len(queries))
	}
	eventually(t, "every query has figures", func() error {
		var missing []error
		for _, q := range queries {
			if empty[q.where] != "" {
				continue
			}
			// A dashboard of one source is full if one of them fills it.
			if a, b := prom.figures(q.with("orders")), prom.figures(q.with("notes")); a != nil && b != nil {
				missing = append(missing, fmt.Errorf("%s: %w: %s", q.where, a, q.expr))
			}
		}
		return errors.Join(missing...)
	})
	for _, q := range queries {
		if reason := empty[q.where]; reason != "" {
			if err := prom.figures(q.with("orders")); err == nil || !errors.Is(err, errNoFigure) {
				t.Errorf("%s: %v, want no figures: %s", q.where, err, reason)
			}
		}
	}
	for _, v := range variables(t) {
		if values, err := prom.values(v.metric, v.label); err != nil || len(values) == 0 {
			t.Errorf("%s: values %q, %v; want some", v.where, values, err)
		}
	}
	for _, histogram := range []string{"tercel_requests_handled_seconds_bucket", "tercel_messages_handled_seconds_bucket", "tercel_events_aged_seconds_bucket"} {
		if n, err := prom.exemplars(histogram); err != nil || n == 0 {
			t.Errorf("%s has %d exemplars, %v; want some traces", histogram, n, err)
		}
	}
	for _, fault := range p.undeclared(t) {
		t.Error(fault)
	}
	calm()
	eventually(t, "nothing is refused any more", resolves(prom, "TercelRequestsRefused"))
	eventually(t, "no dead letters are made any more", resolves(prom, "TercelDeadLettersGrowing"))
	for _, alert := range []string{"TercelDown", "TercelAcceptedButLost", "TercelFaultInside", "TercelStreamNearLimit", "TercelReplicaBehind"} {
		if labels, firing, err := prom.firing(alert); err != nil || firing {
			t.Errorf("%s fires: %v, %v", alert, labels, err)
		}
	}
}

func fires(s server, alert string) func() error {
	return func() error {
		labels, firing, err := s.firing(alert)
		if err == nil && !firing {
			err = errors.New("it doesn't fire")
		}
		for _, name := range []string{"summary", "description"} {
			if text := labels[name]; firing && (text == "" || strings.Contains(text, "<error") || strings.Contains(text, "<no value>")) {
				err = fmt.Errorf("%s of %s: %q", name, alert, text)
			}
		}
		return err
	}
}

func resolves(s server, alert string) func() error {
	return func() error {
		labels, firing, err := s.firing(alert)
		if err == nil && firing {
			err = fmt.Errorf("it fires: %v", labels)
		}
		return err
	}
}

// stir has the simulated provider send, and sends what that doesn't: notes, some
// of which nobody wants or that break their schema, and calls of the admin API.
func (p *pipeline) stir(t *testing.T) (calm func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := p.provider.Run(ctx, "http://"+p.ingress+"/v1/orders"); err != nil && ctx.Err() == nil {
			t.Errorf("simulated provider: %v", err)
		}
	})
	parts.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			p.note(t, fmt.Sprint("kept-", i), `{"kind": "note.kept", "text": "a"}`)
			p.note(t, fmt.Sprint("unwanted-", i), `{"kind": "note.unwanted", "text": "a"}`)
			p.note(t, fmt.Sprint("broken-", i), `{"kind": "note.broken"}`)
			resp, err := http.Post("http://"+p.console+"/tercel.admin.v1.PipelineService/GetCaller", "application/json", strings.NewReader("{}"))
			if err == nil {
				_ = resp.Body.Close()
			}
			select {
			case <-time.After(300 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	return func() { cancel(); parts.Wait() }
}

// query is one of a panel.
type query struct{ where, expr string }

// with is the query as Grafana would ask it of a source, with every other choice
// left at "All".
func (q query) with(source string) string {
	expr := strings.NewReplacer("$__rate_interval", "15s", "$__range", "30s").Replace(q.expr)
	expr = strings.ReplaceAll(expr, `="$source"`, `="`+source+`"`)
	return regexp.MustCompile(`\$\w+`).ReplaceAllString(expr, ".*")
}

// choice is a variable of a dashboard.
type choice struct{ where, metric, label string }

// file is what the tests read of a dashboard.
type file struct {
	UID    string
	Panels []struct {
		Title   string
		Targets []struct{ Expr, LegendFormat string }
	}
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
}

func files(t *testing.T) []file {
	t.Helper()
	names, err := filepath.Glob("../../../deploy/grafana/dashboards/*.json")
	if err != nil || len(names) < 5 {
		t.Fatalf("dashboards: %v, %v", names, err)
	}
	all := make([]file, len(names))
	for i, name := range names {
		if err := json.Unmarshal([]byte(slurp(t, name)), &all[i]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return all
}

func panels(t *testing.T) []query {
	t.Helper()
	var all []query
	for _, f := range files(t) {
		for _, p := range f.Panels {
			for _, target := range p.Targets {
				all = append(all, query{f.UID + ", " + p.Title + ", " + target.LegendFormat, target.Expr})
			}
		}
	}
	return all
}

func variables(t *testing.T) []choice {
	t.Helper()
	var all []choice
	form := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
	for _, f := range files(t) {
		for _, v := range f.Templating.List {
			if v.Type == "datasource" {
				continue
			}
			parts := form.FindStringSubmatch(v.Definition)
			if parts == nil {
				t.Fatalf("%s, variable %s: %q is no label_values(…)", f.UID, v.Name, v.Definition)
			}
			all = append(all, choice{f.UID + ", variable " + v.Name, parts[1], parts[2]})
		}
	}
	return all
}

// The files of Prometheus are right by its own word, and each alert fires and
// resolves as its tests say.
func TestRules(t *testing.T) {
	t.Parallel()
	promtool := tool(t, "promtool")
	for _, args := range [][]string{
		{"check", "config", deploy + "/prometheus.yml"},
		{"check", "rules", "--lint-fatal", deploy + "/rules/tercel.yml"},
		{"test", "rules", deploy + "/tests/tercel.yml"},
	} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
