package config_test

import (
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/config"
)

// checked reports faults at the paths that its file names in at.
type checked struct {
	At      []string                     `yaml:"at"`
	Secrets []config.Secret              `yaml:"secrets"`
	Deep    map[string]map[string]string `yaml:"deep"`
	Inner   `yaml:",inline"`
}

func (c *checked) Validate(check *config.Check) {
	for _, key := range c.At {
		check.Fault(key, "", "something else")
	}
	if len(c.Secrets) > 0 {
		check.Fault("secrets[0]", "a copy of "+c.Secrets[0].Ref(), "something else")
		check.Fault("secrets[0]", "two of a kind", "something else")
	}
}

// Inner validates, and lends its method to a struct that embeds it and has none.
type Inner struct {
	Port int `yaml:"port"`
}

func (i Inner) Validate(check *config.Check) {
	if i.Port < 0 {
		check.Fault("port", "", "0 or more")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		file string
		want []string
	}{
		"the node itself": {
			file: "at: ['']\n",
			want: []string{`1:1: found a mapping, want something else`},
		},
		"an element": {
			file: "at: [x, 'at[1]']\n",
			want: []string{`1:1: x: missing, want something else`, `1:9: at[1]: found "at[1]", want something else`},
		},
		"an element that is absent": {
			file: "at: ['at[7]']\n",
			want: []string{`1:5: at[7]: missing, want something else`},
		},
		"paths that are none": {
			file: "at: ['[0]', at.x, 'at[x]', '.', 'at[']\n",
			want: []string{
				`1:1: .: missing, want something else`,
				`1:1: [0]: missing, want something else`,
				`1:5: at.x: missing, want something else`,
				`1:5: at[: missing, want something else`,
				`1:5: at[x]: missing, want something else`,
			},
		},
		"keys with dots, the longest first": {
			file: "at: [deep.a.b.c, deep.a.d, deep.e.f]\ndeep:\n  a: {b.c: short}\n  a.b: {c: long}\n",
			want: []string{
				`3:3: deep.e.f: missing, want something else`,
				`3:6: deep.a.d: missing, want something else`,
				`4:12: deep."a.b".c: found "long", want something else`,
			},
		},
		"a phrase with the text of a secret": {
			file: "secrets: [env:TOKEN]\n",
			want: []string{
				`1:11: secrets[0]: found [redacted], want something else`,
				`1:11: secrets[0]: found two of a kind, want something else`,
			},
		},
		"an inline struct": {
			file: "port: -1\n",
			want: []string{`1:7: port: found -1, want 0 or more`},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := decode(t, tt.file, &checked{})
			if g, w := strings.Join(got, "\n"), strings.Join(tt.want, "\n"); g != w {
				t.Errorf("faults:\n%s\nwant:\n%s", g, w)
			}
		})
	}
}

// A struct that inherits Validate from an inline one reports its faults once.
func TestInheritedValidateReportsOnce(t *testing.T) {
	t.Parallel()
	got := decode(t, "port: -1\n", &struct {
		Inner `yaml:",inline"`
	}{})
	if len(got) != 1 {
		t.Errorf("faults = %q, want one", got)
	}
}

// tree reads any file through Node alone.
type tree struct {
	text     string
	children map[string]*tree
	order    []string
}

func (tr *tree) DecodeNode(n config.Node) {
	tr.text, tr.order = n.Text(), n.Keys()
	tr.children = map[string]*tree{}
	for _, key := range tr.order {
		child, ok := n.Child(key)
		tr.children[key] = &tree{}
		if ok && !child.Decode(tr.children[key]) {
			n.Fault("children without faults")
		}
	}
	if _, ok := n.Child("absent"); ok || tr.text == "bad" {
		n.Fault("anything else")
	}
}

func TestNode(t *testing.T) {
	t.Parallel()
	var got tree
	if faults := decode(t, "b: {d: x}\na: 0x1F\nc: ~\n", &got); faults != nil {
		t.Fatal(faults)
	}
	if order := strings.Join(got.order, ""); order != "bac" {
		t.Errorf("keys = %q, want the order of the file", order)
	}
	if a, d, c := got.children["a"].text, got.children["b"].children["d"].text, got.children["c"].text; a != "0x1F" || d != "x" || c != "" {
		t.Errorf("text = %q, %q, %q, want it as written", a, d, c)
	}
	faults := strings.Join(decode(t, "a: bad\n", &got), "\n")
	if want := "1:1: found a mapping, want children without faults\n1:4: a: found \"bad\", want anything else"; faults != want {
		t.Errorf("faults:\n%s\nwant:\n%s", faults, want)
	}
}
