package services_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"strconv"
	"testing"

	"github.com/tercelhq/tercel/pkg/metrics"
)

const metricsPath = "pkg/metrics"

// Every instrument is made of a declared metric, with as many labels as that
// has; and each declared metric is measured somewhere.
func TestInstrumentsAreDeclared(t *testing.T) {
	t.Parallel()
	pkgs := loadPackages(t)
	table := declared(t, pkgs)
	used := map[string]bool{}
	for _, p := range pkgs {
		if below(p.path, metricsPath) {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, fault := range checkInstruments(f, table, used) {
				t.Error(fault)
			}
		}
	}
	for name := range table {
		if !used[name] {
			t.Errorf("metrics.%s is declared and measured nowhere", name)
		}
	}
}

// The check finds what it is there to find.
func TestInstrumentsCheckFindsFaults(t *testing.T) {
	t.Parallel()
	table := map[string]*metrics.Metric{"Two": {Labels: make([]metrics.Label, 2)}}
	tests := map[string]struct {
		body string
		want int
	}{
		"an instrument made by oneself":           {`otel.Meter("mine")`, 1},
		"the provider of such":                    {`otel.GetMeterProvider()`, 1},
		"a tracer":                                {`otel.Tracer("mine")`, 0},
		"as many labels as declared":              {`metrics.Two.With("a", "b")`, 0},
		"a label too few":                         {`metrics.Two.With("a")`, 1},
		"a gauge with as many labels as declared": {`o.Set(metrics.Two, 1, "a", "b")`, 0},
		"a gauge with a label too many":           {`o.Set(metrics.Two, 1, "a", "b", "c")`, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := parsePackages(t, map[string]string{"pkg/x/a.go": "package x\nfunc f() { " + tt.body + " }\n"})
			if got := checkInstruments(p[0].files[0], table, map[string]bool{}); len(got) != tt.want {
				t.Errorf("faults of %s: %q, want %d", tt.body, got, tt.want)
			}
		})
	}
}

// checkInstruments reports instruments that package metrics doesn't make, and
// measurements with another number of labels than declared. It notes in used
// which of the metrics the file speaks of.
func checkInstruments(f file, table map[string]*metrics.Metric, used map[string]bool) []string {
	var faults []string
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if name, ok := selected(n, "otel"); ok && (name == "Meter" || name == "GetMeterProvider") {
			faults = append(faults, fmt.Sprintf("%s: otel.%s: declare the metric in %s and make it there", f.name, name, metricsPath))
		}
		if name, ok := selected(n, "metrics"); ok {
			used[name] = true
		}
		call, ok := n.(*ast.CallExpr)
		if !ok || call.Ellipsis.IsValid() {
			return true
		}
		fun, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		of, labels := ast.Node(fun.X), len(call.Args)
		if fun.Sel.Name == "Set" && labels >= 2 {
			of, labels = call.Args[0], labels-2
		} else if fun.Sel.Name != "With" {
			return true
		}
		if name, ok := selected(of, "metrics"); ok && table[name] != nil && len(table[name].Labels) != labels {
			faults = append(faults, fmt.Sprintf("%s: metrics.%s with %d labels, want %d", f.name, name, labels, len(table[name].Labels)))
		}
		return true
	})
	return faults
}

// selected is what n takes of the package called pkg.
func selected(n ast.Node, pkg string) (name string, ok bool) {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	x, ok := sel.X.(*ast.Ident)
	return sel.Sel.Name, ok && x.Name == pkg
}

// declared are the metrics by the names that they have in Go.
func declared(t *testing.T, pkgs []pkg) map[string]*metrics.Metric {
	t.Helper()
	byName, table := map[string]*metrics.Metric{}, map[string]*metrics.Metric{}
	for _, m := range metrics.All() {
		byName[m.Name] = m
	}
	for _, p := range pkgs {
		for _, f := range p.files {
			if p.path != metricsPath || f.test {
				continue
			}
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				spec, ok := n.(*ast.ValueSpec)
				if !ok || len(spec.Values) != 1 {
					return true
				}
				ast.Inspect(spec.Values[0], func(n ast.Node) bool {
					if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
						if name, _ := strconv.Unquote(lit.Value); byName[name] != nil {
							table[spec.Names[0].Name] = byName[name]
						}
					}
					return true
				})
				return true
			})
		}
	}
	if len(table) != len(byName) {
		t.Fatalf("%d metrics found in %s, want %d", len(table), metricsPath, len(byName))
	}
	return table
}
