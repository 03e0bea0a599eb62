package ingress_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/services/ingress"
)

const schemaSources = `
sources:
  warned:
    verify: {scheme: none, insecure: true}
    event: {id: body.id, type: body.kind}
    request: {schemas: {order.*: schemas/order.json}}
  enforced:
    verify: {scheme: none, insecure: true}
    event: {split: body, id: item.id, type: item.kind}
    request: {schemas: {order.paid: schemas/order.json}, schema_mode: enforce}
  prescribed:
    verify: {scheme: none, insecure: true}
    event: {id: body.id, type: body.kind}
    request: {schemas: {">": schemas/order.json}, schema_mode: enforce}
    reply: {refused: 498}
`

// schemaFiles are an order's schema and what it refers to.
var schemaFiles = map[string]string{
	"schemas/order.json":  `{"type": "object", "required": ["id", "total"], "properties": {"total": {"$ref": "amount.json"}}}`,
	"schemas/amount.json": `{"type": "number", "minimum": 0}`,
}

// checking returns the sources above, with their schemas in files.
func checking(t testing.TB) map[string]provider.Source {
	t.Helper()
	dir := t.TempDir()
	for name, text := range schemaFiles {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := pipeline.Decode(filepath.Join(dir, "tercel.yaml"), []byte(schemaSources), config.WithLookupEnv(func(string) (string, bool) { return "", false }))
	if err != nil {
		t.Fatal(err)
	}
	return f.Sources
}

// What doesn't match is stored where its schema warns, and refused with all
// that came with it where it is enforced. It is counted, and told without a value.
func TestEventsAreHeldAgainstTheirSchemas(t *testing.T) {
	t.Parallel()
	before := counted(t)
	f := setup(t, func(c *ingress.Config) { c.Sources = checking(t) })
	for _, tt := range []struct {
		source, body string
		status       int
		messages     uint64 // that are stored by then
		text         string
	}{
		{"warned", `{"id":"1","kind":"order.paid","total":1,"more":true}`, 200, 1, ""},
		{"warned", `{"id":"2","kind":"order.paid","total":"SECRET"}`, 200, 2, ""},
		{"warned", `{"id":"3","kind":"order.paid"}`, 200, 3, ""},
		{"warned", `{"id":"4","kind":"thing.made"}`, 200, 4, ""},
		{"enforced", `[{"id":"1","kind":"order.paid","total":1},{"id":"2","kind":"order.paid","total":-5}]`, 422, 4, `schema of order.paid: minimum at "/total"`},
		{"enforced", `[{"id":"1","kind":"order.paid","total":1},{"id":"2","kind":"order.sent","total":-5}]`, 200, 7, ""},
		{"prescribed", `{"id":"1","kind":"any","total":"SECRET"}`, 498, 7, `schema of >: type at "/total"`},
	} {
		ex, err := ingress.Explain(tt.source, f.sources[tt.source], post("/v1/"+tt.source, tt.body).raw(), at)
		if err != nil || ex.Status != tt.status {
			t.Errorf("%s: explained as %+v, %v", tt.body, ex, err)
		}
		r := f.send(post("/v1/"+tt.source, tt.body))
		if r.code != tt.status || r.Error != tt.text || f.stored() != tt.messages {
			t.Errorf("%s: answered %+v with %d messages stored, want %d, %q and %d", tt.body, r, f.stored(), tt.status, tt.text, tt.messages)
		}
	}
	if log := f.log.String(); strings.Count(log, "is stored all the same") != 1 || !strings.Contains(log, `"at":"/total","keyword":"type"`) || strings.Contains(log, "SECRET") {
		t.Errorf("want one line on what was stored all the same, without its value, in:\n%s", log)
	}
	now := counted(t)
	for what, want := range map[string]int64{
		"tercel.schemas.violated warned ": 2, "tercel.schemas.violated enforced ": 1, "tercel.requests.answered enforced refused_schema": 1,
	} {
		if got := now[what] - before[what]; got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
}

// A schema asks for JSON, even where no expression looks into the body.
func TestSchemasAskForJSON(t *testing.T) {
	t.Parallel()
	sources := checking(t)
	src := sources["warned"]
	if src.Event.ID, src.Event.Type = nil, sources["warned"].Event.Type; !src.NeedsJSON() {
		t.Error("a source with schemas takes what isn't JSON")
	}
	f := setup(t, func(c *ingress.Config) { c.Sources = sources })
	if r := f.send(post("/v1/warned", `{"id":"1","kind":"order.paid","total":1,"total":2}`)); r.code != http.StatusBadRequest {
		t.Errorf("a name that is there twice was answered %+v", r)
	}
}
