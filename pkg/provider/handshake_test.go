package provider_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
)

const signedSource = "verify: {scheme: hmac-sha256, header: X-Sig}\nsecrets: [env:S]\nevent: {type: body.type}\n"

// handshake decodes a source with that one handshake.
func handshake(t *testing.T, text string) (*provider.Handshake, *provider.Source) {
	t.Helper()
	s := mustSource(t, signedSource+"handshakes: {it: "+text+"}\n")
	h, ok := s.Handshakes["it"]
	if !ok {
		t.Fatal("no handshake")
	}
	return &h, s
}

// What a handshake can't be is said where it stands.
func TestHandshakesAreCheckedWhenTheyAreRead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"no condition":                 {"{method: GET, unsigned: true}", `4:18: handshakes.it.when: missing, want what tells`},
		"an unknown root":              {"{when: {cookie.a: b}}", `handshakes.it.when."cookie.a": found "b", want a part`},
		"a part without a name":        {"{when: {query: b}}", `want a part`},
		"many values":                  {"{when: {\"body.items[].a\": b}}", `want a part`},
		"a condition without text":     {"{when: {body.a: \"\"}}", `want the text that it has to have`},
		"the rate as a condition":      {"{when: {limit: \"*\"}}", `want a part`},
		"the rate as a check":          {"{when: {body.a: b}, check: limit}", `want a part`},
		"another method":               {"{method: PUT, when: {query.a: b}}", `4:27: handshakes.it.method: found "PUT", want one of GET, OPTIONS, POST`},
		"a body with GET":              {"{method: GET, when: {body.a: b}}", `found body.a, want parts in header and query alone: with GET there is no body`},
		"a form with OPTIONS":          {"{method: OPTIONS, when: {query.a: b}, answer: {text: form.a}}", `found form.a, want parts in header and query`},
		"an hmac for anybody":          {"{unsigned: true, when: {body.a: b}, answer: {json: {x: {hmac: body.a}}}}", `handshakes.it.unsigned: found true, want false beside an hmac`},
		"an hmac of nothing":           {"{when: {body.a: b}, answer: {json: {x: {encoding: hex}}}}", `want a part, a text after =, or {hmac`},
		"an hmac in an odd encoding":   {"{when: {body.a: b}, answer: {json: {x: {hmac: body.a, encoding: base32}}}}", `found "base32"`},
		"an empty text":                {"{when: {body.a: b}, answer: {json: {x: \"=\"}}}", `want a text after =`},
		"a status that is no success":  {"{when: {body.a: b}, answer: {status: 302}}", `handshakes.it.answer.status: found 302, want 200 to 299`},
		"two bodies":                   {"{when: {body.a: b}, answer: {text: body.a, body: x}}", `at most one of body, text and json`},
		"a body with 204":              {"{when: {body.a: b}, answer: {status: 204, text: body.a}}", `none with status 204`},
		"a header that is ours":        {"{when: {body.a: b}, answer: {headers: {content-type: \"=text/html\"}}}", `want a header that isn't one of`},
		"a header that is none":        {"{when: {body.a: b}, answer: {headers: {\"a b\": \"=c\"}}}", `want a header that isn't one of`},
		"secrets for nothing":          {"{when: {body.a: b}, secrets: [env:S]}", `handshakes.it.check: missing`},
		"a place for nothing":          {"{when: {body.a: b}, save_to: /x}", `want an absolute path, and brings`},
		"a place that moves":           {"{when: {body.a: b}, brings: body.c, save_to: x}", `want an absolute path, and brings`},
		"neither off nor a handshake":  {"on", `handshakes.it: found [redacted], want a mapping`},
		"a key that there is not":      {"{when: {body.a: b}, answr: {}}", `did you mean "answer"?`},
		"a secret that is written out": {"{when: {body.a: b}, check: body.c, secrets: [hunter2]}", `found [redacted]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := source(t, signedSource+"handshakes: {it: "+tt.text+"}\n")
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("faults:\n%v\nwant among them:\n%s", err, tt.want)
			}
		})
	}
}

// What a handshake can't be beside the rest of its source is said as well.
func TestHandshakesFitTheirSource(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "s"), []byte("a secret of enough length\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"a name that is none":             {signedSource + "handshakes: {\"A b\": {when: {body.a: b}}}", "want a name of lower-case letters"},
		"an hmac without a key for it":    {"preset: token\nsecrets: [env:S]\nhandshakes: {it: {when: {body.a: b}, answer: {json: {x: {hmac: body.a}}}}}", "want no hmac"},
		"a stranger chooses the secret":   {"preset: notion\nsecrets: [\"file:" + dir + "/s\"]\nhandshakes: {verification-token: {save_to: " + dir + "/x/../s}}", "want another file than that of secrets"},
		"a preset's, with a mistyped key": {"preset: meta\nsecrets: [env:S]\nhandshakes: {subscribe: {secret: [env:S]}}", `did you mean "secrets"?`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := source(t, tt.text+"\n"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("faults:\n%v\nwant among them:\n%s", err, tt.want)
			}
		})
	}
}

// What one source says of a preset's handshake stays with that source.
func TestHandshakesAreLaidOverThePresets(t *testing.T) {
	t.Parallel()
	const base = "preset: meta\nsecrets: [env:S]\n"
	changed := mustSource(t, base+"handshakes: {subscribe: {secrets: [env:S], answer: {headers: {X-A: \"=b\"}}}, more: {when: {body.a: b}}}\n")
	gone := mustSource(t, base+"handshakes: {subscribe: off}\n")
	plain := mustSource(t, base)
	if got := changed.Handshakes.Each(http.MethodGet, true); len(got) != 1 || got[0].Name != "subscribe" || len(got[0].Secrets) != 1 || len(got[0].Answer.Headers) != 1 || got[0].Check.String() != "query.hub.verify_token" {
		t.Errorf("laid over: %+v", got)
	}
	if got := changed.Handshakes.Each(http.MethodPost, false); len(got) != 1 || got[0].Name != "more" {
		t.Errorf("added: %+v", got)
	}
	if got := gone.Handshakes.Each(http.MethodGet, true); len(got) != 0 {
		t.Errorf("switched off: %+v", got)
	}
	if got := plain.Handshakes.Each(http.MethodGet, true); len(got) != 1 || len(got[0].Secrets) != 0 || len(got[0].Answer.Headers) != 0 {
		t.Errorf("another source's reached the preset: %+v", got)
	}
}

func TestHandshakeApplies(t *testing.T) {
	t.Parallel()
	const both = `{when: {body.kind: test, header.X-Event: "*"}}`
	long := `{"kind":"test","pad":"` + strings.Repeat("x", provider.MaxEcho) + `"}`
	header := http.Header{"X-Event": {"ping"}}
	form := "application/x-www-form-urlencoded"
	for name, tt := range map[string]struct {
		text string
		call provider.Call
		want bool
	}{
		"both conditions":             {both, provider.Call{Header: header, Body: []byte(`{"kind":"test"}`)}, true},
		"one of two":                  {both, provider.Call{Body: []byte(`{"kind":"test"}`)}, false},
		"another value":               {both, provider.Call{Header: header, Body: []byte(`{"kind":"Test"}`)}, false},
		"a header twice":              {both, provider.Call{Header: http.Header{"X-Event": {"a", "b"}}, Body: []byte(`{"kind":"test"}`)}, false},
		"a name twice in the body":    {both, provider.Call{Header: header, Body: []byte(`{"kind":"test","kind":"x"}`)}, false},
		"a body that is cut":          {both, provider.Call{Header: header, Body: []byte(`{"kind":"test"`)}, false},
		"a long body, signed":         {both, provider.Call{Header: header, Body: []byte(long)}, true},
		"a long body, unsigned":       {`{unsigned: true, when: {body.kind: test}}`, provider.Call{Body: []byte(long)}, false},
		"a number":                    {`{when: {body.type: "0"}}`, provider.Call{Body: []byte(`{"type":0}`)}, true},
		"another number":              {`{when: {body.type: "0"}}`, provider.Call{Body: []byte(`{"type":0.0}`)}, false},
		"null is none":                {`{when: {body.type: "*"}}`, provider.Call{Body: []byte(`{"type":null}`)}, false},
		"an object is no text":        {`{when: {body.type: "*"}}`, provider.Call{Body: []byte(`{"type":{}}`)}, false},
		"an empty array":              {`{when: {body.all: "[]"}}`, provider.Call{Body: []byte(`{"all":[ ]}`)}, true},
		"an array that isn't empty":   {`{when: {body.all: "[]"}}`, provider.Call{Body: []byte(`{"all":[1]}`)}, false},
		"no array, but its text":      {`{when: {body.all: "[]"}}`, provider.Call{Body: []byte(`{"all":"[]"}`)}, false},
		"dots in a parameter":         {`{when: {query.hub.mode: on}}`, provider.Call{Query: "hub.mode=on"}, true},
		"a parameter twice":           {`{when: {query.a: "*"}}`, provider.Call{Query: "a=1&a=1"}, false},
		"a broken query":              {`{when: {query.a: "*"}}`, provider.Call{Query: "a=1&b=%zz"}, false},
		"a query with a semicolon":    {`{when: {query.a: "*"}}`, provider.Call{Query: "a=1;b=2"}, false},
		"a form":                      {`{when: {form.a: "*"}}`, provider.Call{MediaType: form, Body: []byte("a=1")}, true},
		"no form by its content type": {`{when: {form.a: "*"}}`, provider.Call{MediaType: "text/plain", Body: []byte("a=1")}, false},
		"a field of a form twice":     {`{when: {form.a: "*"}}`, provider.Call{MediaType: form, Body: []byte("a=1&a=2")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, _ := handshake(t, tt.text)
			if got := h.Applies(&tt.call); got != tt.want {
				t.Errorf("Applies() = %t, want %t", got, tt.want)
			}
		})
	}
	if (&provider.Handshake{}).Applies(&provider.Call{}) {
		t.Error("one that was never validated applies to everything")
	}
}

func TestHandshakeAllow(t *testing.T) {
	t.Parallel()
	const secret = "whsec_c2VjcmV0LW9mLWVub3VnaC1sZW5ndGg="
	for name, tt := range map[string]struct {
		text, query, reason string
	}{
		"no check":              {`{method: GET, when: {query.a: "*"}}`, "a=1", ""},
		"the secret":            {`{method: GET, when: {query.a: "*"}, check: query.a, secrets: [env:S]}`, "a=" + secret, ""},
		"the beginning of it":   {`{method: GET, when: {query.a: "*"}, check: query.a, secrets: [env:S]}`, "a=" + secret[:8], "none of those"},
		"the secret and more":   {`{method: GET, when: {query.a: "*"}, check: query.a, secrets: [env:S]}`, "a=" + secret + "x", "none of those"},
		"none there":            {`{method: GET, when: {query.a: "*"}, check: query.b, secrets: [env:S]}`, "a=1", "it isn't there"},
		"an empty one":          {`{method: GET, when: {query.a: "*"}, check: query.b, secrets: [env:S]}`, "a=1&b=", "it isn't there"},
		"nothing is configured": {`{method: GET, when: {query.a: "*"}, check: query.a}`, "a=1", "neither secrets nor allowed"},
		"one that is allowed":   {`{method: GET, when: {query.a: "*"}, check: query.a, allowed: [x, Host.example.com]}`, "a=hOst.example.com", ""},
		"one that is not":       {`{method: GET, when: {query.a: "*"}, check: query.a, allowed: [example.com]}`, "a=host.example.com", "none of those"},
		"any":                   {`{method: GET, when: {query.a: "*"}, check: query.a, allowed: ["*"]}`, "a=1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, _ := handshake(t, tt.text)
			err := h.Allow(&provider.Call{Query: tt.query})
			if (err == nil) != (tt.reason == "") || err != nil && (!errors.Is(err, provider.ErrNotAllowed) || !strings.Contains(err.Error(), tt.reason)) {
				t.Fatalf("Allow() = %v, want %q", err, tt.reason)
			}
			if err != nil && strings.Contains(err.Error(), secret[:8]) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// What a request says is given back only as what it can't harm as.
func TestHandshakeRespond(t *testing.T) {
	t.Parallel()
	const get = `{method: GET, when: {query.c: "*"}, answer: `
	for name, tt := range map[string]struct {
		text, query        string
		rate               provider.Rate
		body, typ, refused string
		header             string
	}{
		"nothing":              {text: `{method: GET, when: {query.c: "*"}}`, query: "c=1"},
		"a fixed body":         {text: get + `{body: "[ok]"}}`, query: "c=1", body: "[ok]", typ: "text/plain"},
		"text":                 {text: get + `{text: query.c}}`, query: "c=%3Cb%3E", body: "<b>", typ: "text/plain; charset=utf-8"},
		"JSON":                 {text: get + `{json: {a: query.c, b: "=x\"y"}}}`, query: "c=%3Cb%3E%22", body: `{"a":"\u003cb\u003e\"","b":"x\"y"}`, typ: "application/json"},
		"at the limit":         {text: get + `{text: query.c}}`, query: "c=" + strings.Repeat("x", provider.MaxEcho), body: strings.Repeat("x", provider.MaxEcho), typ: "text/plain; charset=utf-8"},
		"above it":             {text: get + `{text: query.c}}`, query: "c=" + strings.Repeat("x", provider.MaxEcho+1), refused: "query.c: 4097 bytes, want at most 4096"},
		"not UTF-8":            {text: get + `{text: query.c}}`, query: "c=%ff", refused: "query.c: not printable"},
		"a NUL":                {text: get + `{json: {a: query.c}}}`, query: "c=a%00", refused: "query.c: not printable"},
		"a line of a header":   {text: get + `{headers: {X-A: query.c}}}`, query: "c=a%0d%0aSet-Cookie:%20b", refused: "query.c: not printable"},
		"a value that isn't":   {text: get + `{text: query.d}}`, query: "c=1", refused: "query.d: no value"},
		"a header":             {text: get + `{headers: {X-A: query.c}}}`, query: "c=1", header: "1"},
		"no rate":              {text: get + `{headers: {X-A: limit}}}`, query: "c=1", header: "*"},
		"a rate":               {text: get + `{headers: {X-A: limit}}}`, query: "c=1", rate: provider.Rate{Requests: 5, Per: 10 * time.Second}, header: "30"},
		"a rate of next to no": {text: get + `{headers: {X-A: limit}}}`, query: "c=1", rate: provider.Rate{Requests: 1, Per: time.Hour}, header: "1"},
		"an hmac without key":  {text: get + `{text: {hmac: query.c}}}`, query: "c=1", refused: "hmac of query.c: no key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, _ := handshake(t, tt.text)
			res, err := h.Respond(&provider.Call{Query: tt.query, Limit: tt.rate}, signature.Key{})
			if tt.refused != "" {
				if err == nil || err.Error() != tt.refused {
					t.Errorf("Respond() = %+v, %v, want %q", res, err, tt.refused)
				}
				return
			}
			if err != nil || res.Status != 200 || res.Body != tt.body || res.ContentType != tt.typ || res.Header["X-A"] != tt.header {
				t.Errorf("Respond() = %+v, %v, want %q as %q with header %q", res, err, tt.body, tt.typ, tt.header)
			}
		})
	}
}

func TestHandshakeBrings(t *testing.T) {
	t.Parallel()
	h, _ := handshake(t, `{unsigned: true, when: {body.t: "*"}, brings: body.t}`)
	for body, want := range map[string]string{`{"t":"secret_1"}`: "secret_1", `{"t":"a\nb"}`: "", `{}`: ""} {
		if got := h.Brought(&provider.Call{Body: []byte(body)}); got != want {
			t.Errorf("Brought(%s) = %q, want %q", body, got, want)
		}
	}
	h, _ = handshake(t, `{when: {body.t: "*"}}`)
	if got := h.Brought(&provider.Call{Body: []byte(`{"t":"x"}`)}); got != "" {
		t.Errorf("one that brings nothing brought %q", got)
	}
}

func TestParsePart(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"header.X-A", "query.hub.mode", "form.a", "body.a.0.b", "limit"} {
		if p, err := provider.ParsePart(text); err != nil || p.String() != text || p.IsZero() {
			t.Errorf("ParsePart(%s) = %s, %v", text, p, err)
		}
	}
	for _, text := range []string{"", "header", "header.", "cookie.a", "body.a[]", "limit.a", "body.", ".a"} {
		if p, err := provider.ParsePart(text); err == nil || !p.IsZero() {
			t.Errorf("ParsePart(%q) = %s, want an error", text, p)
		}
	}
	if (&provider.Part{}).String() != "" {
		t.Error("the zero part has a name")
	}
}

func ExampleHandshake() {
	var s provider.Source
	err := config.Decode("source.yaml", []byte(`
preset: zoom
secrets: [env:ZOOM]
`), &s, config.WithLookupEnv(func(string) (string, bool) { return "a secret of enough length", true }))
	if err != nil {
		fmt.Println(err)
		return
	}
	call := &provider.Call{Body: []byte(`{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}`)}
	for _, h := range s.Handshakes.Each(http.MethodPost, false) {
		if h.Applies(call) {
			res, err := h.Respond(call, s.Keys()[0])
			fmt.Println(h.Name, res.Status, res.ContentType, err)
			fmt.Println(res.Body)
		}
	}
	// Output:
	// url-validation 200 application/json <nil>
	// {"encryptedToken":"8abda633eae0776d1bce6ef81676430f03f94b1a9e568becee2681b1db7afdd6","plainToken":"qgg8vlvZRS6UYooatFL8Aw"}
}
