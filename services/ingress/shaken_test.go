package ingress_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/tercelhq/tercel/services/ingress"
)

// shaking are sources of presets with handshakes.
const shaking = `
sources:
  files: {preset: dropbox, secrets: [env:PLAIN]}
  near: {preset: dropbox, secrets: [env:PLAIN], origin: {allow: [192.0.2.0/24]}}
  few: {preset: dropbox, secrets: [env:PLAIN], limit: {requests: 2, per: 1h}}
  many: {preset: dropbox, secrets: [env:PLAIN], accounts: [north]}
  without: {preset: dropbox, secrets: [env:PLAIN], handshakes: {challenge: off}}
  pages: {preset: meta, secrets: [env:PLAIN], handshakes: {subscribe: {secrets: [env:OTHER]}}}
  notes: {preset: notion, secrets: [env:PLAIN]}
  shop: {preset: woocommerce, secrets: [env:PLAIN]}
  talk: {preset: slack, secrets: [env:PLAIN]}
  calls: {preset: zoom, secrets: [env:PLAIN]}
  books: {preset: xero, secrets: [env:PLAIN]}
  people: {preset: okta, secrets: [env:PLAIN]}
  posts: {preset: x, secrets: [env:PLAIN]}
  bus: {preset: cloudevents, secrets: [env:PLAIN], handshakes: {consent: {allowed: [a.example.com]}}}
  mine:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {type: body.kind}
    handshakes:
      ping: {when: {body.kind: ping, header.X-Kind: "*"}, answer: {status: 202, body: "<b>ours</b>", headers: {X-Said: header.X-Kind}}}
      status: {method: GET, when: {query.status: "*"}, answer: {text: query.status}}
`

func get(path string) delivery {
	return delivery{method: http.MethodGet, path: path, header: http.Header{}}
}

// What is no handshake is stored as ever where there are handshakes.
func TestEventsBesideHandshakesAreStored(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, shaking))
	want := uint64(0)
	for _, tt := range []struct{ source, body string }{
		{"files", `{"list_folder":{"accounts":["dbid:AAH4"]}}`},
		{"pages", `{"object":"page","entry":[{"id":"1"}]}`},
		{"notes", `{"id":"367c","type":"page.created"}`},
		{"talk", `{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}`},
		{"calls", `{"event":"meeting.started","payload":{}}`},
		{"books", `{"events":[{"eventCategory":"INVOICE","eventType":"UPDATE"}]}`}, // and its request
		{"posts", `{"for_user_id":"1","tweet_create_events":[]}`},
		{"mine", `{"kind":"ping"}`}, // without the header
		{"mine", `{"kind":"pong"}`},
	} {
		src := f.sources[tt.source]
		d := post("/v1/"+tt.source, tt.body).signed(src.Verifier(), src.Keys()[0], "", at)
		if code := f.code(d); code != http.StatusOK {
			t.Errorf("%s: answered %d", tt.source, code)
		}
		if want++; !src.Event.Split.IsZero() {
			want++
		}
		if n := f.stored(); n != want {
			t.Fatalf("%s: %d messages stored, want %d\n%s", tt.source, n, want, f.log)
		}
	}
}

// code is the status that answers a request, whoever has prescribed the body.
func (f *fixture) code(d delivery) int {
	f.t.Helper()
	return f.answered(d).Code
}

// The answer to a handshake of one's own is the configured one.
func TestHandshakesOfOnesOwn(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, shaking))
	src := f.sources["mine"]
	d := post("/v1/mine", `{"kind":"ping"}`, "X-Kind", "a").signed(src.Verifier(), src.Keys()[0], "", at)
	w := f.answered(d)
	if w.Code != http.StatusAccepted || w.Body.String() != "<b>ours</b>" || w.Header().Get("X-Said") != "a" || w.Header().Get("Content-Type") != "text/plain" {
		t.Errorf("answered %d, %v, %q", w.Code, w.Header(), w.Body)
	}
	d.body += " "
	if w := f.answered(d); w.Code != http.StatusUnauthorized {
		t.Errorf("tampered: answered %d", w.Code)
	}
	// Without a body the query is what is signed.
	d = get("/v1/mine?status=green")
	for name, values := range src.Verifier().Sign(src.Keys()[0], []byte("status=green"), "", at) {
		d.header[name] = values
	}
	if w := f.answered(d); w.Code != http.StatusOK || w.Body.String() != "green" {
		t.Errorf("signed over its query: answered %d, %q", w.Code, w.Body)
	}
	d.path = "/v1/mine?status=red"
	if w := f.answered(d); w.Code != http.StatusUnauthorized {
		t.Errorf("signed over another query: answered %d", w.Code)
	}
	// Promise 2: a signature alone makes no event of a request without a body.
	d.path = "/v1/mine?other=1"
	for name, values := range src.Verifier().Sign(src.Keys()[0], []byte("other=1"), "", at) {
		d.header[name] = values
	}
	if w := f.answered(d); w.Code != http.StatusBadRequest {
		t.Errorf("signed, but no handshake: answered %d", w.Code)
	}
	if n := f.stored(); n != 0 {
		t.Errorf("%d messages stored", n)
	}
}

// Methods are those that the source's handshakes have.
func TestMethodsAreThoseOfHandshakes(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, shaking))
	for source, allow := range map[string]string{
		"files": "GET, POST", "talk": "POST", "bus": "OPTIONS, POST", "without": "POST", "mine": "GET, POST",
	} {
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "BREW"} {
			d := delivery{method: method, path: "/v1/" + source, header: http.Header{}}
			r := f.send(d)
			if strings.Contains(", "+allow+",", " "+method+",") {
				if r.code == http.StatusMethodNotAllowed {
					t.Errorf("%s %s: answered %d", method, source, r.code)
				}
				continue
			}
			if r.code != http.StatusMethodNotAllowed || r.header.Get("Allow") != allow {
				t.Errorf("%s %s: answered %d with Allow %q, want 405 with %q", method, source, r.code, r.header.Get("Allow"), allow)
			}
		}
	}
}

// Handshakes pass the door as events do: origin, rate, account.
func TestHandshakesPassTheDoor(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, shaking))
	if r := f.from("198.51.100.1:9", get("/v1/near?challenge=a")); r.code != http.StatusForbidden {
		t.Errorf("from elsewhere: answered %+v", r)
	}
	d := get("/v1/near?challenge=a").request(t)
	d.RemoteAddr = "192.0.2.9:9"
	w := httptest.NewRecorder()
	if f.service.Handler().ServeHTTP(w, d); w.Code != http.StatusOK {
		t.Errorf("from where it may come: answered %d", w.Code)
	}
	for i, want := range []int{200, 200, 429} {
		if got := f.code(get("/v1/few?challenge=a")); got != want {
			t.Errorf("request %d of a limited source: answered %d, want %d", i+1, got, want)
		}
	}
	for path, want := range map[string]int{
		"/v1/many/north?challenge=a": 200, "/v1/many/south?challenge=a": 404, "/v1/many?challenge=a": 404, "/v1/files/x?challenge=a": 404, "/v1/none?challenge=a": 404,
	} {
		if got := f.code(get(path)); got != want {
			t.Errorf("%s: answered %d, want %d", path, got, want)
		}
	}
}

// What is too large for a handshake is none, and then has to be signed.
func TestLargeBodiesAreNoHandshakes(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, shaking))
	pad := strings.Repeat("x", 4096)
	form := post("/v1/shop", "webhook_id="+pad)
	form.header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, tt := range map[string]struct {
		d    delivery
		want int
	}{
		"JSON":         {post("/v1/notes", `{"verification_token":"`+pad+`"}`), http.StatusUnauthorized},
		"a form":       {form, http.StatusUnsupportedMediaType},
		"any at all":   {post("/v1/notes", strings.Repeat(pad, 200)), http.StatusRequestEntityTooLarge},
		"a query":      {get("/v1/files?challenge=" + pad + "x"), http.StatusBadRequest},
		"a signed one": {post("/v1/talk", `{"type":"url_verification","challenge":"x`+pad+`"}`), http.StatusBadRequest},
	} {
		if name == "a signed one" {
			src := f.sources["talk"]
			tt.d = tt.d.signed(src.Verifier(), src.Keys()[0], "", at)
		}
		if got := f.code(tt.d); got != tt.want {
			t.Errorf("%s: answered %d, want %d", name, got, tt.want)
		}
	}
	if n := f.stored(); n != 0 {
		t.Errorf("%d messages stored", n)
	}
}

// A body behind a handshake without one isn't taken for the next request.
func TestBodiesOfRequestsWithoutOneAreDropped(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, shaking))
	server := httptest.NewServer(f.service.Handler())
	defer server.Close()
	hidden := "POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
	d := get("/v1/files?challenge=one")
	d.body = hidden
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	next := get("/v1/files?challenge=two")
	next.header.Set("Connection", "close")
	if _, err := conn.Write(append(d.raw(), next.raw()...)); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(all); strings.Count(got, "HTTP/1.1 ") != 2 || !strings.Contains(got, "\r\n\r\none") || !strings.HasSuffix(got, "\r\n\r\ntwo") {
		t.Errorf("answered:\n%s", got)
	}
}

// Promise 9: a secret that a handshake brings or shows is in no log, and the
// operator hears of it at a bounded rate.
func TestSecretsOfHandshakesNeverLeave(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, shaking))
	const token = "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl"
	for range 5 {
		w := f.answered(post("/v1/notes", `{"verification_token":"`+token+`"}`))
		if w.Code != http.StatusOK || w.Body.Len() > 0 {
			t.Errorf("answered %d, %q", w.Code, w.Body)
		}
	}
	f.answered(get("/v1/pages?hub.mode=subscribe&hub.challenge=a&hub.verify_token=" + strings.ReplaceAll(environment["OTHER"], " ", "+")))
	f.answered(get("/v1/pages?hub.mode=subscribe&hub.challenge=a&hub.verify_token=" + token))
	f.answered(get("/v1/pages?hub.mode=subscribe&hub.verify_token=" + token))
	log := f.log.String()
	if n := strings.Count(log, "set save_to"); n != 1 || !strings.Contains(log, `"source":"notes"`) {
		t.Errorf("%d lines about it, want 1:\n%s", n, log)
	}
	if strings.Contains(log, token) || strings.Contains(log, environment["OTHER"]) {
		t.Errorf("a secret is in the log:\n%s", log)
	}
	if n := f.stored(); n != 0 {
		t.Errorf("%d messages stored", n)
	}
}

// Who comes first can't be replaced by who comes next, and nobody sees a file
// that isn't his.
func TestSecretsOfHandshakesAreSavedOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	f := setup(t, reading(t, fmt.Sprintf(`
sources:
  notes: {preset: notion, secrets: [env:PLAIN], handshakes: {verification-token: {save_to: %s}}}
  lost: {preset: notion, secrets: [env:PLAIN], handshakes: {verification-token: {save_to: %s}}}
`, path, filepath.Join(path, "below"))))
	for _, token := range []string{"secret_first", "secret_second", "secret_third"} {
		if code := f.code(post("/v1/notes", `{"verification_token":"`+token+`"}`)); code != http.StatusOK {
			t.Errorf("answered %d", code)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != "secret_first\n" {
		t.Errorf("the file has %q, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v, want it readable by its owner alone", info.Mode(), err)
	}
	f.answered(post("/v1/lost", `{"verification_token":"secret_lost"}`))
	log := f.log.String()
	for what, n := range map[string]int{"and saved; confirm it": 1, "the file has one": 1, "brought and not saved": 1, "secret_": 0} {
		if strings.Count(log, what) != n {
			t.Errorf("%q is %d times in the log, want %d:\n%s", what, strings.Count(log, what), n, log)
		}
	}
}

// A handshake is counted under an outcome of its own.
func TestHandshakesAreCounted(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, strings.ReplaceAll(shaking, "  files:", "  counted-files:")))
	before := counted(t)
	f.answered(get("/v1/counted-files?challenge=a"))
	f.answered(get("/v1/counted-files?challenge=a"))
	f.answered(get("/v1/counted-files"))
	after := counted(t)
	for what, want := range map[string]int64{"handshake": 2, "refused_structure": 1, "accepted": 0} {
		what = "tercel.requests.answered counted-files " + what
		if got := after[what] - before[what]; got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
}

// Not parallel: it listens to all traces of the test run.
func TestHandshakesAreTraced(t *testing.T) {
	f := setup(t, reading(t, strings.ReplaceAll(shaking, "  files:", "  traced-files:")))
	spans := tracetest.NewSpanRecorder()
	traces := otel.GetTracerProvider().(*sdktrace.TracerProvider)
	traces.RegisterSpanProcessor(spans)
	defer traces.UnregisterSpanProcessor(spans)
	f.answered(get("/v1/traced-files?challenge=hush"))
	for _, span := range spans.Ended() {
		if span.Name() != "receive traced-files" {
			continue
		}
		said := fmt.Sprint(span.Attributes())
		if !strings.Contains(said, "tercel.handshake") || !strings.Contains(said, "challenge") || strings.Contains(said, "hush") {
			t.Errorf("traced with %s", said)
		}
		return
	}
	t.Error("not traced")
}

// Explain says which handshake it is, and why one isn't accepted.
func TestExplainKnowsHandshakes(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, shaking))
	talk := f.sources["talk"]
	signed := post("/v1/talk", `{"type":"url_verification","challenge":"c"}`).signed(talk.Verifier(), talk.Keys()[0], "", at)
	forged := post("/v1/talk", `{"type":"url_verification","challenge":"C"}`)
	forged.header = signed.header
	form := post("/v1/pages", "a=b", "Content-Type", "application/x-www-form-urlencoded")
	for name, tt := range map[string]struct {
		source    string
		d         delivery
		handshake string
		status    int
		step      ingress.Step
	}{
		"unsigned": {"files", get("/v1/files?challenge=a"), "challenge", 200, ingress.Step{Name: "unsigned handshake", Result: ingress.Passed, Detail: "challenge, answered with 200 and not stored"}},
		"none":     {"files", get("/v1/files?chalenge=a"), "", 400, ingress.Step{Name: "unsigned handshake", Result: ingress.Failed, Detail: "no handshake of this source"}},
		"signed":   {"talk", signed, "url-verification", 200, ingress.Step{Name: "handshake", Result: ingress.Passed, Detail: "url-verification, answered with 200 and not stored"}},
		"a form":   {"pages", form, "", 415, ingress.Step{Name: "content type", Result: ingress.Failed, Detail: `content type "application/x-www-form-urlencoded", request.content_types doesn't have it`}},
		"forged":   {"talk", forged, "", 401, ingress.Step{Name: "handshake", Result: ingress.NotReached}},
		"a stranger": {
			"pages", get("/v1/pages?hub.mode=subscribe&hub.challenge=a&hub.verify_token=b"), "", 403,
			ingress.Step{Name: "unsigned handshake", Result: ingress.Failed, Detail: "handshakes.subscribe: query.hub.verify_token: not allowed: it is none of those that are configured"},
		},
	} {
		ex, err := ingress.Explain(tt.source, f.sources[tt.source], tt.d.raw(), at)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found := false
		for _, s := range ex.Steps {
			found = found || s == tt.step
		}
		if ex.Handshake != tt.handshake || ex.Accepted != (tt.handshake != "") || ex.Status != tt.status || ex.Subject != "" || !found {
			said, _ := json.MarshalIndent(ex, "", " ")
			t.Errorf("%s: explained as %s\nwant step %+v", name, said, tt.step)
		}
		if code := f.code(tt.d); code != tt.status {
			t.Errorf("%s: answered %d, explained as %d", name, code, tt.status)
		}
	}
}

// Whoever calls an address with handshakes is answered, and never with what the
// service can't stand by: no 5xx, no page, and nothing is stored unsigned.
func FuzzHandshakes(f *testing.F) {
	fx := setup(f, reading(f, shaking))
	var names []string
	for name := range fx.sources {
		if name != "few" { // which refuses all but two
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for i := range names {
		f.Add(uint8(i), "GET", "challenge=a&hub.mode=subscribe&hub.challenge=b&crc_token=c", "application/json", "a.example.com", []byte(`{}`))
		f.Add(uint8(i), "POST", "", "application/x-www-form-urlencoded", "", []byte("webhook_id=1&ssl_check=1"))
		f.Add(uint8(i), "POST", "", "application/json", "", []byte(`{"type":"url_verification","challenge":"x","verification_token":"y","events":[]}`))
		f.Add(uint8(i), "OPTIONS", "", "", "a.example.com", []byte(nil))
	}
	f.Add(uint8(0), "GET", "challenge=%3Cscript%3E%00%ff", "text/html", "\xff", []byte("\xff"))
	f.Fuzz(func(t *testing.T, which uint8, method, query, contentType, word string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/v1/"+names[int(which)%len(names)], strings.NewReader(string(body)))
		r.Method, r.URL.RawQuery = method, query
		for _, h := range []string{"X-Okta-Verification-Challenge", "Webhook-Request-Origin", "X-Kind", "Authorization", "X-Signature"} {
			r.Header[h] = []string{word}
		}
		r.Header["Content-Type"] = []string{contentType}
		w := httptest.NewRecorder()
		fx.service.Handler().ServeHTTP(w, r)
		h := w.Header()
		if w.Code >= 500 || w.Code < 200 {
			t.Fatalf("answered %d %s\n%s", w.Code, w.Body, fx.log)
		}
		if typ := h.Get("Content-Type"); typ != "" && typ != "application/json" && !strings.HasPrefix(typ, "text/plain") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("answered with headers %v", h)
		}
		if w.Body.Len() > 3*4096 {
			t.Errorf("answered with %d bytes", w.Body.Len())
		}
		for name, values := range h {
			if len(values) > 1 || strings.ContainsAny(strings.Join(values, ""), "\r\n\x00") {
				t.Errorf("header %s: %q", name, values)
			}
		}
		in := *fx
		in.t = t
		if n := in.stored(); n != 0 {
			t.Fatalf("%d messages stored, none was signed", n)
		}
	})
}
