package fileschema_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/services/internal/fileschema"
)

// compiled reads a schema as an editor would, and checks the schema itself.
func compiled(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	text, ok := fileschema.Of(name)
	if !ok {
		t.Fatalf("no schema %s", name)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// held holds YAML against the schema.
func held(t *testing.T, s *jsonschema.Schema, text []byte) error {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatalf("the test's own file: %v\n%s", err, text)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// What is shipped is taken: every preset, and every example.
func TestShippedFilesMatch(t *testing.T) {
	t.Parallel()
	for name, pattern := range map[string]string{
		"preset": "../../../pkg/provider/presets/*.yaml", "pipeline": "../../../deploy/examples/*.yaml",
	} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files (%v)", pattern, err)
		}
		schema := compiled(t, name)
		for _, file := range files {
			if strings.HasSuffix(file, ".test.yaml") {
				continue // tests of a pipeline file
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := held(t, schema, text); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// source is a pipeline file whose one source has more lines.
func source(lines string) string {
	return "sources:\n  orders:\n    verify: {scheme: hmac-sha256, header: X-Signature}\n    secrets: [env:A]\n" +
		"    event: {id: header.X-Id, type: body.type}\n" + lines
}

// resource is source with a resource that has more keys.
func resource(more string) string {
	return source("    api: {base: https://api.example.com}\n    resources:\n" +
		"      order: {triggers: [order.*], id: body.id, get: '/orders/{id}', version: record.v" + more + "}\n")
}

// files are what the loader takes, and what it refuses for its structure.
var files = map[string]struct {
	text    string
	refused bool
}{
	"a source":                          {text: source("")},
	"an id in alternatives":             {text: strings.Replace(source(""), "id: header.X-Id", "id: [header.X-Id, body.id]", 1)},
	"accounts as a list":                {text: source("    accounts: [north, 7]\n")},
	"accounts in a file":                {text: source("    accounts: {file: accounts.yaml, max: 10}\n")},
	"text that is a number":             {text: source("    api: {base: https://api.example.com, app: {id: 12345, key: env:A, installation: 678}}\n")},
	"durations and sizes":               {text: source("    limit: {requests: 5, per: 1d12h30m0.5s}\n    request: {max_body: 512KiB}\n    dedup: {horizon: 0}\n")},
	"a size in bytes":                   {text: source("    request: {max_body: 4096}\n")},
	"a resource":                        {text: resource("")},
	"short forms of a resource":         {text: resource(", related: {who: '/who/{record.who}'}, reconcile: {list: /orders, since: after, next: meta.next}")},
	"long forms of a resource":          {text: resource(", related: {who: {get: '/who/{record.who}', cache: 1m}}, reconcile: {list: /orders, since: {param: after, format: unix}, next: {offset: skip}, limit: {param: n}}")},
	"a preset's resources":              {text: "sources: {github: {preset: github, secrets: ['env:A'], api: {token: env:A}, resources: [issue]}}\n"},
	"a handshake off":                   {text: "sources: {slack: {preset: slack, secrets: ['env:A'], handshakes: {url_verification: off}}}\n"},
	"values of an answer":               {text: source("    handshakes:\n      one: {when: {query.a: '*'}, answer: {status: 200, json: {a: query.a, b: '=fixed', c: {hmac: query.a, encoding: hex}}}}\n")},
	"no kind of destination":            {text: source("destinations: {warehouse: {sqlite: {path: a.db}, files: }}\n")},
	"an unknown key":                    {text: source("    color: red\n"), refused: true},
	"an unknown section":                {text: source("colors: {}\n"), refused: true},
	"an unknown key deep inside":        {text: resource(", reconcile: {list: /orders, often: true}"), refused: true},
	"an unknown key of a destination":   {text: source("destinations: {warehouse: {sqlite: {file: a.db}}}\n"), refused: true},
	"an unknown key of a long form":     {text: resource(", reconcile: {list: /orders, since: {name: after}}"), refused: true},
	"an unknown key beside inlined":     {text: source("    api: {base: https://api.example.com, bearer: env:A}\n"), refused: true},
	"a list for a mapping":              {text: source("    request: [max_body]\n"), refused: true},
	"a mapping for a list":              {text: strings.Replace(source(""), "[env:A]", "{a: env:A}", 1), refused: true},
	"text for a mapping":                {text: "sources: {orders: stripe}\n", refused: true},
	"nothing for a mapping":             {text: "sources: {orders: }\n", refused: true},
	"a list for text":                   {text: source("    public_url: [https://hooks.example.com]\n"), refused: true},
	"a mapping for a short form":        {text: strings.Replace(source(""), "type: body.type", "type: {body: type}", 1), refused: true},
	"a list for a handshake":            {text: source("    handshakes: {one: [on]}\n"), refused: true},
	"a word for a handshake":            {text: source("    handshakes: {one: on}\n"), refused: true},
	"text for accounts":                 {text: source("    accounts: north\n"), refused: true},
	"another scheme":                    {text: strings.Replace(source(""), "hmac-sha256", "hmac-sha3", 1), refused: true},
	"another log level":                 {text: source("telemetry: {log_level: loud}\n"), refused: true},
	"another order":                     {text: resource(", reconcile: {list: /orders, order: random}"), refused: true},
	"another method":                    {text: source("    handshakes: {one: {method: PUT, answer: {status: 200}}}\n"), refused: true},
	"text for a number":                 {text: source("    limit: {requests: many}\n"), refused: true},
	"a broken number for a whole one":   {text: source("    limit: {requests: 1.5}\n"), refused: true},
	"text for yes or no":                {text: source("    api: {base: https://api.example.com, allow_private: sometimes}\n"), refused: true},
	"a number for a duration":           {text: source("    dedup: {horizon: 72}\n"), refused: true},
	"a duration without a unit":         {text: source("    dedup: {horizon: '72'}\n"), refused: true},
	"a duration of words":               {text: source("    dedup: {horizon: three days}\n"), refused: true},
	"a negative duration":               {text: source("    dedup: {horizon: -1h}\n"), refused: true},
	"a size of another unit":            {text: source("    request: {max_body: 1Mb/s}\n"), refused: true},
	"a negative size":                   {text: source("    request: {max_body: -1}\n"), refused: true},
	"a secret itself":                   {text: strings.Replace(source(""), "env:A", "the-secret-itself-0123456789", 1), refused: true},
	"a reference to no name":            {text: strings.Replace(source(""), "env:A", "'env:A B'", 1), refused: true},
	"a reference to a path of no begin": {text: strings.Replace(source(""), "env:A", "file:secret", 1), refused: true},
	"a list of lists":                   {text: source("    accounts: [[north]]\n"), refused: true},
}

// The schema and the strict loader are of one mind about structure.
func TestPipelineAgreesWithTheLoader(t *testing.T) {
	t.Parallel()
	schema := compiled(t, "pipeline")
	for name, tt := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := pipeline.Decode("tercel.yaml", []byte(tt.text), config.WithLookupEnv(func(string) (string, bool) {
				return "a secret of enough length 0123456789", true
			}))
			if refused := err != nil; refused != tt.refused {
				t.Fatalf("the loader says %v, want a refusal: %t\n%s", err, tt.refused, tt.text)
			}
			if err := held(t, schema, []byte(tt.text)); (err != nil) != tt.refused {
				t.Errorf("the schema says %v, want a refusal: %t\n%s", err, tt.refused, tt.text)
			}
		})
	}
}

// Files beside the pipeline file have schemas of the same kind.
func TestOtherFilesAgreeWithTheLoader(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		of, text string
		into     any
		refused  bool
	}{
		"accounts":                        {of: "accounts", text: "north: {secrets: ['env:A'], api: {token: env:A}}\nsouth: {disabled: true}\n", into: map[string]provider.Account{}},
		"an account with an unknown key":  {of: "accounts", text: "north: {key: env:A}\n", into: map[string]provider.Account{}, refused: true},
		"an account that is text":         {of: "accounts", text: "north: env:A\n", into: map[string]provider.Account{}, refused: true},
		"accounts as a list":              {of: "accounts", text: "[north]\n", into: map[string]provider.Account{}, refused: true},
		"a preset":                        {of: "preset", text: "title: Orders\nverify: {scheme: token, header: X-Token}\n", into: provider.Preset{}},
		"a preset with a source's key":    {of: "preset", text: "title: Orders\nsecrets: [env:A]\n", into: provider.Preset{}, refused: true},
		"a preset with an unknown scheme": {of: "preset", text: "title: Orders\nverify: {scheme: md5}\n", into: provider.Preset{}, refused: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			into := reflect.New(reflect.TypeOf(tt.into)).Interface()
			err := config.Decode("file.yaml", []byte(tt.text), into, config.WithLookupEnv(func(string) (string, bool) { return "value", true }))
			if refused := err != nil; refused != tt.refused {
				t.Fatalf("the loader says %v, want a refusal: %t", err, tt.refused)
			}
			if err := held(t, compiled(t, tt.of), []byte(tt.text)); (err != nil) != tt.refused {
				t.Errorf("the schema says %v, want a refusal: %t", err, tt.refused)
			}
		})
	}
}
