package webhook_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
	"github.com/tercelhq/tercel/services/sink/internal/webhook"
)

const (
	newSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	oldSecret = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
)

// item is event n of the given record, delivered for the first time.
func item(n int, record string) delivery.Item {
	at := time.Date(2026, 3, 1, 12, 0, n, 0, time.UTC)
	return delivery.Item{
		Event: event.Event{
			ID: fmt.Sprint("evt-", n), Source: "orders", Account: "north", Type: "order.paid", Origin: event.Webhook, ReceivedAt: at,
			ContentType: "application/json", Resource: "order", RecordID: record, Version: event.TimeVersion(at), ObservedAt: at,
		},
		Body: fmt.Appendf(nil, `{"trigger":{},"record":{"n":%d}}`, n), Sequence: uint64(n), Attempt: 1,
	}
}

// receiver is a server whose answers a test decides; it remembers what came.
type receiver struct {
	t *testing.T
	*httptest.Server
	mu     sync.Mutex // guards what follows
	answer http.HandlerFunc
	ids    []string
	header []http.Header
}

func serve(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	s := &receiver{t: t, answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.ids = append(s.ids, strings.TrimPrefix(r.Header.Get("Webhook-Id"), "orders:north:"))
		s.header = append(s.header, r.Header)
		answer := s.answer
		s.mu.Unlock()
		for _, secret := range []string{newSecret, oldSecret} {
			lib, err := standardwebhooks.NewWebhook(secret)
			if err == nil {
				err = lib.Verify(body, r.Header)
			}
			if err != nil {
				t.Errorf("a webhook is not accepted under one of its secrets: %v", err)
			}
		}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// got are the ids of all events that came, in their order.
func (s *receiver) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.ids...)
}

func (s *receiver) answers(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// settings are those of a pipeline file that says only what it must.
func settings(s *receiver) pipeline.HTTP {
	return pipeline.HTTP{
		URL: s.URL + "/hooks?token=t0k3n", Secrets: []config.Secret{config.NewSecret(newSecret), config.NewSecret(oldSecret)},
		Headers: map[string]config.Secret{"Authorization": config.NewSecret("Bearer b34r3r")},
		Timeout: 5 * time.Second, Concurrency: 4, AllowPrivate: true,
	}
}

func quick() consume.Config {
	cfg := consume.DefaultConfig()
	cfg.RetryMin, cfg.RetryMax, cfg.MaxAttempts = 10*time.Millisecond, 100*time.Millisecond, 4
	return cfg
}

func open(t *testing.T, cfg pipeline.HTTP) *webhook.Receiver {
	t.Helper()
	r, err := webhook.New("crm", cfg, quick())
	if err == nil {
		err = r.Open(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func write(t *testing.T, r *webhook.Receiver, items ...delivery.Item) []delivery.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	results := r.Write(ctx, items)
	for _, res := range results {
		if res.Err != nil && (strings.Contains(res.Err.Error(), "t0k3n") || strings.Contains(fault.Detail(res.Err), "b34r3r")) {
			t.Errorf("a secret is in %v with detail %q", res.Err, fault.Detail(res.Err))
		}
	}
	return results
}

// taken checks that every item was taken.
func taken(t *testing.T, results []delivery.Result) {
	t.Helper()
	for i, r := range results {
		if r.Err != nil {
			t.Errorf("item %d: %v", i, r.Err)
		}
	}
}

func TestRequestHasSignaturesAndAttributes(t *testing.T) {
	t.Parallel()
	s := serve(t, status(http.StatusNoContent))
	taken(t, write(t, open(t, settings(s)), item(7, "a b")))
	h := s.header[0]
	for name, want := range map[string]string{
		"Webhook-Id": "orders:north:evt-7", "Ce-Id": "evt-7", "Ce-Source": "/sources/orders/north", "Ce-Type": "order.paid",
		"Ce-Specversion": "1.0", "Ce-Subject": "a%20b", "Content-Type": "application/json", "Tercel-Sequence": "7",
		"Tercel-Resource": "order", "Tercel-Version": "t2026-03-01T12:00:07.000000000Z", "Tercel-Origin": "webhook",
		"Authorization": "Bearer b34r3r", "User-Agent": "tercel", "Traceparent": "",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if n := len(strings.Fields(h.Get("Webhook-Signature"))); n != 2 {
		t.Errorf("%d signatures, want one for each secret", n)
	}
}

// Each answer has its meaning for the event and for the destination.
func TestAnswersMeanWhatTheyShould(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer http.HandlerFunc
		class  fault.Class // "": taken
		outage bool
		delay  time.Duration // at least; 0: of no interest
		text   string
	}{
		"200": {answer: status(200)},
		"299": {answer: status(299)},
		"2xx that hangs": {answer: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(202)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}},
		"endless 2xx":     {answer: func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, neverEnds{}) }},
		"307":             {status(307, "Location", "/elsewhere"), fault.Postponed, true, 0, "redirects are not followed"},
		"400":             {status(400), fault.Fatal, false, 0, "status 400"},
		"401":             {status(401), fault.Postponed, true, 0, "refuses the signature or a credential"},
		"403":             {status(403), fault.Transient, false, 0, "status 403"},
		"404":             {status(404), fault.Transient, false, 0, "status 404"},
		"408":             {status(408), fault.Transient, false, 0, "status 408"},
		"409":             {status(409), fault.Fatal, false, 0, "status 409"},
		"410":             {status(410), fault.Postponed, true, 0, "wants no more events"},
		"422":             {status(422), fault.Fatal, false, 0, "status 422"},
		"425":             {status(425), fault.Transient, false, 0, "status 425"},
		"429":             {status(429), fault.Postponed, true, 10 * time.Millisecond, "status 429"},
		"429 with a time": {status(429, "Retry-After", "90"), fault.Postponed, true, 90 * time.Second, "asked to wait"},
		"500":             {status(500), fault.Transient, false, 0, "status 500"},
		"502":             {status(502), fault.Transient, false, 0, "status 502"},
		"503":             {status(503, "Retry-After", "30"), fault.Postponed, true, 30 * time.Second, "asked to wait"},
		"hangs":           {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, fault.Transient, false, 0, "no complete answer in time"},
		"hangs up":        {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, fault.Transient, false, 0, "connection closed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := settings(serve(t, tt.answer))
			if name == "hangs" {
				cfg.Timeout = 100 * time.Millisecond
			}
			if tt.class == "" { // the body is not waited for as long as the status may be
				cfg.Timeout = time.Hour
			}
			began := time.Now()
			res := write(t, open(t, cfg), item(1, "a"))[0]
			if tt.class == "" {
				if took := time.Since(began); res.Err != nil || took > 30*time.Second {
					t.Errorf("Write() = %v after %s", res.Err, took)
				}
				return
			}
			if res.Err == nil || fault.ClassOf(res.Err) != tt.class || res.Outage != tt.outage || !strings.Contains(res.Err.Error(), tt.text) {
				t.Fatalf("Write() = %v, %t, want %s, %t with %q", res.Err, res.Outage, tt.class, tt.outage, tt.text)
			}
			if delay, _ := fault.Delay(res.Err); delay < tt.delay {
				t.Errorf("a delay of %s, want at least %s", delay, tt.delay)
			}
		})
	}
}

type neverEnds struct{}

func (neverEnds) Read(p []byte) (int, error) { return len(p), nil }

// What the receiver wrote is there for whoever reads the dead letter: bounded,
// readable and without our own secrets (promise 9).
func TestPromise9AnswersAreKeptWithoutSecrets(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(422)
		_, _ = fmt.Fprintf(w, "no such customer\x1b[31m \xff of %s%s\n%s", r.Header.Get("Authorization"),
			strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), strings.Repeat("x", 10<<10))
	})
	err := write(t, open(t, settings(s)), item(1, "a"))[0].Err
	detail := fault.Detail(err)
	if !strings.HasPrefix(detail, "no such customer [31m \uFFFD of [redacted][redacted]\nxxx") || len(detail) > 4<<10 || strings.Contains(err.Error(), "customer") {
		t.Errorf("detail %.80q of %d bytes in %q", detail, len(detail), err)
	}
}

// A server on this machine is called only when that is allowed, and one that
// may not be called is no fault of an event's.
func TestGuardedAddressIsAnOutage(t *testing.T) {
	t.Parallel()
	cfg := settings(serve(t, status(200)))
	cfg.AllowPrivate = false
	r, err := webhook.New("crm", cfg, quick())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Open(t.Context()); err == nil || fault.IsPermanent(err) || !strings.Contains(err.Error(), "allow_private") {
		t.Errorf("Open() = %v", err)
	}
	res := write(t, r, item(1, "a"))[0]
	if !fault.IsPostponed(res.Err) || fault.IsPermanent(res.Err) || !res.Outage {
		t.Errorf("Write() = %v, %t", res.Err, res.Outage)
	}
}

func TestBatchFitsItsTime(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*pipeline.HTTP)
		want   int
	}{
		"two rounds":              {func(h *pipeline.HTTP) { h.Timeout = 15 * time.Second; h.Concurrency = 8 }, 16},
		"one long round":          {func(h *pipeline.HTTP) { h.Timeout = time.Hour; h.Concurrency = 8 }, 8},
		"a low rate":              {func(h *pipeline.HTTP) { h.Rate.Requests = 1; h.Rate.Per = 10 * time.Second }, 3},
		"a very low rate":         {func(h *pipeline.HTTP) { h.Rate.Requests = 1; h.Rate.Per = time.Hour }, 1},
		"no more than the sink's": {func(h *pipeline.HTTP) { h.Timeout = time.Millisecond; h.Concurrency = 100 }, 500},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := pipeline.HTTP{URL: "https://hooks.example.com", Timeout: 15 * time.Second, Concurrency: 8}
			tt.change(&cfg)
			loop := consume.DefaultConfig()
			loop.Batch = 500
			r, err := webhook.New("crm", cfg, loop)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Batch(); got != tt.want {
				t.Errorf("Batch() = %d, want %d", got, tt.want)
			}
		})
	}
}

func TestConcurrencyAndRateAreKept(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	inFlight, most := 0, 0
	full, release := make(chan struct{}), make(chan struct{})
	s := serve(t, func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		inFlight++
		if most = max(most, inFlight); inFlight == 3 {
			close(full)
		}
		mu.Unlock()
		<-release
		mu.Lock()
		inFlight--
		mu.Unlock()
	})
	cfg := settings(s)
	cfg.Concurrency, cfg.Timeout = 3, time.Minute
	r := open(t, cfg)
	var items []delivery.Item
	for n := range 10 {
		items = append(items, item(n, fmt.Sprint(n)))
	}
	var calls sync.WaitGroup
	for half := range 2 { // two calls share the slots
		calls.Go(func() { taken(t, write(t, r, items[5*half:5*half+5]...)) })
	}
	<-full
	close(release)
	calls.Wait()
	if most != 3 {
		t.Errorf("%d requests at once, want 3", most)
	}

	cfg.Rate.Requests, cfg.Rate.Per = 1, time.Hour
	res := write(t, open(t, cfg), items[:2]...)
	if failed := res[0].Err; failed == nil {
		failed = res[1].Err
		if !fault.IsPostponed(failed) || res[1].Outage {
			t.Errorf("beyond the rate: %v, %t, want postponed and no outage", failed, res[1].Outage)
		}
	} else if !fault.IsPostponed(failed) || res[0].Outage || res[1].Err != nil {
		t.Errorf("beyond the rate: %v and %v", failed, res[1].Err)
	}
}

// A secret of ours in an answer is not shown in part either, where it is cut.
func TestPromise9SecretIsNotShownWhereAnAnswerIsCut(t *testing.T) {
	t.Parallel()
	const secret = "b34r3r-of-quite-some-length"
	for at := 4<<10 - len(secret) - 2; at <= 4<<10+2*len(secret); at += 3 {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(422)
			_, _ = io.WriteString(w, secret+strings.Repeat("x", at-len(secret))+secret+"and more")
		})
		cfg := settings(s)
		cfg.Headers = map[string]config.Secret{"Authorization": config.NewSecret(secret)}
		detail := fault.Detail(write(t, open(t, cfg), item(1, "a"))[0].Err)
		if strings.Contains(detail, secret[:2]) || len(detail) < 3<<10 || len(detail) > 4<<10 {
			t.Fatalf("with the secret at %d: %d bytes that end in %q", at, len(detail), detail[len(detail)-40:])
		}
	}
}
