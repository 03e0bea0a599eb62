package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/internal/embednats"
)

// text is a buffer that may be read while others write to it.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// ServeHTTP takes whatever is posted, such as telemetry.
func (x *text) ServeHTTP(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(x, r.Body) }

// Promise 9: every secret that a running pipeline has is planted, every way
// out is looked through, and the API answers its errors with what it was sent.
// Not in parallel: the process has one tracer.
func TestPromise9NoSecretComesOut(t *testing.T) {
	const token, password, key, sender = "planted-bearer-token", "planted-basic-password", "planted-header-key", "planted-by-the-sender"
	dir := t.TempDir()
	file := func(value string) string {
		path := filepath.Join(dir, value)
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
		return "file:" + path
	}
	for name, tt := range map[string]struct {
		api     string
		planted []string
		asked   string // what proves that the API was sent them
	}{
		"a token": {
			api: fmt.Sprintf(", token: %q", file(token)), planted: []string{token}, asked: "Bearer " + token,
		},
		"a password and a key": {
			api:     fmt.Sprintf(", basic: {user: bot, password: %q}, headers: {X-Api-Key: %q}", file(password), file(key)),
			planted: []string{password, key, base64.StdEncoding.EncodeToString([]byte("bot:" + password))},
			asked:   "Basic " + base64.StdEncoding.EncodeToString([]byte("bot:"+password)),
		},
	} {
		t.Run(name, func(t *testing.T) {
			log, spans := &text{}, &text{}
			collector := httptest.NewServer(spans)
			t.Cleanup(collector.Close)
			s := startShop(t)
			p := startLive(t, s, liveOptions{api: tt.api, telemetry: fmt.Sprintf(", otlp: %q", collector.URL), log: log})
			address, _ := embednats.FindURL(p.data)
			u, err := url.Parse(address)
			if err != nil || len(u.User.Username()) < 16 {
				t.Fatalf("the embedded server's address has no token: %v", err)
			}
			l := leaks{t: t, p: p, out: map[string]string{}, planted: append(tt.planted, liveSecret, sender, u.User.Username())}
			l.live(s, sender)
			if asked := s.lastAsked(); asked.Get("Authorization") != tt.asked {
				t.Fatalf("the API was sent %v, so that the test proves nothing", asked)
			}
			until(t, "the spans have arrived", func() bool { return strings.Contains(spans.String(), "deliver local") })
			l.commands()
			l.telemetry()
			l.stored()
			l.out["log"], l.out["spans"] = log.String(), spans.String()
			l.check()
		})
	}
}

// leaks collects what a pipeline lets out, by the way out.
type leaks struct {
	t       *testing.T
	p       *livePipeline
	planted []string
	out     map[string]string
}

// live makes the pipeline go through success and failure of every stage.
func (l *leaks) live(s *shop, sender string) {
	t, p := l.t, l.p
	send := func(way string, change func(*http.Request)) {
		req := p.request(way, `{"type":"order.paid","id":"1"}`)
		req.Header.Set("Authorization", "Bearer "+sender)
		req.Header.Set("Cookie", "session="+sender)
		change(req)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var answer bytes.Buffer
		if err := resp.Write(&answer); err != nil {
			t.Fatal(err)
		}
		l.out["answer "+way] = answer.String()
	}
	s.put("1", 1)
	send("d-good", func(*http.Request) {})
	send("d-forged", func(r *http.Request) { r.Header.Set("X-Signature", strings.Repeat("0", 64)) })
	send("d-stale", func(r *http.Request) { r.Header.Set("X-Timestamp", "1") })
	send("d-unsigned", func(r *http.Request) { r.Header.Del("X-Signature") })
	send("d-nowhere", func(r *http.Request) { r.URL.Path = "/v1/nowhere" })
	send("d-method", func(r *http.Request) { r.Method = http.MethodPut })
	s.put("2", 1)
	s.breakDown("2", true)
	p.send("d-dead", `{"type":"order.paid","id":"2"}`)
	until(t, "the failing event is a dead letter", func() bool {
		return strings.Contains(ok(t, "dlq", "list", "--api", p.ConsoleURL), "d-dead")
	})
	s.breakDown("list", true)
	until(t, "a reconciliation fails for the broken API", func() bool { // the first one may still be at it
		o := tercel(t, "", "reconcile", "run", "orders", "order", "--api", p.ConsoleURL)
		return o.code == boot.Failed && strings.Contains(o.out, "422")
	})
}

// commands runs everything that an operator may.
func (l *leaks) commands() {
	t, p := l.t, l.p
	var good bytes.Buffer
	if err := p.request("d-good", `{"type":"order.paid","id":"1"}`).Write(&good); err != nil {
		t.Fatal(err)
	}
	bad := strings.Replace(good.String(), "paid", "void", 1)
	for line, stdin := range map[string]string{
		"status": "", "event trace d-good": "", "event trace d-dead": "", "event trace d-nothing": "",
		"dlq list": "", "dlq show 1": "", "event show d-good": "", "event refused": "", "event refused 1": "", "verify --source orders --refused 1": "", "dlq replay 1": "", "reconcile status": "", "reconcile run orders order --dry-run": "",
		"listen --since 1h -n 1": "", "verify --source orders -": good.String(), "verify --source orders --at 2031-01-01T00:00:00Z -": bad,
		"check": "", "up": "", "dlq groups": "", "event list": "",
		"source list": "", "destination list": "", "audit list": "",
	} {
		for _, form := range []string{"", " --json"} {
			args := strings.Fields(line + form)
			switch args[0] {
			case "up":
				args = append(args, "-c", p.config, "--data", p.data)
			case "check", "verify":
				args = append(args, "-c", p.config)
			}
			if args[0] != "check" && args[0] != "up" && stdin == "" {
				args = append(args, "--api", p.ConsoleURL)
			}
			o := tercel(t, stdin, args...)
			l.out["tercel "+line+form] = o.out + o.err
		}
	}
}

func (l *leaks) telemetry() {
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		resp, err := http.Get(l.p.TelemetryURL + path)
		if err != nil {
			l.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			l.t.Fatal(err)
		}
		l.out[path] = string(body)
	}
}

// stored reads every message of every stream, buckets included, and the
// database.
func (l *leaks) stored() {
	ctx := l.t.Context()
	js, err := jetstream.New(l.p.Conn, natstest.Patient())
	if err != nil {
		l.t.Fatal(err)
	}
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		var b strings.Builder
		for m, err := range consume.Scan(ctx, js, consume.ScanOptions{Stream: name}) {
			if err != nil {
				l.t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s\n%v\n%s\n", m.Subject, m.Header, m.Data)
		}
		if b.Len() > 0 { // a bucket may be empty
			l.out["stream "+name] = b.String()
		}
	}
	if err := names.Err(); err != nil {
		l.t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(l.p.data, "tercel.db*"))
	if err != nil || len(files) == 0 {
		l.t.Fatalf("no database: %v", err)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			l.t.Fatal(err)
		}
		l.out["database"] += string(b)
	}
}

func (l *leaks) check() {
	for way, want := range map[string]string{ // what shows that the way was looked at
		"answer d-good": "accepted", "answer d-forged": "401", "log": "webhook not taken", "spans": "receive orders", "/metrics": "tercel_requests_answered",
		"stream TERCEL_RAW": "d-good", "stream TERCEL_ENRICHED": "d-good", "stream TERCEL_DLQ": "d-dead", "stream TERCEL_REPORTS": "422",
		"stream TERCEL_ADVISORIES": "terminated", "stream TERCEL_REFUSED": "signature match", "tercel event refused 1": "signature", "database": "d-good", "tercel dlq show 1 --json": "422", "tercel verify --source orders -": "accepted",
		"tercel up": "in use", "tercel listen --since 1h -n 1 --json": "order",
	} {
		if !strings.Contains(l.out[way], want) {
			l.t.Errorf("%s has no %q, so that it proves nothing:\n%.2000s", way, want, l.out[way])
		}
	}
	for way, out := range l.out {
		for _, secret := range l.planted {
			for form, value := range map[string]string{
				"as it is": secret, "escaped": url.QueryEscape(secret), "in base64": base64.StdEncoding.EncodeToString([]byte(secret)),
				"in hex": hex.EncodeToString([]byte(secret)),
			} {
				if at := strings.Index(out, value); at >= 0 {
					l.t.Errorf("%s has the secret %q %s: %q", way, secret, form, out[max(0, at-60):min(len(out), at+len(value)+20)])
				}
			}
		}
	}
}
