package field_test

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/field"
)

func TestReplaceLeavesNoValueAtThePath(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ path, doc, want string }{
		"a member":                        {"a", `{ "a" : 1, "b":2 }`, `{ "a" : X, "b":2 }`},
		"below a member":                  {"a.b", `{"a":{"b":[1,2],"c":3},"b":4}`, `{"a":{"b":X,"c":3},"b":4}`},
		"each element":                    {"a[].b", `{"a":[{"b":1},{"c":2}, {"b":3}]}`, `{"a":[{"b":X},{"c":2}, {"b":X}]}`},
		"each element, without []":        {"a.b", `{"a":[{"b":1},[{"b":2}]]}`, `{"a":[{"b":X},[{"b":X}]]}`},
		"an object in place of an array":  {"a[].b", `{"a":{"b":1}}`, `{"a":{"b":X}}`},
		"one element":                     {"a.1", `{"a":[1,2,3]}`, `{"a":[1,X,3]}`},
		"one element of each":             {"a[].1", `{"a":[[0,0,2],[0,0],[0]]}`, `{"a":[[0,X,2],[0,X],[0]]}`},
		"each of one element":             {"a.1[].b", `{"a":[[{"b":0}],[{"b":1},{"b":2}]]}`, `{"a":[[{"b":0}],[{"b":X},{"b":X}]]}`},
		"a member whose name is a number": {"a.1", `{"a":{"1":2}}`, `{"a":{"1":X}}`},
		"a doubled member":                {"a", `{"a":1,"a":2}`, `{"a":X,"a":X}`},
		"an escaped name":                 {"a", `{"\u0061":1}`, `{"\u0061":X}`},
		"another case":                    {"a", `{"A":1}`, `{"A":1}`},
		"the whole document":              {"", ` {"a":1} `, ` X `},
		"below a text":                    {"a.b", `{"a":"{\"b\":1}"}`, `{"a":"{\"b\":1}"}`},
		"nothing there":                   {"a.b", `{"c":1}`, `{"c":1}`},
		"an empty array":                  {"a.b", `{"a":[]}`, `{"a":[]}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := field.ParsePath(tt.path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Replace([]byte(tt.doc), func(jsontext.Value) []byte { return []byte("X") })
			if err != nil || string(got) != tt.want {
				t.Errorf("Replace() = %s, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func TestReplaceRefusesWhatIsNotJSON(t *testing.T) {
	t.Parallel()
	p, err := field.ParsePath("a")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range []string{``, `{`, `{"a":1} {`, `{"a":}`, "{\"a\":\"\xff\"}", `{"b":1,}`} {
		if got, err := p.Replace([]byte(doc), func(jsontext.Value) []byte { return nil }); err == nil {
			t.Errorf("Replace(%q) = %q, want an error", doc, got)
		}
	}
}

// What comes out is JSON whenever what went in was, and has the value nowhere
// that the path leads to.
func FuzzReplace(f *testing.F) {
	f.Add("a.b", `{"a":[{"b":1},{"b":{"b":2}}]}`)
	f.Add("", `1`)
	f.Add("a[].0", `{"a":[[1,2],3]}`)
	f.Add("a[].1", `{"a":[[0,0]]}`)
	f.Fuzz(func(t *testing.T, path, doc string) {
		p, err := field.ParsePath(path)
		if err != nil {
			return
		}
		out, err := p.Replace([]byte(doc), func(jsontext.Value) []byte { return []byte("null") })
		if err != nil {
			return
		}
		if field.Valid([]byte(doc)) == nil && field.Valid(out) != nil {
			t.Fatalf("Replace(%q) of %q = %q, which is no JSON", doc, path, out)
		}
		if all, err := p.All(out); err == nil {
			for _, v := range all {
				if string(v) != "null" {
					t.Fatalf("Replace(%q) left %q at %q", doc, v, path)
				}
			}
		}
	})
}
