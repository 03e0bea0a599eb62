package services_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Each rule finds what it is there to find, and nothing else.
func TestRulesFindFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		check string
		files map[string]string
		want  []string // a part of each fault, in order
	}{
		"a lower package": {
			check: "layers",
			files: map[string]string{"pkg/event/a.go": source("event", module+"pkg/fault", "fmt", "example.com/x")},
		},
		"its own subpackage": {
			check: "layers",
			files: map[string]string{"services/sink/a.go": source("sink", module+"services/sink/internal/sqlite")},
		},
		"a higher package": {
			check: "layers",
			files: map[string]string{"pkg/fault/a.go": source("fault", module+"pkg/event")},
			want:  []string{"pkg/fault/a.go: imports pkg/event, which pkg/fault may not"},
		},
		"a higher package in a test": {
			check: "layers",
			files: map[string]string{"pkg/fault/a_test.go": source("fault_test", module+"pkg/event")},
			want:  []string{"imports pkg/event"},
		},
		"a real server in the test of any package": {
			check: "layers",
			files: map[string]string{"pkg/event/a_test.go": source("event_test", module+"pkg/natstest")},
		},
		"a package whose name begins like an allowed one": {
			check: "layers",
			files: map[string]string{"pkg/event/a.go": source("event", module+"pkg/faulty")},
			want:  []string{"imports pkg/faulty"},
		},
		"the contract from elsewhere than the event": {
			check: "layers",
			files: map[string]string{"services/sink/a.go": source("sink", module+"proto/tercel/event/v1")},
			want:  []string{"imports proto/tercel/event/v1"},
		},
		"one service from another": {
			check: "layers",
			files: map[string]string{"services/enricher/internal/x/a.go": source("x", module+"services/sink")},
			want:  []string{"imports services/sink, which services/enricher may not"},
		},
		"two services from the program of one": {
			check: "layers",
			files: map[string]string{"services/cmd/sink/main.go": source("main", module+"services/sink", module+"services/ingress")},
			want:  []string{"imports services/ingress"},
		},
		"all services from the all-in-one": {
			check: "layers",
			files: map[string]string{"services/cmd/tercel/main.go": source("main", module+"services/sink", module+"services/ingress")},
		},
		"a package in no layer": {
			check: "layers",
			files: map[string]string{"pkg/retry/a.go": source("retry")},
			want:  []string{"pkg/retry: in no layer; add it to layers"},
		},

		"a server in a service": {
			check: "reservations",
			files: map[string]string{"services/sink/a.go": source("sink", "github.com/nats-io/nats-server/v2/server")},
			want:  []string{"imports github.com/nats-io/nats-server/v2/server, reserved"},
		},
		"a server in the test of a service": {
			check: "reservations",
			files: map[string]string{"services/sink/a_test.go": source("sink_test", "github.com/nats-io/nats-server/v2/server")},
			want:  []string{"reserved"},
		},
		"a server where servers are made": {
			check: "reservations",
			files: map[string]string{
				"pkg/natstest/a.go":      source("natstest", "github.com/nats-io/nats-server/v2/server"),
				"services/e2e/a_test.go": source("e2e_test", "github.com/nats-io/nats-server/v2/server"),
			},
		},
		"a client of a server": {
			check: "reservations",
			files: map[string]string{"services/sink/a.go": source("sink", "github.com/nats-io/nats.go/jetstream")},
		},
		"SQLite outside its destination": {
			check: "reservations",
			files: map[string]string{"services/sink/a.go": source("sink", "modernc.org/sqlite")},
			want:  []string{"imports modernc.org/sqlite"},
		},
		"SQLite in its destination": {
			check: "reservations",
			files: map[string]string{"services/sink/internal/sqlite/a.go": source("sqlite", "modernc.org/sqlite")},
		},
		"the telemetry SDK in a package and in its test": {
			check: "reservations",
			files: map[string]string{
				"pkg/consume/a.go":      source("consume", "go.opentelemetry.io/otel/sdk/metric"),
				"pkg/consume/a_test.go": source("consume_test", "go.opentelemetry.io/otel/sdk/metric"),
			},
			want: []string{"pkg/consume/a.go: imports go.opentelemetry.io/otel/sdk/metric"},
		},
		"the telemetry API": {
			check: "reservations",
			files: map[string]string{"pkg/consume/a.go": source("consume", "go.opentelemetry.io/otel/metric")},
		},
		"the test server in a program": {
			check: "reservations",
			files: map[string]string{"services/cmd/tercel/a.go": source("main", module+"pkg/natstest")},
			want:  []string{"imports github.com/tercelhq/tercel/pkg/natstest"},
		},
		"the simulator in a service": {
			check: "reservations",
			files: map[string]string{"services/sink/a.go": source("sink", module+"services/internal/simulator")},
			want:  []string{"services/internal/simulator"},
		},
		"a reserved package that imports what is below it": {
			check: "reservations",
			files: map[string]string{"pkg/natstest/a.go": source("natstest", module+"pkg/natstest/internal/x")},
		},

		"an empty name": {
			check: "names",
			files: map[string]string{"pkg/event/helpers/a.go": source("helpers")},
			want:  []string{"pkg/event/helpers: name the package"},
		},
		"an empty name in a folder with another": {
			check: "names",
			files: map[string]string{"pkg/event/a.go": source("util")},
			want:  []string{"package util"},
		},
		"a name that tells": {
			check: "names",
			files: map[string]string{"pkg/database/a.go": source("database")},
		},

		"a package without a comment": {
			check: "package docs",
			files: map[string]string{
				"pkg/event/a.go":      "package event",
				"pkg/event/a_test.go": "// Package event_test is something else.\npackage event_test",
			},
			want: []string{"pkg/event: no package comment"},
		},
		"a package comment that is detached": {
			check: "package docs",
			files: map[string]string{"pkg/event/a.go": "// Package event is an event.\n\npackage event"},
			want:  []string{"no package comment"},
		},
		"a package comment about another": {
			check: "package docs",
			files: map[string]string{"pkg/event/a.go": "// Package events is an event.\npackage event"},
			want:  []string{`doesn't begin with "Package event"`},
		},
		"two package comments": {
			check: "package docs",
			files: map[string]string{
				"pkg/event/a.go": "// Package event is an event.\npackage event",
				"pkg/event/b.go": "// Package event is an event.\npackage event",
			},
			want: []string{"more than one"},
		},
		"tests alone without a comment": {
			check: "package docs",
			files: map[string]string{"services/e2e/a_test.go": "package e2e_test"},
			want:  []string{"no package comment"},
		},
		"package comments as they should be": {
			check: "package docs",
			files: map[string]string{
				"pkg/event/a.go":             "// Package event is an event.\npackage event",
				"pkg/event/b.go":             "package event",
				"services/e2e/a_test.go":     "// Package e2e_test tests.\npackage e2e_test",
				"services/cmd/sink/main.go":  "// Command sink writes events.\npackage main",
				"services/cmd/sink/other.go": "package main",
			},
		},

		"exports without a comment": {
			check: "export docs",
			files: map[string]string{"pkg/event/a.go": "package event\n" +
				"type T struct{}\n" +
				"func (*T) M() {}\n" +
				"func F() {}\n" +
				"const C = 1\n" +
				"var (\n\tV = 1\n\tw = 2\n)\n" +
				"type G[K any] struct{}\n" +
				"func (g *G[K]) N() {}\n"},
			want: []string{"T has no", "M has no", "F has no", "C has no", "V has no", "G has no", "N has no"},
		},
		"comments that name another thing": {
			check: "export docs",
			files: map[string]string{"pkg/event/a.go": "package event\n" +
				"// S is a type.\ntype T struct{}\n" +
				"// Returns something.\nfunc F() {}\n" +
				"// Cs are constants.\nconst C = 1\n" +
				"const (\n\t// B is one.\n\tA = 1\n)\n" +
				"// T\ntype (\n\tU int\n)\n"},
			want: []string{"on T", "on F", "on C", "on A", "U has no"},
		},
		"a comment that only silences a tool": {
			check: "export docs",
			files: map[string]string{"pkg/event/a.go": "package event\n//go:noinline\nfunc F() {}\n"},
			want:  []string{"F has no"},
		},
		"exports as they should be": {
			check: "export docs",
			files: map[string]string{
				"pkg/event/a.go": "package event\n" +
					"// A T is a type.\ntype T struct{ Field int }\n" +
					"// M does it.\nfunc (*T) M() {}\n" +
					"// F's result is nothing.\nfunc F() {}\n" +
					"// Numbers that mean something.\nconst (\n\tA = 1\n\tB = 2 // the second\n)\n" +
					"// X and Y are variables.\nvar X, Y int\n" +
					"var (\n\t// Z is one more.\n\tZ int\n)\n" +
					"type hidden struct{}\nfunc (hidden) Visible() {}\nfunc f() {}\n",
				"pkg/event/a_test.go": "package event_test\nfunc Undocumented() {}\n",
				"pkg/event/a.pb.go":   "// Code generated by hand. DO NOT EDIT.\n\npackage event\nfunc Undocumented() {}\n",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, p := range parsePackages(t, tt.files) {
				got = append(got, checks[tt.check](p)...)
			}
			if !slices.EqualFunc(got, tt.want, strings.Contains) {
				t.Errorf("%s found %q, want %q", tt.check, got, tt.want)
			}
		})
	}
}

// What can't be parsed in deploy/ is found.
func TestParseDataFindsFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		name, text string
		fails      bool
	}{
		"a document":               {name: "a.yaml", text: "a: 1\nb: [x, y]\n"},
		"several documents":        {name: "a.yaml", text: "a: 1\n---\na: 2\n"},
		"nothing but a comment":    {name: "a.yaml", text: "# later\n"},
		"a broken list":            {name: "a.yaml", text: "a: [x, y\n", fails: true},
		"a broken second document": {name: "a.yml", text: "a: 1\n---\na: [\n", fails: true},
		"a key twice":              {name: "a.yaml", text: "a: 1\na: 2\n", fails: true},
		"an object":                {name: "a.json", text: `{"a": [1, 2]}`},
		"a trailing comma":         {name: "a.json", text: `{"a": 1,}`, fails: true},
		"YAML called JSON":         {name: "a.json", text: "a: 1", fails: true},
		"a member twice":           {name: "a.json", text: `{"a": 1, "a": 2}`, fails: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := parseData(tt.name, tt.text); (err != nil) != tt.fails {
				t.Errorf("parseData(%q) = %v, want an error: %t", tt.text, err, tt.fails)
			}
		})
	}
}

// source returns a Go file of the package name that imports paths.
func source(name string, paths ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "package %s\n", name)
	for _, path := range paths {
		fmt.Fprintf(&b, "import _ %q\n", path)
	}
	return b.String()
}
