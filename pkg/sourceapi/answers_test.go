package sourceapi_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// Promise 10: whatever a source answers, it takes neither memory nor time
// beyond the configuration.
func TestOnlyAWholeStrictAnswerCounts(t *testing.T) {
	t.Parallel()
	write := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	compressed := func(write func(io.Writer)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			write(z)
			_ = z.Close()
		}
	}
	bomb := zeros(t, 10<<20)
	tests := map[string]struct {
		answer http.HandlerFunc
		want   fault.Class // "": success
	}{
		"JSON":            {write(`{"id":1}`), ""},
		"compressed JSON": {compressed(func(w io.Writer) { _, _ = io.WriteString(w, `{"id":1}`) }), ""},
		"just fits":       {write(`"` + strings.Repeat("x", 64<<10-2) + `"`), ""},
		"one byte over":   {write(`"` + strings.Repeat("x", 64<<10-1) + `"`), fault.Fatal},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, strings.Repeat("[", 4096))
			}
		}, fault.Fatal},
		"gzip bomb": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		}, fault.Fatal},
		"gzip of endless empty parts": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			for r.Context().Err() == nil {
				_ = gzip.NewWriter(w).Close()
			}
		}, fault.Transient},
		"broken gzip": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, `{"id":1}`)
		}, fault.Transient},
		"another encoding": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, "\x0b\x02\x80{}\x03")
		}, fault.Transient},
		"HTML with 200": {write("<html>maintenance</html>"), fault.Transient},
		"nothing":       {write(""), fault.Transient},
		"204":           {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, fault.Transient},
		"a name twice":  {write(`{"id":1,"id":2}`), fault.Transient},
		"broken UTF-8":  {write("\"\xff\""), fault.Transient},
		"two values":    {write(`{} {}`), fault.Transient},
		"cut JSON":      {write(`{"id":`), fault.Transient},
		"deep":          {write(strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000)), fault.Transient},
		"cut in the middle": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"id":1}`)
		}, fault.Transient},
		"hangs before the status": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, fault.Transient},
		"hangs in the body": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"id":`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, fault.Transient},
		"drips": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				<-time.After(10 * time.Millisecond)
			}
		}, fault.Transient},
		"endless header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
			_, _ = io.WriteString(w, "{}")
		}, fault.Transient},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.answer)
			cfg := api(s.URL)
			cfg.Timeout, cfg.MaxBody = 2*time.Second, 64<<10
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			started := time.Now()
			ans, err := newClient(t, cfg, sourceapi.Deps{}).Get(ctx, "/", nil)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || fault.ClassOf(err) != tt.want || ans.Body != nil {
				t.Errorf("Get() = %d bytes, %v, want none and a %s error", len(ans.Body), err, tt.want)
			}
			if took := time.Since(started); took > time.Minute {
				t.Errorf("Get() took %s", took)
			}
		})
	}
}

// zeros is n bytes of nothing in a thousandth of their size.
func zeros(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestABombTakesNoMemory(t *testing.T) { // alone, since it counts what the process allocates
	bomb := zeros(t, 100<<20)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb)
	})
	cfg := api(s.URL)
	cfg.MaxBody = 1 << 20
	c := newClient(t, cfg, sourceapi.Deps{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := c.Get(t.Context(), "/", nil); !fault.IsPermanent(err) {
		t.Errorf("Get() = %v, want a permanent error", err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
		t.Errorf("%d MiB allocated for an answer of at most 1 MiB", got>>20)
	}
}

func TestCanceledCallEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err := newClient(t, api(s.URL), sourceapi.Deps{}).Get(ctx, "/", nil)
	checkFate(t, err, fault.Transient, -1)
	if took := time.Since(started); took > 15*time.Second || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get() = %v after %s, want the context's error at once", err, took)
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	type sites struct {
		api, other *httptest.Server
		leaked     atomic.Int32 // requests that reached the other site
	}
	start := func(t *testing.T, to func(s *sites, r *http.Request) string) *sites {
		s := &sites{}
		s.other = serve(t, func(w http.ResponseWriter, _ *http.Request) {
			s.leaked.Add(1)
			fmt.Fprint(w, `{"from":"elsewhere"}`)
		})
		s.api = serve(t, func(w http.ResponseWriter, r *http.Request) {
			if target := to(s, r); target != "" {
				http.Redirect(w, r, target, http.StatusFound)
				return
			}
			fmt.Fprintf(w, "%q", r.Header.Get("Authorization"))
		})
		return s
	}
	hops := func(n int) func(*sites, *http.Request) string {
		return func(_ *sites, r *http.Request) string {
			if len(r.URL.Path) > n {
				return ""
			}
			return r.URL.Path + "x"
		}
	}
	tests := map[string]struct {
		to func(*sites, *http.Request) string
		ok bool
	}{
		"within the host":        {hops(3), true},
		"five times":             {hops(5), true},
		"six times":              {hops(6), false},
		"in a loop":              {func(*sites, *http.Request) string { return "/" }, false},
		"to another port":        {func(s *sites, _ *http.Request) string { return s.other.URL }, false},
		"to another name":        {func(s *sites, _ *http.Request) string { return strings.Replace(s.api.URL, "127.0.0.1", "localhost", 1) }, false},
		"to another scheme":      {func(s *sites, _ *http.Request) string { return strings.Replace(s.api.URL, "http:", "https:", 1) }, false},
		"to a metadata service":  {func(*sites, *http.Request) string { return "http://169.254.169.254/latest/meta-data/" }, false},
		"to a file":              {func(*sites, *http.Request) string { return "file:///etc/passwd" }, false},
		"with other credentials": {func(s *sites, _ *http.Request) string { return strings.Replace(s.api.URL, "//", "//u:p@", 1) }, false},
		"without a scheme":       {func(s *sites, _ *http.Request) string { return strings.TrimPrefix(s.other.URL, "http:") }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, tt.to)
			cfg := api(s.api.URL)
			cfg.Token = config.NewSecret("hunter2")
			ans, err := newClient(t, cfg, sourceapi.Deps{}).Get(t.Context(), "/", nil)
			if tt.ok && (err != nil || string(ans.Body) != `"Bearer hunter2"`) {
				t.Errorf("Get() = %s, %v, want the credential to stay", ans.Body, err)
			}
			if !tt.ok && !fault.IsPermanent(err) {
				t.Errorf("Get() = %s, %v, want a permanent error", ans.Body, err)
			}
			if n := s.leaked.Load(); n > 0 {
				t.Errorf("%d requests reached the other site", n)
			}
		})
	}
}

// Promise 9: no error text holds a secret, a query or what the source wrote.
func TestErrorsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	const planted = "hunter2"
	hijack := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}
	answers := map[string]http.HandlerFunc{
		"redirect elsewhere": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://hunter2.example.com/?hunter2")
			w.WriteHeader(302)
		},
		"redirect that can't be read": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://%zz/hunter2")
			w.WriteHeader(302)
		},
		"broken status line": hijack("HUNTER hunter2\r\n\r\n"),
		"broken status":      hijack("HTTP/1.1 hunter2\r\n\r\n"),
		"broken header":      hijack("HTTP/1.1 200 OK\r\nhunter2\r\n\r\n"),
		"broken length":      hijack("HTTP/1.1 200 OK\r\nContent-Length: hunter2\r\n\r\n"),
		"broken chunk":       hijack("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhunter2\r\n"),
		"broken encoding":    hijack("HTTP/1.1 200 OK\r\nTransfer-Encoding: hunter2\r\n\r\n"),
		"cut":                hijack("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"hunter2\":"),
		"reason phrase":      hijack("HTTP/1.1 500 hunter2\r\nContent-Length: 7\r\n\r\nhunter2"),
		"body of a refusal":  func(w http.ResponseWriter, _ *http.Request) { http.Error(w, planted, 400) },
		"body that isn't JSON": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"token":"hunter2","token":"hunter2"}`)
		},
		"hang":   func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"closed": hijack(""),
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, answer)
			cfg := api(s.URL)
			cfg.Timeout = time.Second
			cfg.Token = config.NewSecret(planted)
			cfg.Headers = map[string]config.Secret{"X-Api-Key": config.NewSecret(planted)}
			c := newClient(t, cfg, sourceapi.Deps{})
			_, err := c.Get(t.Context(), "/orders?key=hunter2", url.Values{"token": {planted}})
			if err == nil || strings.Contains(strings.ToLower(err.Error()), planted) {
				t.Errorf("Get() = %v, want an error without %s", err, planted)
			}
			if _, err = c.Get(t.Context(), "/orders\x7f?key=hunter2", nil); err == nil || strings.Contains(err.Error(), planted) {
				t.Errorf("Get() of a broken path = %v, want an error without %s", err, planted)
			}
			if text := fmt.Sprintf("%v %+v %#v", cfg.Token, provider.API{Auth: provider.Auth{Token: cfg.Token}}, cfg.Token); strings.Contains(text, planted) {
				t.Errorf("a formatted configuration shows the token: %s", text)
			}
		})
	}
}

// What a source may ask for by its headers is bounded.
func FuzzThrottleHeaders(f *testing.F) {
	f.Add(429, "120", "", "")
	f.Add(403, "", "0", "1793707200")
	f.Add(503, "Fri, 31 Dec 9999 23:59:59 GMT", "0", "1e9")
	f.Add(429, "-1", "NaN", "99999999999999999999")
	f.Add(429, ".", "0", "0.0000000000000000001")
	f.Fuzz(func(t *testing.T, status int, after, remaining, reset string) {
		if status < 400 || status > 599 {
			t.Skip()
		}
		c := newClient(t, api("https://api.example.com"), sourceapi.Deps{})
		err := c.Refusal(status, http.Header{
			"Retry-After": {after}, "X-Ratelimit-Remaining": {remaining}, "X-Ratelimit-Reset": {reset},
		})
		if err == nil {
			t.Fatalf("status %d is no error", status)
		}
		if d, _ := fault.Delay(err); d < 0 || d > time.Hour {
			t.Errorf("status %d, %q, %q, %q: wait of %s", status, after, remaining, reset, d)
		}
	})
}

// No path leads away from the API.
func FuzzAddress(f *testing.F) {
	for _, p := range []string{"/orders/7", "//evil.example.com", "/..%2f", "/%2e%2e", "/\\evil", "/@x", "/:80", "/a?b#c", "/%", "/\x00"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		c := newClient(t, api("https://api.example.com/v2"), sourceapi.Deps{})
		text, err := c.Address(path, url.Values{"q": {"1"}})
		if err != nil {
			return
		}
		u, err := url.Parse(text) // as a server or a proxy would
		if err != nil {
			t.Fatalf("Address(%q) = %q: %v", path, text, err)
		}
		if u.Scheme != "https" || u.Host != "api.example.com" || u.User != nil || u.Fragment != "" || !strings.HasPrefix(u.Path, "/v2/") ||
			!strings.HasSuffix(u.RawQuery, "q=1") {
			t.Errorf("Address(%q) = %q", path, text)
		}
		if clean := u.JoinPath().Path; !strings.HasPrefix(clean, "/v2") {
			t.Errorf("Address(%q) = %q, which resolves to %q", path, text, clean)
		}
	})
}
