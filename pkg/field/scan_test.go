package field_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/field"
)

// scanned are expressions that a scan of one pass has to tell apart: values
// beside, above and below each other, indexes that could be names, and repeats.
var scanned = []string{
	"body.id", "body.order.id", "body.order", "body.order.lines.1.sku", "body.order.lines.0", "body.order.lines[].sku",
	"body.0", "body.nil", "body.empty", "body.id.x", "body.é", "body.id", "body.a.b.c.d", "body.yes", "body.n",
	"{body.order.id}.{body.yes}",
}

func expressions(t testing.TB) (all []field.Expr, paths []field.Path) {
	t.Helper()
	for _, text := range scanned {
		e, err := field.Parse(text, "body")
		if err != nil {
			t.Fatal(err)
		}
		all, paths = append(all, e), slices.AppendSeq(paths, e.Paths("body"))
	}
	return all, paths
}

// checkScan holds a scan, and [field.Valid], against package jsontext's reading
// of the whole and of each expression.
func checkScan(t *testing.T, doc []byte) {
	t.Helper()
	all, paths := expressions(t)
	scan, err := field.NewScan("body", doc, paths)
	if want := jsontext.Value(doc).IsValid(); (err == nil) != want {
		t.Fatalf("NewScan(%q) = %v, want ok %t", doc, err, want)
	}
	if valid := field.Valid(doc); fmt.Sprint(err) != fmt.Sprint(valid) {
		t.Fatalf("Valid(%q) = %v, and NewScan says %v", doc, valid, err)
	}
	if err != nil {
		return
	}
	for _, e := range all {
		docs := map[string][]byte{"body": doc}
		want, wantErr := e.Eval(field.Scope{Docs: docs})
		got, gotErr := e.Eval(field.Scope{Docs: docs, Scan: scan})
		if got != want || (gotErr == nil) != (wantErr == nil) || errors.Is(gotErr, field.ErrMissing) != errors.Is(wantErr, field.ErrMissing) {
			t.Errorf("%s in %q: %q, %v from the scan, want %q, %v", e, doc, got, gotErr, want, wantErr)
		}
	}
}

var scannedDocs = []string{
	doc, ` {"order":{"id":1},"id":"a"} `, `[{"id":1},2]`, `{"0":"zero"}`, `"text"`, `1`, ``, `{`, `{}x`, `{} {}`, `{"a":1,"a":2}`,
	`{"order":{"lines":[{"sku":"a","sku":"b"}]}}`, `{"id":"a"}`, `{"order":{"lines":[]}}`, `{"order":[]}`, `{"id":[1,2]}`,
	"{\"id\":\"\xff\"}", `{"id":"\ud800"}`, `{"a":{"b":{"c":{"d":true}}}}`, `{"order" : {"lines" : [ 1 , {"sku" : "b"} ]}}`,
	`{"order":{"lines":[1,2`, `{"id":}`, `{"id":tru}`, "\ufeff{}", `{"é":1}`, `{"id\u0000":1}`,
	// What is refused behind a beginning that is well, and what is nearly so.
	`{"a":1,}`, `{,}`, `{"a"}`, `{"a":1 "b":2}`, `[1,]`, `[,1]`, `[1 2]`, `[]]`, `{"a":[}`, `"`, `"a`, `"a"b`, "\"a\tb\"", "\"12345678\x1f\"",
	"\"\x7f\"", `[-]`, `[01]`, `[1.]`, `[.5]`, `[1e]`, `[1e+]`, `[+1]`, `[-0.5E-07,10,0,1e5]`, `[nul]`, `[truefalse]`, `[Null]`, "[\f1]", "[\u00a01]",
	// Names alike in what a hash of them sees, or spelled in two ways.
	`{"abcdefgh":1,"abcdefghi":2,"abcdefgh_ijklmnop":3,"abcdefgh-ijklmnop":4}`, `{"abcdefgh_ijklmnop":3,"abcdefgh_ijklmnop":4}`,
	`{"ab":{"ab":1},"c":2,"ab":3}`, `{"":1,"":2}`, `{"a":1,"\u0061":2}`, `{"x":0,"a":{"b":1},"b":2,"a":3}`, `{"0123456":[{}],"0123456":0}`,
	// Escapes.
	`["\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00"]`, `["\ud83d"]`, `["\ud83dx"]`, `["\ud83d\u0061"]`, `["\ude00\ud83d"]`, `["\ude00\ude00"]`, `["\u12"]`, `["\u12g4"]`, `["\x41"]`, `["\`, `["\"`,
	strings.Repeat("[", 65) + strings.Repeat("]", 65), strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70),
	manyNames(600, ""), manyNames(300, `,"name 7":0`), "[" + manyNames(300, "") + "," + manyNames(300, "") + "]", " \n\t\r1 ",
}

// manyNames is an object of n members and some more.
func manyNames(n int, more string) string {
	doc := `{"first":0`
	for i := range n {
		doc += fmt.Sprintf(`,"name %d":%d`, i, i)
	}
	return doc + more + "}"
}

func TestScanFindsWhatReadingFinds(t *testing.T) {
	t.Parallel()
	for _, doc := range scannedDocs {
		t.Run(doc, func(t *testing.T) {
			t.Parallel()
			checkScan(t, []byte(doc))
		})
	}
}

// Only expressions over the scanned document look into the scan, and those that
// it wasn't made for read the document.
func TestScanAnswersForItsOwnPathsOnly(t *testing.T) {
	t.Parallel()
	_, paths := expressions(t)
	paths = append(paths, field.Path{})
	scan, err := field.NewScan("body", []byte(`{"id":"of the body","other":"x"}`), paths)
	if err != nil {
		t.Fatal(err)
	}
	scope := field.Scope{Scan: scan, Docs: map[string][]byte{"body": []byte(`{"id":"read","other":"read"}`), "item": []byte(`"the item"`)}}
	for text, want := range map[string]string{"body.other": "read", "item": "the item"} {
		e, err := field.Parse(text, "body", "item")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.Eval(scope); got != want || err != nil {
			t.Errorf("%s = %q, %v, want %q", text, got, err, want)
		}
	}
}

func FuzzScan(f *testing.F) {
	for _, doc := range scannedDocs {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) { checkScan(t, doc) })
}

// BenchmarkScan compares one pass with a check and a reading for each value.
func BenchmarkScan(b *testing.B) {
	var paths []field.Path
	var all []field.Expr
	for _, text := range []string{"body.id", "body.type", "body.created"} {
		e, err := field.Parse(text, "body")
		if err != nil {
			b.Fatal(err)
		}
		all, paths = append(all, e), slices.AppendSeq(paths, e.Paths("body"))
	}
	doc := []byte(`{"id":"evt_1","created":1760000000,"data":{"lines":[`)
	for i := range 10 {
		doc = fmt.Appendf(doc, `{"id":"li_%d","object":"line","amount":%d,"currency":"eur","description":"one of the lines of an invoice",`+
			`"period":{"start":1760000000,"end":1762678400},"proration":false,"quantity":1},`, i, i)
	}
	doc = append(doc, `null]},"livemode":true,"type":"invoice.paid"}`...)
	eval := func(b *testing.B, s field.Scope) {
		for _, e := range all {
			if _, err := e.Eval(s); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("apart", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := field.Valid(doc); err != nil {
				b.Fatal(err)
			}
			eval(b, field.Scope{Docs: map[string][]byte{"body": doc}})
		}
	})
	b.Run("in one pass", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			scan, err := field.NewScan("body", doc, paths)
			if err != nil {
				b.Fatal(err)
			}
			eval(b, field.Scope{Scan: scan})
		}
	})
}
