package mapping_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/mapping"
)

func parsed(t testing.TB, text string) mapping.Expr {
	t.Helper()
	e, err := mapping.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func document() *mapping.Document {
	return &mapping.Document{
		Event: event.Event{
			ID: "evt_1", Source: "orders", Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook,
			Resource: "order", RecordID: "7", Version: "n1", ReceivedAt: time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC),
		},
		Trigger: jsontext.Value(`{"livemode":false}`),
		Record:  jsontext.Value(`{"id":7,"z":1,"a":{"b":[1,2]},"name":"Ann","big":900719925474099312,"price":1.10,"huge":1e400,"minus":-0}`),
		Related: jsontext.Value(`{"customer":{"id":"c9"}}`),
	}
}

func TestValue(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ expr, want string }{
		"the event's attributes": {
			`.event`, `{"account":null,"deleted":false,"delivery_id":null,"id":"evt_1","observed_at":null,"origin":"webhook","part":null,` +
				`"received_at":"2026-03-01T12:00:00.000000005Z","record_id":"7","resource":"order","source":"orders","time":null,"type":"order.paid","version":"n1"}`,
		},
		"rename and select":                      {`{key: .record.id, who: .related.customer.id}`, `{"key":7,"who":"c9"}`},
		"an identifier of 18 digits":             {`.record.big`, `900719925474099312`},
		"it is compared exactly":                 {`.record.big == 900719925474099313`, `false`},
		"it is calculated with exactly":          {`.record.big + 1`, `900719925474099313`},
		"beyond 64 bits too":                     {`.record.big * .record.big`, `811296384146067018719153357638873344`},
		"a text is repeated":                     {`"ab" * 3`, `"ababab"`},
		"a number of times":                      {`[3 * "ab", "ab" * 0, "ab" * -1]`, `["ababab","",null]`},
		"numbers are updated by multiplication":  {`[.record | .id *= 3, (.id *= .z + 1) | .id]`, `[21,14]`},
		"objects are merged by it":               {`{a: {b: 1}} * {a: {c: 2}}`, `{"a":{"b":1,"c":2}}`},
		"many values are":                        {`[(1, 2) * (10, 100)]`, `[10,20,100,200]`},
		"a decimal that is left alone":           {`[.record.price]`, `[1.10]`},
		"a decimal that is calculated with":      {`.record.price + 0`, `1.1`},
		"a number that no float can hold":        {`.record.huge`, `1e400`},
		"it becomes the largest float when used": {`.record.huge + 0`, `1.7976931348623157e+308`},
		"a minus before zero":                    {`.record.minus`, `-0`},
		"members are sorted":                     {`{z: 1, a: 2}`, `{"a":2,"z":1}`},
		"what is not there is null":              {`.record.none.deeper`, `null`},
		"a text that is no UTF-8":                {`"\/w==" | @base64d`, "\"\ufffd\""},
		"a text with what JSON escapes":          {`"a\"\n\u0000<"`, `"a\"\n\u0000<"`},
		"a hidden error":                         {`.record.name.x? // "none"`, `"none"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parsed(t, tt.expr).Value(t.Context(), document())
			if err != nil || string(got) != tt.want {
				t.Errorf("%s = %s, %v, want %s", tt.expr, got, err, tt.want)
			}
		})
	}
}

func TestBool(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]bool{
		`.trigger.livemode == false`: true, `.record.id > 7`: false, `.event.type | startswith("order.")`: true,
	} {
		if got, err := parsed(t, expr).Bool(t.Context(), document()); err != nil || got != want {
			t.Errorf("%s = %v, %v, want %v", expr, got, err, want)
		}
	}
	for expr, want := range map[string]string{
		`.record.none`: "gives null, want true or false", `"false"`: "gives a string, want true or false",
		`empty`: "gives nothing, want one value", `true, true`: "gives several values, want one", `null, null`: "gives several values",
	} {
		_, err := parsed(t, expr).Bool(t.Context(), document())
		if err == nil || !strings.Contains(err.Error(), want) || !fault.IsPermanent(err) {
			t.Errorf("%s: %v, want a permanent %q", expr, err, want)
		}
	}
}

// An expression is checked when it is loaded, with jq's own message.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		".a | ]":                     `jq: unexpected token "]" at line 1, column 6 of the expression`,
		".a |\n  (.b":                "jq: unexpected EOF at line 2, column 6 of the expression",
		`"é" | }`:                    `jq: unexpected token "}" at line 1, column 7 of the expression`,
		`"open`:                      "jq: unterminated string literal",
		"nope(.a)":                   "jq: function not defined: nope/1",
		"$x":                         "jq: variable not defined: $x",
		"input":                      "jq: input is not to be had: an expression has one document",
		"[inputs]":                   "jq: inputs is not to be had",
		"now":                        "jq: now is not to be had: an event that is handled again would give another answer",
		"0 | localtime":              "jq: localtime is not to be had",
		`{a: [1 | now]}`:             "jq: now is not to be had",
		`def f: now; f`:              "jq: now is not to be had",
		`"\(now)"`:                   "jq: now is not to be had",
		`.[now:]`:                    "jq: now is not to be had",
		"$ENV.HOME":                  "jq: $ENV is not to be had",
		"env | keys":                 "jq: env is not to be had",
		`debug("x")`:                 "jq: debug is not to be had",
		"halt":                       "jq: halt is not to be had",
		`import "m" as m; m::f`:      "jq: modules are not to be had",
		`include "m"; f`:             "jq: modules are not to be had",
		`if . then input else . end`: "jq: input is not to be had",
	} {
		if _, err := mapping.Parse(expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%s) = %v, want %q", expr, err, want)
		}
	}
}

// The place of an expression is known when it is refused and when it fails.
func TestPlaces(t *testing.T) {
	t.Parallel()
	var file struct {
		Drop mapping.Expr `yaml:"drop"`
		When mapping.Expr `yaml:"when"`
	}
	err := config.Decode("p.yaml", []byte("drop: .a | ]\nwhen:\n"), &file)
	for _, want := range []string{
		`p.yaml:1:7: drop: found jq: unexpected token "]" at line 1, column 6 of the expression, want a jq expression`,
		"p.yaml:2:6: when: found nothing, want a jq expression, in quotes",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Decode() = %v, want %s", err, want)
		}
	}
	if err := config.Decode("p.yaml", []byte("\nwhen: |-\n  .record.name\n  + 1\n"), &file); err != nil || file.When.IsZero() {
		t.Fatal(err)
	}
	_, err = file.When.Value(t.Context(), document())
	if want := "p.yaml:2:7: when: jq: cannot add: string and number"; err == nil || err.Error() != want {
		t.Errorf("Value() = %v, want %s", err, want)
	}
}

// No error shows anything of the document (promise 9).
func TestErrorsShowNoValues(t *testing.T) {
	t.Parallel()
	const secret = `s3cret (a) "b" string (x) {`
	quoted, _ := jsontext.AppendQuote(nil, secret)
	for expr, want := range map[string]string{
		`.record.s + 1`:                        "jq: cannot add: string and number",
		`.record.s | keys`:                     "jq: keys cannot be applied to: string",
		`.record.s[]`:                          "jq: cannot iterate over: string",
		`.record.s.x`:                          "jq: expected an object but got: string",
		`.record.s | .["a"]`:                   "jq: expected an object but got: string",
		`.record | test("x")`:                  "jq: test cannot be applied to: object",
		`.record.s | . as $s | test("(" + $s)`: "jq: invalid regular expression",
		`.record.s | tonumber`:                 "jq: tonumber cannot be applied to",
		`.record.s | fromjson`:                 "jq: fromjson cannot be applied to",
		`.record.s | strptime("%Y")`:           "jq: strptime",
		`.record.s | format(.)`:                "jq: format not defined",
		`[[.record.s, {}]] | .[0] | @csv`:      "jq: @csv cannot format an array including: object",
		`1 / 0`:                                "jq: cannot divide number by: number",
		`.record.s * 1e9`:                      "jq: text repeated to more than 8 MiB",
		`[1] | .[.[0] * 1e12] = 1`:             "jq: ",
		`{(.record | tojson | length): 1}`:     "jq: expected a string for object key but got: number",
		`error(.record.s)`:                     "jq: error, with a message that is not written in the expression",
		`error(.record)`:                       "jq: error, with a message that is not written in the expression",
		`error("no customer")`:                 "jq: error: no customer",
		`.record.s | error`:                    "jq: error, with a message that is not written in the expression",
		`.record.s | explode | implode | tojson | fromjson | .a`: "jq: expected an object but got: string",
	} {
		doc := &mapping.Document{Record: jsontext.Value(`{"s":` + string(quoted) + `}`)}
		_, err := parsed(t, expr).Value(t.Context(), doc)
		if err == nil || !strings.Contains(err.Error(), want) || !fault.IsPermanent(err) {
			t.Errorf("%s: %v, want a permanent %q", expr, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.ContainsAny(err.Error(), `{"`)) {
			t.Errorf("%s: the error shows the document: %v", expr, err)
		}
	}
}

// What never ends, or grows, is ended (promise 10).
func TestBounds(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		`def f: f; f`:                                "not finished after",
		`last(repeat(1))`:                            "not finished after",
		`[range(1e12)] | length`:                     "not finished after",
		`.trigger | ltrimstr("<") * 1e9`:             "jq: text repeated to more than 8 MiB",
		`{a: .trigger} | .a *= 9 | .a | length`:      "jq: text repeated to more than 8 MiB",
		`[limit(1000; repeat("0123456789" * 1000))]`: "gives more than 8 MiB",
		`reduce range(64) as $i (1; [., .])`:         "gives more than 8 MiB",
		`reduce range(2000) as $i (1; [.])`:          "gives a value more than 1000 levels deep",
		`.trigger as $t | last(repeat($t | tojson))`: "not finished after",
	} {
		t.Run(expr, func(t *testing.T) {
			t.Parallel()
			large := `"` + strings.Repeat("<", 1<<20) + `"`
			_, err := parsed(t, expr).Value(t.Context(), &mapping.Document{Trigger: jsontext.Value(large)})
			if err == nil || !strings.Contains(err.Error(), want) || !fault.IsPermanent(err) {
				t.Errorf("Value() = %v, want a permanent %q", err, want)
			}
		})
	}
	t.Run("the caller's time is not the expression's fault", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := parsed(t, ".").Value(ctx, document())
		if !errors.Is(err, context.Canceled) || fault.IsPermanent(err) {
			t.Errorf("Value() = %v, want a transient context.Canceled", err)
		}
	})
}

// A document is not changed by the expressions that see it.
func TestDocumentIsShared(t *testing.T) {
	t.Parallel()
	doc := document()
	for _, expr := range []string{`.record.a.b[0] = 9`, `del(.record.name)`, `.record.a.b |= map(. + 1)`, `.record += {id: 0}`} {
		if _, err := parsed(t, expr).Value(t.Context(), doc); err != nil {
			t.Fatal(err)
		}
	}
	got, err := parsed(t, `.record | [.id, .name, .a.b]`).Value(t.Context(), doc)
	if want := `[7,"Ann",[1,2]]`; err != nil || string(got) != want {
		t.Errorf("Value() = %s, %v, want %s", got, err, want)
	}
}

// Where no time passes, steps end what never ends, always at the same place.
func TestStepsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		if got, err := parsed(t, `last(range(10000))`).Value(t.Context(), document()); err != nil || string(got) != "9999" {
			t.Errorf("Value() = %s, %v, want 9999", got, err)
		}
		_, err := parsed(t, `last(range(1000000))`).Value(t.Context(), document()) // it would end
		if want := "expression: not finished after 1000000 steps"; err == nil || err.Error() != want {
			t.Errorf("Value() = %v, want %s", err, want)
		}
	})
}
