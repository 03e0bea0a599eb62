package contract_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/contract"
)

const file = `
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:A]
    event: {id: header.X-Id, type: body.type}
    api: {base: https://api.example.com}
    resources:
      order:
        triggers: [order.*]
        id: body.id
        get: /orders/{id}
        version: record.v
        related:
          customer: {get: "/customers/{record.customer_id}", optional: true}
          lines: {list: {path: "/orders/{id}/lines", items: lines}}
          payer: {get: "/payers/{record.payer.id}", merge: {replace: record.payer}}
nats: {url: "nats://reader:password@one.example.com:4222,two.example.com:4222"}
`

func decoded(t *testing.T, text string) *pipeline.File {
	t.Helper()
	f, err := pipeline.Decode("tercel.yaml", []byte(text), config.WithLookupEnv(func(string) (string, bool) {
		return "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of enough length")), true
	}))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// schema compiles one definition of the schema of events.
func schema(t *testing.T, f *pipeline.File, definition string) *jsonschema.Schema {
	t.Helper()
	text, err := contract.Events(f)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("events.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("events.json" + definition)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBodiesMatchTheirSchema(t *testing.T) {
	t.Parallel()
	f := decoded(t, file)
	const order, other, anything = "#/$defs/orders.order", "#/$defs/orders._event", ""
	for name, tt := range map[string]struct {
		of, body string
		refused  bool
	}{
		"a record":                       {order, `{"trigger":{"a":1},"record":{"id":"1"},"related":{"customer":null,"lines":[{}]},"truncated":["lines"]}`, false},
		"a record by reconciliation":     {order, `{"trigger":null,"record":{"id":"1"}}`, false},
		"a tombstone":                    {order, `{"trigger":{},"record":null,"deleted":true}`, false},
		"what later versions add":        {order, `{"trigger":{},"record":{},"more":1}`, false},
		"any of them":                    {anything, `{"trigger":"AAEC","record":null}`, false},
		"no record":                      {order, `{"trigger":{}}`, true},
		"a record that is text":          {order, `{"trigger":{},"record":"1"}`, true},
		"a list that is none":            {order, `{"trigger":{},"record":{},"related":{"lines":{}}}`, true},
		"an unknown list that goes on":   {order, `{"trigger":{},"record":{},"truncated":["customer"]}`, true},
		"an event about no record":       {other, `{"trigger":{"a":1},"record":null}`, false},
		"a record where there can't be":  {other, `{"trigger":{},"record":{}}`, true},
		"what is no event of any source": {anything, `[]`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema(t, f, tt.of).Validate(doc); (err != nil) != tt.refused {
				t.Errorf("%s: %v, want refused: %t", tt.body, err, tt.refused)
			}
		})
	}
}

// What logs in to the server is nobody's who reads the document, and a record
// that another one stands in says so.
func TestAsyncAPISaysWhereAndWhat(t *testing.T) {
	t.Parallel()
	text, err := contract.AsyncAPI(decoded(t, file))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"host": "one.example.com:4222"`, `"host": "two.example.com:4222"`, `"address": "tercel.enriched.orders.{account}.{type}"`, "payer stands at record.payer"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("the document lacks %s", want)
		}
	}
	if bytes.Contains(text, []byte("password")) || bytes.Contains(text, []byte("reader")) {
		t.Error("the document holds what logs in")
	}
	f := decoded(t, file)
	f.NATS.URL = "nats://one.example.com:4222, :\x00"
	if _, err := contract.AsyncAPI(f); err == nil || !strings.Contains(err.Error(), "address 2") {
		t.Errorf("AsyncAPI() = %v, want a fault of the second address", err)
	}
}

const parserPackage = "@asyncapi/parser@3.6.3"

// check reads documents with the parser of the AsyncAPI Initiative, and prints
// what it finds wrong.
const check = `
const {Parser} = require('@asyncapi/parser'), fs = require('fs');
(async () => {
  for (const name of process.argv.slice(2)) {
    const {document, diagnostics} = await new Parser().parse(fs.readFileSync(name, 'utf8'));
    for (const d of diagnostics) if (d.severity === 0) console.log(name, d.path.join('.'), d.message);
    if (!document) console.log(name, 'is no document');
    else if (document.version() !== '3.0.0' || document.messages().all().length === 0) console.log(name, 'has no messages');
  }
})();
`

// The official parser takes the document of every example.
func TestDocumentsOfAllExamplesAreAsyncAPI(t *testing.T) {
	t.Parallel()
	modules := parser(t)
	dir := t.TempDir()
	files, err := filepath.Glob("../../../deploy/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples (%v)", err)
	}
	args := []string{"-e", check, "--"}
	for _, name := range files {
		if strings.HasSuffix(name, ".test.yaml") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := pipeline.Decode(name, text, config.WithLookupEnv(func(of string) (string, bool) {
			return "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of enough length of "+of)), true
		}))
		if err != nil {
			continue // it wants files, which the examples' own test makes
		}
		document, err := contract.AsyncAPI(f)
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(dir, filepath.Base(name)+".json")
		if err := os.WriteFile(at, document, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, at)
	}
	broken := filepath.Join(dir, "broken.json")
	if err := os.WriteFile(broken, []byte(`{"asyncapi":"3.0.0","info":{"title":"A"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if len(args) < 10 {
		t.Errorf("%d examples looked at, want more", len(args)-3)
	}
	for document, wrong := range map[string]bool{"": false, broken: true} {
		cmd := exec.CommandContext(t.Context(), "node", append(args, strings.Fields(document)...)...)
		cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
		out, err := cmd.CombinedOutput()
		if err != nil || (len(out) > 0) != wrong || bytes.Contains(out, []byte("yaml.json")) {
			t.Errorf("%v, %s; want faults: %t", err, out, wrong)
		}
	}
}

// parser gets the parser from the npm registry, once for all tests of a user,
// and returns the folder that it is in.
func parser(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "tercel", strings.TrimPrefix(parserPackage, "@"))
	modules := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(filepath.Join(modules, "@asyncapi", "parser")); err == nil {
		return modules
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("missing: npm, which brings ", parserPackage)
		}
		t.Skip("missing: npm, which brings ", parserPackage)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "fresh-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(fresh) })
	if out, err := exec.CommandContext(t.Context(), npm, "install", "--silent", "--no-save", "--ignore-scripts", "--prefix", fresh, parserPackage).CombinedOutput(); err != nil {
		t.Fatalf("npm install %s: %v\n%s", parserPackage, err, out)
	}
	if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return modules
}
