package ingress_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
)

// Types and ids are the sender's own text. Whatever they hold, they come back
// as they were, and the subject stays one of ours (promise 8).
func TestHostileTypesAndIDsRoundTrip(t *testing.T) {
	t.Parallel()
	f := setup(t)
	texts := map[string]string{
		"star": "*", "rest": ">", "both": "a.*.>", "dot": ".", "dots": "..", "dot at the end": "a.", "dot in front": ".a",
		"space": " ", "spaces around": " a b ", "trailing space": "a ", "tab": "\t", "newline": "a\nb", "CRLF": "a\r\nNats-Rollup: all\r\n\r\n",
		"NUL": "\x00", "NUL inside": "a\x00b", "delete": "\x7f", "percent": "%", "looks escaped": "%2A", "looks cut": "%~00", "underscore": "_",
		"dollar": "$JS.API.STREAM.PURGE.TERCEL_RAW", "quote": `"`, "backslash": `\`, "unicode": "заказ.оплачен", "emoji": "🧾", "combining": "e\u0301",
		"replacement": "\ufffd", "line separator": "\u2028", "right to left": "\u202e", "noncharacter": "\uffff",
		"1,000 bytes": strings.Repeat("x", 1000), "1,000 dots": strings.Repeat(".", 1000), "1,024 to be escaped": strings.Repeat("ж", 512),
		"many tokens": strings.Repeat("a.", 100) + "a", "a number": "12345678901234567890", "markup": "<script>alert(1)</script>",
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			body, err := json.Marshal(map[string]string{"kind": text, "id": text})
			if err != nil {
				t.Fatal(err)
			}
			r := f.send(f.delivery("rotating", "", string(body)))
			if r.Status != "accepted" || r.ID != text {
				t.Fatalf("answered %+v, want %q accepted\n%s", r, text, f.log)
			}
			m := f.last()
			e, err := event.FromHeader(m.Header)
			if err != nil || e.Type != text || e.ID != text || e.DeliveryID != text {
				t.Errorf("stored type %q, id %q, delivery id %q, %v", e.Type, e.ID, e.DeliveryID, err)
			}
			tokens, ok := strings.CutPrefix(m.Subject, "tercel.raw.rotating._.")
			if !ok || strings.ContainsAny(tokens, "*> \t\r\n\x00") || len(m.Subject) > 512 || strings.Contains(tokens, "..") {
				t.Errorf("subject %q", m.Subject)
			}
			if typ, err := event.TypeFromTokens(tokens); err == nil && typ != text {
				t.Errorf("the subject says type %q", typ)
			} else if err != nil && len(text) < 100 {
				t.Errorf("the subject lost the type: %v", err)
			}
			if r := f.send(f.delivery("rotating", "", string(body))); r.Status != "duplicate" {
				t.Errorf("a repeat was answered %+v, want a duplicate", r)
			}
		})
	}
	if got := f.stored(); got != uint64(len(texts)) {
		t.Errorf("%d messages stored, want %d: two texts share an id", got, len(texts))
	}
}

// A time that can't be read is one that wasn't said; it never refuses an event
// and never makes a message that can't be read again.
func TestEventTimesAreReadLeniently(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for value, want := range map[string]time.Time{
		`1760000000`:                          time.Unix(1760000000, 0),
		`"1760000000"`:                        time.Unix(1760000000, 0),
		`1760000000123`:                       time.UnixMilli(1760000000123),
		`99999999999`:                         time.Unix(99999999999, 0),
		`100000000000`:                        time.UnixMilli(100000000000),
		`"2026-11-20T11:00:00Z"`:              time.Date(2026, 11, 20, 11, 0, 0, 0, time.UTC),
		`"2026-11-20T11:00:00.25+02:00"`:      time.Date(2026, 11, 20, 9, 0, 0, 250_000_000, time.UTC),
		`0`:                                   {},
		`-5`:                                  {},
		`1e9`:                                 {},
		`1760000000000000`:                    {},
		`99999999999999999999999999`:          {},
		`"yesterday"`:                         {},
		`"0000-01-01T00:00:00Z"`:              {},
		`"0001-01-01T00:00:00+23:59"`:         {},
		`"9999-12-31T23:59:59-12:00"`:         {},
		`"2026-11-20 11:00:00"`:               {},
		`{"x":1}`:                             {},
		`null`:                                {},
		`"` + strings.Repeat("1", 2000) + `"`: {},
	} {
		r := f.send(f.delivery("orders", "d", `{"kind":"x","at":`+value+`}`))
		if r.code != http.StatusOK {
			t.Errorf("%.60s: answered %+v, want 200", value, r)
			continue
		}
		e, err := event.FromHeader(f.last().Header)
		if err != nil || !e.Time.Equal(want) {
			t.Errorf("%.60s: read as %s, %v, want %s", value, e.Time, err, want)
		}
	}
}
