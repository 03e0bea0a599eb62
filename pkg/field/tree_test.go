package field_test

import (
	"fmt"
	"testing"
	"unicode/utf8"

	"github.com/tercelhq/tercel/pkg/field"
)

func TestTreeKeepsWhatIsNamed(t *testing.T) {
	t.Parallel()
	const doc = ` {"id":7, "big": 9007199254740993.10,"order":{"id": "a","lines":[{"sku":"x","n":1}, 3,{"n":2}],"none":null},"é":"ü"}`
	tests := map[string]struct {
		paths []string
		want  string
	}{
		"one":                           {[]string{"big"}, `{"big":9007199254740993.10}`},
		"in the document's order":       {[]string{"é", "id"}, `{"id":7,"é":"ü"}`},
		"a whole object":                {[]string{"order"}, `{"order":{"id": "a","lines":[{"sku":"x","n":1}, 3,{"n":2}],"none":null}}`},
		"below an object":               {[]string{"order.id", "order.none"}, `{"order":{"id":"a","none":null}}`},
		"of each element":               {[]string{"order.lines[].sku"}, `{"order":{"lines":[{"sku":"x"},3,{}]}}`},
		"of each element, without []":   {[]string{"order.lines.sku"}, `{"order":{"lines":[{"sku":"x"},3,{}]}}`},
		"absent":                        {[]string{"none", "order.nothing"}, `{"order":{}}`},
		"below what is no object":       {[]string{"id.x"}, `{"id":7}`},
		"names are escaped as they are": {[]string{`é`}, `{"é":"ü"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree, err := field.ParseTree(tt.paths)
			if err != nil {
				t.Fatal(err)
			}
			if got := tree.Of([]byte(doc)); string(got) != tt.want {
				t.Errorf("Of() = %s, want %s", got, tt.want)
			}
			if got := tree.Of([]byte(`"text"`)); string(got) != `"text"` {
				t.Errorf("Of() a text = %s, want it as it is", got)
			}
		})
	}
}

func TestParseTreeRefuses(t *testing.T) {
	t.Parallel()
	for name, paths := range map[string][]string{
		"none": nil, "the whole": {""}, "twice": {"a", "a"}, "one below another": {"a", "a.b"}, "one above another": {"a.b", "a"}, "no path": {"a..b"},
	} {
		if _, err := field.ParseTree(paths); err == nil {
			t.Errorf("%s: ParseTree(%q) is no error", name, paths)
		}
	}
}

func TestSetPutsAValueInItsPlace(t *testing.T) {
	t.Parallel()
	const doc = `{"id": 7,"customer":{"ref":"c1"},"list":[1]}`
	tests := map[string]struct{ path, want string }{
		"in another's place":      {"customer.ref", `{"id":7,"customer":{"ref":{"x":1}},"list":[1]}`},
		"in an object's place":    {"customer", `{"id":7,"customer":{"x":1},"list":[1]}`},
		"as a new member":         {"customer.full", `{"id":7,"customer":{"ref":"c1","full":{"x":1}},"list":[1]}`},
		"at the root":             {"new", `{"id":7,"customer":{"ref":"c1"},"list":[1],"new":{"x":1}}`},
		"below nothing":           {"none.x", ""},
		"below what is no object": {"id.x", ""},
		"below an array":          {"list.0", ""},
		"the whole":               {"", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := field.ParsePath(tt.path)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := p.Set([]byte(doc), []byte(`{"x":1}`))
			if ok != (tt.want != "") || ok && string(got) != tt.want {
				t.Errorf("Set() = %s, %t, want %s", got, ok, tt.want)
			}
		})
	}
	p, _ := field.ParsePath("a")
	if got, ok := p.Set([]byte(`{}`), []byte(`1`)); !ok || string(got) != `{"a":1}` {
		t.Errorf("Set() in an empty object = %s, %t", got, ok)
	}
}

// What is taken from a valid document, or put into one, is one again.
func FuzzTree(f *testing.F) {
	f.Add("a.b", `{"a":[{"b":1,"c":2}],"d":"\u00e9"}`)
	f.Add("x", `{"x":{"y":[]},"\u0078y":1}`)
	f.Fuzz(func(t *testing.T, path, doc string) {
		p, err := field.ParsePath(path)
		tree, treeErr := field.ParseTree([]string{path})
		if err != nil || treeErr != nil || !utf8.ValidString(path) || field.Valid([]byte(doc)) != nil {
			return
		}
		kept := tree.Of([]byte(doc))
		if err := field.Valid(kept); err != nil {
			t.Errorf("Of(%q) = %q: %v", doc, kept, err)
		}
		if again := tree.Of(kept); string(again) != string(kept) {
			t.Errorf("Of() = %q, and of that %q", kept, again)
		}
		if set, ok := p.Set([]byte(doc), []byte(`[1]`)); ok {
			if err := field.Valid(set); err != nil {
				t.Errorf("Set(%q) = %q: %v", doc, set, err)
			}
			if v, err := p.One(set); err != nil || string(v) != `[1]` {
				t.Errorf("Set(%q) = %q, where %q is %q, %v", doc, set, path, v, err)
			}
		}
	})
}

func ExampleTree_Of() {
	tree, _ := field.ParseTree([]string{"id", "lines[].sku"})
	fmt.Printf("%s\n", tree.Of([]byte(`{"id":7,"note":"long","lines":[{"sku":"a","price":1.50}]}`)))
	// Output: {"id":7,"lines":[{"sku":"a"}]}
}
