package config_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
)

// settings uses every feature of the package.
type settings struct {
	Name    string            `yaml:"name"`
	On      bool              `yaml:"on"`
	Count   int               `yaml:"count"`
	Small   uint8             `yaml:"small"`
	Tiny    int8              `yaml:"tiny"`
	Big     uint64            `yaml:"big"`
	Ratio   float64           `yaml:"ratio"`
	Every   time.Duration     `yaml:"every"`
	Size    config.Bytes      `yaml:"size"`
	Mode    mode              `yaml:"mode"`
	Token   config.Secret     `yaml:"token"`
	Secrets []config.Secret   `yaml:"secrets"`
	List    []string          `yaml:"list"`
	Labels  map[string]string `yaml:"labels"`
	Next    *page             `yaml:"next"`
	Sources map[string]source `yaml:"sources"`
	Window  window            `yaml:"window"`
	Common  `yaml:",inline"`
	Ignored any `yaml:"-"`
	Code    any
}

type Common struct {
	Log string `yaml:"log"`
}

type mode string

func (mode) Values() []string { return []string{"append", "upsert"} }

// page is written short, as its cursor, or long.
type page struct {
	Cursor string `yaml:"cursor"`
	Param  string `yaml:"param"`
}

func (p *page) DecodeNode(n config.Node) {
	p.Param = "after"
	switch n.Kind() {
	case config.Scalar:
		p.Cursor = n.Text()
	case config.Mapping:
		n.Decode(p)
	default:
		n.Fault("a cursor, or a mapping with cursor and param")
	}
}

type source struct {
	API       api              `yaml:"api"`
	Preset    string           `yaml:"preset"`
	Resources map[string]*page `yaml:"resources"`
}

type api struct {
	Base  string        `yaml:"base"`
	Token config.Secret `yaml:"token"`
}

func (s *source) Validate(c *config.Check) {
	if s.API.Base == "" {
		c.Missing("api.base", "a URL")
	}
	if s.Preset != "" && s.Preset != "stripe" && s.Preset != "github" {
		c.OneOf("preset", s.Preset, []string{"stripe", "github"})
	}
}

type window struct {
	Overlap time.Duration `yaml:"overlap"`
	Settle  time.Duration `yaml:"settle"`
}

func (w window) Validate(c *config.Check) {
	if w.Settle > w.Overlap {
		c.Fault("settle", "", "at most overlap")
	}
}

func env(name string) (string, bool) {
	v, ok := map[string]string{"TOKEN": "hunter2\n", "BLANK": " \n"}[name]
	return v, ok
}

// decode returns the faults of text as lines, without the file's name.
func decode(t *testing.T, text string, into any) []string {
	t.Helper()
	err := config.Decode("f", []byte(text), into, config.WithLookupEnv(env))
	if err == nil {
		return nil
	}
	var faults config.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("Decode() = %v, want Faults", err)
	}
	lines := strings.Split(faults.Error(), "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "f:")
	}
	return lines
}

func TestDecodeFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		file string
		want []string
	}{
		"all kinds are wrong at once": {
			file: "name: [x]\non: 'true'\ncount: \"5\"\nsmall: 256\ntiny: -129\nbig: -1\nratio: x\nevery: 1 hour\nsize: 1.5MiB\nlist: x\nlabels: []\nwindow: 7\n",
			want: []string{
				`1:7: name: found a list, want text`,
				`2:5: on: found "true", want true or false`,
				`3:8: count: found "5", want a whole number`,
				`4:8: small: found 256, want a whole number from 0 to 255`,
				`5:7: tiny: found -129, want a whole number from -128 to 127`,
				`6:6: big: found -1, want a whole number, 0 or more`,
				`7:8: ratio: found "x", want a number`,
				`8:8: every: found "1 hour", want a duration such as 30s, 5m or 7d`,
				`9:7: size: found "1.5MiB", want a size such as 512KB, 1MiB or a plain number of bytes`,
				`10:7: list: found "x", want a list`,
				`11:9: labels: found a list, want a mapping`,
				`12:9: window: found 7, want a mapping`,
			},
		},
		"numbers that YAML readers disagree on": {
			file: "count: 0x10\nsmall: 012\ntiny: 1_0\nratio: .inf\n",
			want: []string{
				`1:8: count: found 0x10, want a whole number`,
				`2:8: small: found 012, want a whole number from 0 to 255`,
				`3:7: tiny: found 1_0, want a whole number from -128 to 127`,
				`4:8: ratio: found .inf, want a number`,
			},
		},
		"empty values": {
			file: "name:\nnext:\nlabels: ~\nlist: [a, ]\n",
			want: []string{`1:6: name: found nothing, want text`, `3:9: labels: found nothing, want a mapping`},
		},
		"unknown keys, near and far": {
			file: "nmae: x\nsources:\n  orders:\n    api: {bsae: x, base: y}\n    qqqqqq: 1\nlogg: x\n",
			want: []string{
				`1:1: nmae: unknown key; did you mean "name"?`,
				`4:11: sources.orders.api.bsae: unknown key; did you mean "base"?`,
				`5:5: sources.orders.qqqqqq: found unknown key, want one of api, preset, resources`,
				`6:1: logg: unknown key; did you mean "log"?`,
			},
		},
		"a wrong case is a near miss": {
			file: "Name: x\n",
			want: []string{`1:1: Name: unknown key; did you mean "name"?`},
		},
		"keys given twice, in both styles": {
			file: "name: a\nlabels: {a: x, a: y}\nname: b\n",
			want: []string{`2:16: labels.a: key given twice, first in line 2`, `3:1: name: key given twice, first in line 1`},
		},
		"an enumeration": {
			file: "mode: upsrt\n",
			want: []string{`1:7: mode: found "upsrt", want one of append, upsert; did you mean "upsert"?`},
		},
		"a union of neither form": {
			file: "next: [a]\n",
			want: []string{`1:7: next: found a list, want a cursor, or a mapping with cursor and param`},
		},
		"inside a union": {
			file: "next: {cursr: a}\n",
			want: []string{`1:8: next.cursr: unknown key; did you mean "cursor"?`},
		},
		"validation at the value, and at the deepest node for an absent key": {
			file: "sources:\n  a.b:\n    preset: strpe\n  c:\n    api:\n      token: env:TOKEN\nwindow: {settle: 2m, overlap: 1m}\n",
			want: []string{
				`3:5: sources."a.b".api.base: missing, want a URL`,
				`3:13: sources."a.b".preset: found "strpe", want one of stripe, github; did you mean "stripe"?`,
				`6:7: sources.c.api.base: missing, want a URL`,
				`7:18: window.settle: found "2m", want at most overlap`,
			},
		},
		"anchors, aliases, merge keys, tags, complex keys": {
			file: "name: &x a\nlog: *x\n<<: {}\nmode: !!str upsert\n? list\n: []\n",
			want: []string{
				`1:7: found an anchor (&), want the value written out, in quotes if it is text that begins with &`,
				`2:6: found an alias (*), want the value written out, in quotes if it is text that begins with *`,
				`3:1: found a merge key (<<), want the keys written out`,
				`4:7: found a tag (!), want the value alone, in quotes if it is text that begins with !`,
				`5:1: found a complex key (?), want a key of plain text, in quotes if it begins with ?`,
				`6:1: found a colon, want its key in the same line`,
			},
		},
		"a tag that ends the file": {file: "name: !x", want: []string{`1:7: found a tag (!), want the value alone, in quotes if it is text that begins with !`}},
		"a directive":              {file: "%YAML 1.2\n---\nname: x\n", want: []string{`1:1: found a directive (%), want none, or text that begins with % in quotes`, `2:1: found a second document, want one document in a file`}},
		"two documents":            {file: "name: a\n---\nname: b\n", want: []string{`2:1: found a second document, want one document in a file`}},
		"an empty document first":  {file: "---\n---\nname: b\n", want: []string{`2:1: found a second document, want one document in a file`}},
		"nothing":                  {file: "", want: []string{`1:1: found an empty file, want keys and values`}},
		"only comments":            {file: "# a\n---\n# b\n", want: []string{`1:1: found an empty file, want keys and values`}},
		"only text":                {file: "hello", want: []string{`1:1: found [redacted], want a mapping`}},
		"a list":                   {file: "- a\n", want: []string{`1:1: found a list, want a mapping`}},
		"bytes that are not UTF-8": {file: "name: é\nlog: \xff\n", want: []string{`2:6: found byte 0xff that is not UTF-8, want a file saved as UTF-8`}},
		"a control character":      {file: "name: é\x00\n", want: []string{`1:8: found control character U+0000, want text`}},
		"a tab that indents":       {file: "window:\n\tsettle: 1m\n", want: []string{`2:1: found a tab, want spaces for indentation`}},
		"an unquoted colon":        {file: "name: a: b\n", want: []string{`1:7: found invalid YAML: mapping value is not allowed in this context, want keys of one level in one column, and quotes around text with ": " in it`}},
		"text over several lines": {
			file: "name: a\n  b\nlog: |\n  c\n  d\nlist: e\n  - f\n",
			want: []string{
				`1:5: found text over several lines, want quotes around it, or a block after |`,
				`6:5: found text over several lines, want quotes around it, or a block after |`,
			},
		},
		"a colon in a line of its own": {file: "name\n: x\n", want: []string{`2:1: found a colon, want its key in the same line`}},
		"an open bracket":              {file: "list: [a\n", want: []string{`1:7: invalid YAML: sequence end token ']' not found`}},
		"65 brackets":                  {file: strings.Repeat("[", 50_000), want: []string{`1:65: found too deep a nesting, want at most 64 levels`}},
		"65 dashes":                    {file: strings.Repeat("- ", 65), want: []string{`1:129: found too deep a nesting, want at most 64 levels`}},
		"too large":                    {file: "#" + strings.Repeat("x", 1<<20), want: []string{`1:1: found a file over 1 MiB, want a smaller one`}},
		"too many values":              {file: "list: [" + strings.Repeat("a,", 33_000) + "]", want: []string{`1:1: found 66004 keys, values and signs, want at most 65536`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := decode(t, tt.file, &settings{})
			if g, w := strings.Join(got, "\n"), strings.Join(tt.want, "\n"); g != w {
				t.Errorf("faults:\n%s\nwant:\n%s", g, w)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	file := "\ufeff" + `--- # one document
name: "a\tb"
on: true
count: -5
small: 255
big: 18446744073709551615
ratio: 1.5e3
every: 1d12h
size: 2KiB
mode: upsert
token: env:TOKEN
secrets: [env:TOKEN]
list:
- 1.0
- yes
- |
  two
  lines
labels: {b: x}
next: c
sources:
  orders: {api: {base: https://example.com}, preset: stripe, resources: {a: x, b: {cursor: y}, c: }}
log: debug
`
	shared, own := map[string]string{"a": "kept"}, page{Cursor: "mine"}
	got := settings{Labels: shared, List: []string{"replaced"}, Window: window{Settle: 1}, Next: &own}
	if faults := decode(t, file, &got); faults != nil {
		t.Fatalf("faults: %s", strings.Join(faults, "\n"))
	}
	if got.Token.Reveal() != "hunter2\n" || got.Token.Ref() != "env:TOKEN" || len(got.Secrets) != 1 {
		t.Errorf("token = %q from %q, and %d secrets", got.Token.Reveal(), got.Token.Ref(), len(got.Secrets))
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"Name":"a\tb","On":true,"Count":-5,"Small":255,"Tiny":0,"Big":18446744073709551615,"Ratio":1500,` +
		`"Every":129600000000000,"Size":2048,"Mode":"upsert","Token":"[redacted]","Secrets":["[redacted]"],` +
		`"List":["1.0","yes","two\nlines\n"],"Labels":{"a":"kept","b":"x"},"Next":{"Cursor":"c","Param":"after"},` +
		`"Sources":{"orders":{"API":{"Base":"https://example.com","Token":"[redacted]"},"Preset":"stripe",` +
		`"Resources":{"a":{"Cursor":"x","Param":"after"},"b":{"Cursor":"y","Param":"after"},"c":null}}},` +
		`"Window":{"Overlap":0,"Settle":1},"Log":"debug","Ignored":null,"Code":null}`
	if string(b) != want {
		t.Errorf("decoded:\n%s\nwant:\n%s", b, want)
	}
	if len(shared) != 1 {
		t.Errorf("the default map was changed: %v", shared)
	}
	if own != (page{Cursor: "mine"}) {
		t.Errorf("what a default points to was changed: %v", own)
	}
}

// A colon without a space after it is part of the text, in every style.
func TestColonsInText(t *testing.T) {
	t.Parallel()
	for _, file := range []string{
		"list: [a:b, localhost:4222, nats://h:4222/x, '::1', 12:30:00]\n",
		"list:\n- a:b\n- localhost:4222\n- nats://h:4222/x\n- ::1\n- 12:30:00\n",
		"{list: [a:b, localhost:4222, nats://h:4222/x, '::1', 12:30:00]}\n",
		"{\"list\":[a:b,localhost:4222,nats://h:4222/x,\"::1\",12:30:00]}\n",
	} {
		var got settings
		faults := decode(t, file, &got)
		if want := "a:b localhost:4222 nats://h:4222/x ::1 12:30:00"; faults != nil || strings.Join(got.List, " ") != want {
			t.Errorf("%q has %q and faults %q, want %s", file, got.List, faults, want)
		}
	}
	var got settings
	if faults := decode(t, "{token: env:TOKEN, secrets: [env:TOKEN, env:TOKEN]}\n", &got); faults != nil || len(got.Secrets) != 2 {
		t.Errorf("%d secrets and faults %q, want 2 and none", len(got.Secrets), faults)
	}
	const want = "1:2: found a key without a value, want key, colon, space and value"
	if faults := strings.Join(decode(t, "{name:x}\n", &got), "\n"); faults != want {
		t.Errorf("faults:\n%s\nwant:\n%s", faults, want)
	}
}

// What a program can't decode into is its own mistake and no fault of a file.
func TestDecodeRefusesDestinations(t *testing.T) {
	t.Parallel()
	tests := map[string]any{
		"no pointer":    settings{},
		"nothing":       nil,
		"a nil pointer": (*settings)(nil),
		"any":           new(any),
		"a field of any": &struct {
			A []any `yaml:"a"`
		}{},
		"an odd map": &struct {
			A map[int]string `yaml:"a"`
		}{},
		"inline text": &struct {
			A string `yaml:",inline"`
		}{},
		"inside a union": &struct {
			A oddUnion `yaml:"a"`
		}{},
	}
	for name, into := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := config.Decode("f", []byte("a: x\n"), into)
			var faults config.Faults
			if err == nil || errors.As(err, &faults) {
				t.Errorf("Decode() = %v, want an error that is not Faults", err)
			}
		})
	}
}

type oddUnion struct{}

func (*oddUnion) DecodeNode(n config.Node) { n.Decode(new(chan int)) }

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "tercel.yaml")
	if err := os.WriteFile(path, []byte("nmae: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := config.Load(path, &settings{})
	if want := path + `:1:1: nmae: unknown key; did you mean "name"?`; err == nil || err.Error() != want {
		t.Errorf("Load() = %v, want %s", err, want)
	}
	err = config.Load(path+".old", &settings{})
	if !errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), path) != 1 || !strings.Contains(err.Error(), "check the path") {
		t.Errorf("Load of an absent file = %v, want its name once and advice", err)
	}
	if err := config.Load(dir, &settings{}); err == nil || !strings.Contains(err.Error(), "readable file") {
		t.Errorf("Load of a folder = %v, want advice", err)
	}
}

func TestFaultJSON(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(config.Fault{File: "f", Line: 1, Column: 2, Key: "a.b", Found: "unknown key", Suggestion: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"file":"f","line":1,"column":2,"key":"a.b","found":"unknown key","suggestion":"c"}`; string(b) != want {
		t.Errorf("fault = %s, want %s", b, want)
	}
}
