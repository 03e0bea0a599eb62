package field_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/field"
)

const doc = `{"id":"evt_1","ID":"upper","n":9007199254740993.10,"order":{"id":7,"lines":[{"sku":"a"},{"sku":"b"}]},"nil":null,"empty":"","yes":true,"é":"ü"}`

func TestExprFindsValues(t *testing.T) {
	t.Parallel()
	scope := field.Scope{
		Header: func(n string) string { return map[string]string{"X-Event": "issues"}[n] },
		Docs:   map[string][]byte{"body": []byte(doc)},
		Values: map[string]string{"id": "a/b"},
	}
	tests := map[string]struct {
		expr, want string
		missing    bool
	}{
		"string":                      {expr: "body.id", want: "evt_1"},
		"case decides":                {expr: "body.ID", want: "upper"},
		"number keeps its digits":     {expr: "body.n", want: "9007199254740993.10"},
		"boolean":                     {expr: "body.yes", want: "true"},
		"nested":                      {expr: "body.order.id", want: "7"},
		"array index":                 {expr: "body.order.lines.1.sku", want: "b"},
		"unicode name":                {expr: "body.é", want: "ü"},
		"header":                      {expr: "header.X-Event", want: "issues"},
		"plain value":                 {expr: "id", want: "a/b"},
		"template":                    {expr: "{header.X-Event}.{body.order.id}", want: "issues.7"},
		"literal around":              {expr: "/orders/{id}/x", want: "/orders/a/b/x"},
		"null is missing":             {expr: "body.nil", missing: true},
		"empty is missing":            {expr: "body.empty", missing: true},
		"absent":                      {expr: "body.order.none", missing: true},
		"below a scalar":              {expr: "body.id.x", missing: true},
		"index beyond the end":        {expr: "body.order.lines.2.sku", missing: true},
		"template with a missing one": {expr: "{header.X-Event}.{body.none}", missing: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := field.Parse(tt.expr, "body", "header", "id")
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.Eval(scope)
			if errors.Is(err, field.ErrMissing) != tt.missing || got != tt.want {
				t.Errorf("Eval(%s) = %q, %v, want %q, missing %t", tt.expr, got, err, tt.want, tt.missing)
			}
		})
	}
}

func TestExprFindsMany(t *testing.T) {
	t.Parallel()
	e, err := field.Parse("body.order.lines[].sku", "body")
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.All(field.Scope{Docs: map[string][]byte{"body": []byte(doc)}})
	if err != nil || strings.Join(got, " ") != "a b" {
		t.Errorf("All() = %v, %v, want [a b]", got, err)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty": "", "unknown root": "env.SECRET", "open brace": "{body.id", "closing brace": "body.id}",
		"empty segment": "body..id", "space": "body.a b", "header without a name": "header",
		"too deep": "body." + strings.Repeat("a.", 40) + "a", "stray brackets": "body.a[0]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if e, err := field.Parse(text, "body", "header"); err == nil {
				t.Errorf("Parse(%q) = %v, want an error", text, e)
			}
		})
	}
}

func TestBuildEscapesValuesOnly(t *testing.T) {
	t.Parallel()
	e, err := field.Parse("/orders/{id}?x=1", "id")
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.Build(field.Scope{Values: map[string]string{"id": "../admin?y"}}, url.PathEscape)
	if want := "/orders/..%2Fadmin%3Fy?x=1"; err != nil || got != want {
		t.Errorf("Build() = %q, %v, want %q", got, err, want)
	}
}

func TestValidIsStrict(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		doc string
		ok  bool
	}{
		"object":           {`{"a":1}`, true},
		"spaces around":    {" {\"a\":1}\n", true},
		"scalar":           {`1`, true},
		"duplicate name":   {`{"a":1,"a":2}`, false},
		"nested twice":     {`{"a":{"b":1,"b":1}}`, false},
		"broken UTF-8":     {"{\"a\":\"\xff\"}", false},
		"BOM":              {"\ufeff{}", false},
		"two values":       {`{} {}`, false},
		"cut":              {`{"a":`, false},
		"empty":            {``, false},
		"lone surrogate":   {`{"a":"\ud800"}`, false},
		"deep":             {strings.Repeat("[", 20000) + strings.Repeat("]", 20000), false},
		"trailing rubbish": {`{}x`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := field.Valid([]byte(tt.doc)); (err == nil) != tt.ok {
				t.Errorf("Valid() = %v, want ok %t", err, tt.ok)
			}
		})
	}
}

// What is bound needs its document no more, and finds the same.
func TestBindReplacesWhatIsThere(t *testing.T) {
	t.Parallel()
	body := map[string][]byte{"body": []byte(`{"topic":"orders"}`)}
	item := map[string][]byte{"item": []byte(`{"kind":"paid"}`)}
	for text, want := range map[string]string{
		"body.topic": "orders", "{body.topic}.{item.kind}": "orders.paid", "item.kind": "paid", "{body.none}.{item.kind}": "",
	} {
		e, err := field.Parse(text, "body", "item")
		if err != nil {
			t.Fatal(err)
		}
		bound, err := e.Bind(field.Scope{Docs: body})
		if (err != nil) != (want == "") || err != nil && !errors.Is(err, field.ErrMissing) {
			t.Errorf("Bind(%s) = %v", text, err)
		}
		if err != nil {
			continue
		}
		if got, err := bound.Eval(field.Scope{Docs: item}); err != nil || got != want {
			t.Errorf("%s bound to the body = %q, %v, want %q", text, got, err, want)
		}
	}
}

func FuzzExpr(f *testing.F) {
	f.Add("body.order.lines[].sku", []byte(doc))
	f.Add("{body.id}x{body.n}", []byte(`{"id":[1,{"n":null}]}`))
	f.Add("body.0", []byte(`[1,`))
	f.Fuzz(func(t *testing.T, text string, doc []byte) {
		e, err := field.Parse(text, "body", "header")
		if err != nil {
			return
		}
		s := field.Scope{Docs: map[string][]byte{"body": doc}}
		one, errOne := e.Eval(s)
		if errOne == nil && one == "" && e.Uses("body") {
			t.Errorf("Eval(%q) gave an empty value without an error", text)
		}
		_, _ = e.All(s)
		_ = field.Valid(doc)
	})
}

func ExampleExpr_Eval() {
	e, _ := field.Parse("{header.X-GitHub-Event}.{body.action}", "header", "body")
	fmt.Println(e.Eval(field.Scope{
		Header: func(string) string { return "issues" },
		Docs:   map[string][]byte{"body": []byte(`{"action":"opened"}`)},
	}))
	// Output: issues.opened <nil>
}
