package provider_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/provider"
)

// schemas decodes one schema, whose text is in a file beside the one that names it.
func schemas(t testing.TB, text string) (provider.Schemas, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "schema.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var s provider.Schemas
	err := config.Decode(filepath.Join(dir, "source.yaml"), []byte("order.*: schema.json\n"), &s)
	return s, err
}

func TestSchemaFilesAreReadWithTheirPipeline(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"no JSON":            {`{`, "unexpected EOF"},
		"no schema":          {`{"type": "thing"}`, "is not valid against metaschema"},
		"from a network":     {`{"$ref": "https://example.com/schema.json"}`, "https"},
		"from a missing one": {`{"$ref": "other.json"}`, "other.json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := schemas(t, tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "source.yaml:1:") {
				t.Errorf("Decode() = %v, want a fault of line 1 with %q", err, tt.want)
			}
		})
	}
	var s provider.Schemas
	if err := config.Decode("source.yaml", []byte("a: /no/such/file.json\n"), &s); err == nil || !strings.Contains(err.Error(), "source.yaml:1:") {
		t.Errorf("Decode() of a schema that isn't there = %v", err)
	}
}

func TestViolationsNameTheirPlace(t *testing.T) {
	t.Parallel()
	s, err := schemas(t, `{"properties": {"a/b": {"items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "n": {"maximum": 9007199254740993}}, "additionalProperties": {"maxLength": 3}}`)
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{
		`{"a/b":["x",null]}`:                            "",
		`{"a/b":["x",7]}`:                               `schema of order.*: type at "/a~1b/1"`,
		`{"n":9007199254740993}`:                        "",
		`{"n":9007199254740994}`:                        `schema of order.*: maximum at "/n"`,
		`{"other":"SECRET"}`:                            `schema of order.*: maxLength at "/other"`,
		`{"` + strings.Repeat("é", 200) + `":"SECRET"}`: `schema of order.*: maxLength at "/` + strings.Repeat("é", 99) + `"`,
	} {
		v, violated := s.Check("order.paid", []byte(body))
		if got := v.String(); violated != (want != "") || violated && got != want {
			t.Errorf("Check(%s) = %s, want %s", body, got, want)
		}
	}
	if v, violated := s.Check("thing.made", []byte(`{"n":1e99}`)); violated {
		t.Errorf("an event of another type was held against it: %s", v)
	}
}

func FuzzSchemas(f *testing.F) {
	s, err := schemas(f, `{"$defs": {"t": {"type": ["object", "array"], "items": {"$ref": "#/$defs/t"}, "additionalProperties": {"$ref": "#/$defs/t"}}}, "$ref": "#/$defs/t", "uniqueItems": true}`)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("order.paid", []byte(`{"a":[[],{}]}`))
	f.Add("order.", []byte(`[1e400,`))
	f.Fuzz(func(t *testing.T, typ string, body []byte) {
		if v, violated := s.Check(typ, body); violated && (v.Keyword == "" || len(v.At) > 200) {
			t.Errorf("%q is no place", v)
		}
	})
}

func ExampleSchemas_Check() {
	dir, err := os.MkdirTemp("", "schemas")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "order.json"), []byte(`{"required": ["total"]}`), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	var s provider.Schemas
	err = config.Decode(filepath.Join(dir, "tercel.yaml"), []byte("order.*: order.json"), &s)
	fmt.Println(err)
	fmt.Println(s.Check("order.paid", []byte(`{"id": 7}`)))
	// Output:
	// <nil>
	// schema of order.*: required at "" true
}
