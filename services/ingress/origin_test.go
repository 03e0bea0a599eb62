package ingress_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/ingress"
)

// reading reads a pipeline file of its own into the service's configuration.
func reading(t testing.TB, text string) func(*ingress.Config) {
	t.Helper()
	f, err := pipeline.Decode("tercel.yaml", []byte(text), config.WithLookupEnv(func(name string) (string, bool) {
		v, ok := environment[name]
		return v, ok
	}))
	if err != nil {
		t.Fatal(err)
	}
	return func(c *ingress.Config) {
		c.Ingress, c.Sources = f.Ingress, f.Sources
		c.Listen, c.DrainGrace = "127.0.0.1:0", 0
	}
}

// plain is a source whose origin is %s.
const plain = `
sources:
  plain:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {id: body.id, type: body.kind}
    %s
ingress: {trusted_proxies: [10.0.0.0/8, "fd00::/8", 127.0.0.9]}
`

// from sends the delivery as if it came from that address.
func (f *fixture) from(addr string, d delivery) reply {
	f.t.Helper()
	r := d.request(f.t)
	r.RemoteAddr = addr
	w := httptest.NewRecorder()
	f.service.Handler().ServeHTTP(w, r)
	return readReply(f.t, w.Code, w.Header(), w.Body.Bytes())
}

// Promise 2: only what a trusted proxy says of a request's way is believed.
func TestOriginIsThePeerOrWhatTrustedProxiesSay(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, fmt.Sprintf(plain, `origin: {allow: [192.0.2.0/24, "2001:db8::/32", 198.51.100.7]}`)))
	for name, tt := range map[string]struct {
		peer    string
		header  http.Header
		allowed bool
	}{
		"an allowed peer":                       {"192.0.2.9:1", nil, true},
		"an allowed peer in IPv6":               {"[2001:db8::1]:1", nil, true},
		"a single address":                      {"198.51.100.7:1", nil, true},
		"its neighbour":                         {"198.51.100.8:1", nil, false},
		"IPv4 in IPv6":                          {"[::ffff:192.0.2.9]:1", nil, true},
		"another peer":                          {"203.0.113.1:1", nil, false},
		"a stranger's header":                   {"203.0.113.1:1", http.Header{"X-Forwarded-For": {"192.0.2.9"}}, false},
		"an allowed peer's header says nothing": {"192.0.2.9:1", http.Header{"X-Forwarded-For": {"203.0.113.1"}}, true},
		"no address":                            {"@", nil, false},
		"a proxy says so":                       {"10.0.0.1:1", http.Header{"X-Forwarded-For": {"192.0.2.9"}}, true},
		"a proxy says nothing":                  {"10.0.0.1:1", nil, false},
		"two proxies":                           {"10.0.0.1:1", http.Header{"X-Forwarded-For": {"192.0.2.9, 10.0.0.2"}}, true},
		"two lines":                             {"10.0.0.1:1", http.Header{"X-Forwarded-For": {"192.0.2.9", "10.0.0.2"}}, true},

		"the sender's own line stands to the left": {"10.0.0.1:1", http.Header{"X-Forwarded-For": {"192.0.2.9, 203.0.113.1"}}, false},
		"nonsense to the left isn't read":          {"10.0.0.1:1", http.Header{"X-Forwarded-For": {"nonsense, 192.0.2.9"}}, true},
		"nonsense to the right":                    {"10.0.0.1:1", http.Header{"X-Forwarded-For": {"192.0.2.9, nonsense"}}, false},
		"nothing to the right":                     {"10.0.0.1:1", http.Header{"X-Forwarded-For": {"192.0.2.9,"}}, false},
		"with ports":                               {"[fd00::1]:1", http.Header{"X-Forwarded-For": {"192.0.2.9:80, [fd00::2]:80"}}, true},
		"forwarded":                                {"10.0.0.1:1", http.Header{"Forwarded": {`for=203.0.113.1, For="[2001:db8::1]:4711";proto=https;by=10.0.0.2`}}, true},
		"forwarded by someone else":                {"10.0.0.1:1", http.Header{"Forwarded": {`for=192.0.2.9, for=203.0.113.1`}}, false},
		"forwarded, hidden":                        {"10.0.0.1:1", http.Header{"Forwarded": {`for=192.0.2.9, for=_hidden`}}, false},
		"forwarded without for":                    {"10.0.0.1:1", http.Header{"Forwarded": {`for=192.0.2.9, proto=https`}}, false},
		"a quote that swallows the proxy's word":   {"10.0.0.1:1", http.Header{"Forwarded": {`for=192.0.2.9;x="`, `for=203.0.113.1`}}, false},
		"a comma in quotes":                        {"10.0.0.1:1", http.Header{"Forwarded": {`for=203.0.113.1;x=",for=192.0.2.9"`}}, false},
		"both agree":                               {"10.0.0.1:1", http.Header{"X-Forwarded-For": {"192.0.2.9"}, "Forwarded": {"for=192.0.2.9"}}, true},
		"the sender adds the other header":         {"10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.1"}, "Forwarded": {"for=192.0.2.9"}}, false},
	} {
		d := f.delivery("plain", "", `{"kind":"k","id":"`+name+`"}`)
		for h, v := range tt.header {
			d.header[h] = v
		}
		want := http.StatusForbidden
		if tt.allowed {
			want = http.StatusOK
		}
		if r := f.from(tt.peer, d); r.code != want {
			t.Errorf("%s: answered %d %s, want %d", name, r.code, r.Error, want)
		}
	}
	if got := strings.Count(f.log.String(), `"check":"origin"`); got != 10 { // within a minute
		t.Errorf("%d lines about refused origins, want 10", got)
	}
}

// A stranger's body isn't waited for.
func TestOriginIsCheckedBeforeTheBodyIsRead(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, fmt.Sprintf(plain, `origin: {allow: [192.0.2.0/24]}`)))
	f.run()
	w := f.dial()
	w.write("POST /v1/plain HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n")
	if r := w.answer(); r.StatusCode != http.StatusForbidden {
		t.Errorf("answered %s, want 403", r.Status)
	}
	if got := counted(t)["tercel.requests.answered plain refused_origin"]; got < 1 {
		t.Errorf("%d counted as refused_origin, want at least one", got)
	}
}

func TestOriginListIsReadAnewAndTheLastGoodOneStays(t *testing.T) {
	t.Parallel()
	var list atomic.Value
	list.Store("")
	published := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text := list.Load().(string)
		if text == "" {
			w.WriteHeader(http.StatusBadGateway)
		}
		_, _ = w.Write([]byte(text))
	}))
	t.Cleanup(published.Close)
	file := filepath.Join(t.TempDir(), "networks")
	for name, tt := range map[string]struct {
		origin string
		write  func(string)
		here   string
		there  string
		broken string
	}{
		"url": {
			`origin: {list: {url: "` + published.URL + `", allow_private: true, path: hooks, refresh: 1s}}`, func(s string) { list.Store(s) },
			`{"hooks":["192.0.2.0/24"]}`, `{"hooks":["203.0.113.0/24"]}`, `{"hooks":[]}`,
		},
		"file": {
			`origin: {list: {file: "` + file + `"}}`, func(s string) { replace(t, file, s) },
			"# ours\n192.0.2.0/24\n", "203.0.113.0/24", "203.0.113.0/24\n192.0.2.0/33",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, reading(t, fmt.Sprintf(plain, tt.origin)))
			f.run()
			n := 0
			code := func(addr string) int {
				n++
				return f.from(addr, f.delivery("plain", "", fmt.Sprintf(`{"kind":"k","id":"%s-%d"}`, name, n))).code
			}
			if got := code("192.0.2.1:1"); got != http.StatusServiceUnavailable {
				t.Errorf("without any list: answered %d, want 503", got)
			}
			tt.write(tt.here)
			eventually(t, "allowed once the list is there", func() bool { return code("192.0.2.1:1") == http.StatusOK })
			if got := code("203.0.113.1:1"); got != http.StatusForbidden {
				t.Errorf("not in the list: answered %d, want 403", got)
			}
			failures := func() int { return strings.Count(f.log.String(), "list of origins not read") }
			before := failures()
			tt.write(tt.broken)
			eventually(t, "the broken list was read", func() bool { return failures() > before })
			if got := code("192.0.2.1:1"); got != http.StatusOK {
				t.Errorf("with a broken list: answered %d, want the last good one to count", got)
			}
			tt.write(tt.there)
			eventually(t, "the new list counts", func() bool { return code("192.0.2.1:1") == http.StatusForbidden })
			if got := code("203.0.113.1:1"); got != http.StatusOK {
				t.Errorf("in the new list: answered %d, want 200", got)
			}
		})
	}
}

// The address of a list is guarded like that of every other call.
func TestAListOfOriginsIsNotFetchedFromAPrivateNetwork(t *testing.T) {
	t.Parallel()
	var asked atomic.Bool
	published := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	t.Cleanup(published.Close)
	f := setup(t, reading(t, fmt.Sprintf(plain, `origin: {list: {url: "`+published.URL+`"}}`)))
	f.run()
	eventually(t, "the log says what to do", func() bool {
		return strings.Contains(f.log.String(), "127.0.0.1 is not a public address: set allow_private")
	})
	if got := f.from("192.0.2.1:1", f.delivery("plain", "", `{"kind":"k","id":"1"}`)).code; got != http.StatusServiceUnavailable {
		t.Errorf("without a list: answered %d, want 503", got)
	}
	if asked.Load() {
		t.Error("the server was called")
	}
}

// A list that couldn't be read is tried again although nothing tells that its file has
// changed: it was written within one tick of the file system's clock, or who may read
// it has changed and not the file.
func TestOriginListIsTriedAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "networks")
	replace(t, file, "192.0.2.0/33")
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	f := setup(t, reading(t, fmt.Sprintf(plain, `origin: {list: {file: "`+file+`"}}`)))
	f.run()
	d := f.delivery("plain", "", `{"kind":"k","id":"1"}`)
	if r := f.from("192.0.2.1:1", d); r.code != http.StatusServiceUnavailable {
		t.Errorf("before the list could be read: answered %d, want 503", r.code)
	}
	mend(t, file, "192.0.2.0/24", before.ModTime())
	eventually(t, "the list is read", func() bool { return f.from("192.0.2.1:1", d).code == http.StatusOK })
	if got := strings.Count(f.log.String(), "list of origins not read"); got != 1 {
		t.Errorf("%d lines about the list, want one, since the file has not changed", got)
	}
}

// mend writes over a file's content, as long as it was, and says that it was then.
func mend(t testing.TB, path, text string, then time.Time) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close(), os.Chtimes(path, then, then)); err != nil {
		t.Fatal(err)
	}
}

// replace gives a file another content at once, as editors and mounts do.
func replace(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Error(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Error(err)
	}
}

// A captured request has no peer, and Explain says that it didn't look.
func TestExplainSaysThatOriginWasNotLookedAt(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, fmt.Sprintf(plain, `origin: {allow: [192.0.2.0/24]}`)))
	ex, err := ingress.Explain("plain", f.sources["plain"], f.delivery("plain", "", `{"kind":"k","id":"1"}`).raw(), at)
	if err != nil || !ex.Accepted {
		t.Fatalf("Explain() = %+v, %v", ex, err)
	}
	for _, s := range ex.Steps {
		if s.Name == "origin" && strings.Contains(s.Detail, "no peer") {
			return
		}
	}
	t.Errorf("steps %+v, want that origin wasn't looked at", ex.Steps)
}

func FuzzForwardedHopsNeverTrustWhatStandsBeforeAStranger(f *testing.F) {
	fix := setup(f, reading(f, fmt.Sprintf(plain, `origin: {allow: [192.0.2.0/24]}`)))
	for _, s := range []string{"", "for=192.0.2.9", `for="`, `for=192.0.2.9;x="a`, "192.0.2.9", `for="\"`} {
		f.Add(s)
	}
	d := fix.delivery("plain", "", `{"kind":"k","id":"1"}`)
	f.Fuzz(func(t *testing.T, written string) {
		for name, added := range map[string]string{"Forwarded": "for=203.0.113.1", "X-Forwarded-For": "203.0.113.1"} {
			r := d.request(t)
			r.RemoteAddr = "10.0.0.1:1"
			r.Header[name] = []string{written, added}
			w := httptest.NewRecorder()
			fix.service.Handler().ServeHTTP(w, r)
			if w.Code != http.StatusForbidden {
				t.Errorf("%s %q behind what a stranger wrote: answered %d, want 403", name, written, w.Code)
			}
		}
	})
}
