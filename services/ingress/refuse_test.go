package ingress_test

import (
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/services/ingress"
)

// spoil is what turns a good delivery to the source orders into a bad one.
type spoil func(d *delivery, v *signature.Verifier, k signature.Key)

func path(p string) spoil {
	return func(d *delivery, _ *signature.Verifier, _ signature.Key) { d.path = p }
}

func method(m string) spoil {
	return func(d *delivery, _ *signature.Verifier, _ signature.Key) { d.method = m }
}

// headers sets a header that isn't signed; without values it goes.
func headers(name string, values ...string) spoil {
	return func(d *delivery, _ *signature.Verifier, _ signature.Key) {
		d.header[http.CanonicalHeaderKey(name)] = values
	}
}

// body signs another body.
func body(text string) spoil {
	return func(d *delivery, v *signature.Verifier, k signature.Key) {
		d.body = text
		d.signed(v, k, "", at)
	}
}

// signedAt signs at another time.
func signedAt(when time.Time) spoil {
	return func(d *delivery, v *signature.Verifier, k signature.Key) { d.signed(v, k, "", when) }
}

const goodBody = `{"kind":"order.paid","order":{"id":7}}`

var refusals = map[string]struct {
	spoil spoil
	want  int
	step  string // that Explain names
}{
	"no such source":          {path("/v1/nobody"), 404, "path"},
	"no source":               {path("/v1/"), 404, "path"},
	"no version":              {path("/orders"), 404, "path"},
	"slash at the end":        {path("/v1/orders/"), 404, "path"},
	"two slashes":             {path("/v1//orders"), 404, "path"},
	"slashes in front":        {path("//v1/orders"), 404, "path"},
	"dots":                    {path("/v1/./orders"), 404, "path"},
	"dots that go up":         {path("/x/../v1/orders"), 404, "path"},
	"escaped letter":          {path("/v1/%6frders"), 404, "path"},
	"escaped slash":           {path("/v1%2forders"), 404, "path"},
	"capitals":                {path("/v1/Orders"), 404, "path"},
	"no such account":         {path("/v1/tenants/east"), 404, "path"},
	"no account where some":   {path("/v1/tenants"), 404, "path"},
	"account of no source":    {path("/v1/stripe/north"), 404, "path"},
	"the name of no account":  {path("/v1/tenants/_"), 404, "path"},
	"more behind the account": {path("/v1/tenants/north/x"), 404, "path"},

	"GET":     {method("GET"), 405, "method"},
	"PUT":     {method("PUT"), 405, "method"},
	"OPTIONS": {method("OPTIONS"), 405, "method"},
	"post":    {method("post"), 405, "method"},

	"gzip":               {headers("Content-Encoding", "gzip"), 415, "content encoding"},
	"gzip at second":     {headers("Content-Encoding", "identity", "gzip"), 415, "content encoding"},
	"list of encodings":  {headers("Content-Encoding", "identity, br"), 415, "content encoding"},
	"another charset":    {headers("Content-Type", "application/json; charset=utf-16"), 415, "content type"},
	"text":               {headers("Content-Type", "text/plain"), 415, "content type"},
	"no content type":    {headers("Content-Type"), 415, "content type"},
	"two content types":  {headers("Content-Type", "application/json", "application/json"), 415, "content type"},
	"malformed type":     {headers("Content-Type", "application/json; ;;="), 415, "content type"},
	"long type":          {headers("Content-Type", "application/json; x="+strings.Repeat("a", 300)), 415, "content type"},
	"type not in UTF-8":  {headers("Content-Type", "application/json; x=\"\xff\""), 415, "content type"},
	"large, and says so": {body(`{"kind":"` + strings.Repeat("a", 17<<10) + `"}`), 413, "content length"},
	"large, unannounced": {func(d *delivery, v *signature.Verifier, k signature.Key) {
		body(`{"kind":"`+strings.Repeat("a", 17<<10)+`"}`)(d, v, k)
		d.chunked = true
	}, 413, "body"},

	"no signature":          {headers("X-Signature"), 401, signature.StepHeader},
	"empty signature":       {headers("X-Signature", ""), 401, signature.StepHeader},
	"two signatures":        {headers("X-Signature", strings.Repeat("0", 64), strings.Repeat("0", 64)), 401, signature.StepHeader},
	"truncated signature":   {headers("X-Signature", strings.Repeat("0", 62)), 401, signature.StepFormat},
	"guessed signature":     {headers("X-Signature", strings.Repeat("0", 64)), 401, signature.StepMatch},
	"no timestamp":          {headers("X-Timestamp"), 401, signature.StepTimestampHeader},
	"nonsense timestamp":    {headers("X-Timestamp", "1760000000.5"), 401, signature.StepTimestamp},
	"another timestamp":     {headers("X-Timestamp", "1760000000"), 401, signature.StepMatch},
	"another body":          {func(d *delivery, _ *signature.Verifier, _ signature.Key) { d.body += " " }, 401, signature.StepMatch},
	"too old":               {signedAt(at.Add(-5*time.Minute - time.Second)), 401, signature.StepWindow},
	"from the future":       {signedAt(at.Add(5*time.Minute + time.Second)), 401, signature.StepWindow},
	"forged and no JSON":    {func(d *delivery, _ *signature.Verifier, _ signature.Key) { d.body = "{" }, 401, signature.StepMatch},
	"a key of another time": {func(d *delivery, v *signature.Verifier, _ signature.Key) { d.signed(v, otherKey, "", at) }, 401, signature.StepMatch},

	"no JSON":           {body(`kind=order.paid`), 400, "structure"},
	"nothing":           {body(``), 400, "structure"},
	"UTF-16":            {body("\xff\xfe{\x00}\x00"), 400, "structure"},
	"UTF-16, no mark":   {body("{\x00}\x00"), 400, "structure"},
	"two values":        {body(goodBody + goodBody), 400, "structure"},
	"a name twice":      {body(`{"kind":"a","kind":"b"}`), 400, "structure"},
	"a name twice deep": {body(`{"kind":"a","o":[{"x":1,"x":1}]}`), 400, "structure"},
	"not UTF-8":         {body("{\"kind\":\"a\xff\"}"), 400, "structure"},
	"half a surrogate":  {body(`{"kind":"\ud800"}`), 400, "structure"},
	"very deep":         {body(`{"kind":"a","o":` + strings.Repeat("[", 8000) + `}`), 400, "structure"},

	"no type":            {body(`{"order":{"id":7}}`), 400, "event type"},
	"type in capitals":   {body(`{"Kind":"a"}`), 400, "event type"},
	"type is null":       {body(`{"kind":null}`), 400, "event type"},
	"type is empty":      {body(`{"kind":""}`), 400, "event type"},
	"type is an object":  {body(`{"kind":{"a":1}}`), 400, "event type"},
	"type too long":      {body(`{"kind":"` + strings.Repeat("a", 1025) + `"}`), 400, "event type"},
	"no object":          {body(`[1]`), 400, "event type"},
	"no delivery id":     {headers("X-Delivery"), 400, "event id"},
	"empty delivery id":  {headers("X-Delivery", ""), 400, "event id"},
	"two delivery ids":   {headers("X-Delivery", "a", "b"), 400, "event id"},
	"delivery id long":   {headers("X-Delivery", strings.Repeat("a", 1025)), 400, "event id"},
	"delivery id binary": {headers("X-Delivery", "a\xff"), 400, "event id"},
}

var otherKey = func() signature.Key {
	k, err := signature.ParseKey(signature.Scheme{Algorithm: signature.HMACSHA256}, "a secret of another time")
	if err != nil {
		panic(err)
	}
	return k
}()

// Promise 2: what fails a check is told so and never stored, and Explain says
// the same, with the step that failed.
func TestWhatFailsACheckIsRefusedAndNotStored(t *testing.T) {
	t.Parallel()
	f := setup(t)
	src := f.sources["orders"]
	for name, tt := range refusals {
		t.Run(name, func(t *testing.T) {
			d := f.delivery("orders", "d-1", goodBody)
			tt.spoil(&d, src.Verifier(), src.Keys()[0])
			r := f.send(d)
			if r.code != tt.want {
				t.Errorf("answered %d %q, want %d", r.code, r.Error, tt.want)
			}
			if r.code == http.StatusUnauthorized && r.Error != "signature not accepted" {
				t.Errorf("the sender is told %q", r.Error)
			}
			if allow := r.header.Get("Allow"); (allow == http.MethodPost) != (tt.want == http.StatusMethodNotAllowed) {
				t.Errorf("%d with Allow: %q", r.code, allow)
			}
			if got := f.stored(); got != 0 {
				t.Fatalf("%d messages stored, want none", got)
			}
			ex, err := ingress.Explain("orders", src, d.raw(), at)
			if err != nil {
				t.Fatal(err)
			}
			if step := failedStep(ex); ex.Accepted || ex.Status != tt.want || step.Name != tt.step || step.Detail == "" {
				t.Errorf("Explain: status %d at %+v, want %d at %q", ex.Status, step, tt.want, tt.step)
			}
		})
	}
	if r := f.send(f.delivery("orders", "d-1", goodBody)); r.Status != "accepted" {
		t.Errorf("the unspoilt delivery was answered %+v, so that the table proves nothing", r)
	}
	secret := environment["PLAIN"]
	if text := f.log.String(); strings.Contains(text, secret) || strings.Contains(text, "order.paid") || strings.Contains(text, strings.Repeat("0", 32)) {
		t.Error("the log quotes a secret, a body or a signature")
	}
}

func failedStep(ex ingress.Explanation) ingress.Step {
	for _, s := range ex.Steps {
		if s.Result == ingress.Failed {
			return s
		}
	}
	return ingress.Step{}
}

// Operators learn from the log what senders aren't told.
func TestLogSaysWhyASignatureFailed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	d := f.delivery("orders", "d-1", goodBody)
	d.header.Del("X-Timestamp")
	r := f.send(d)
	for _, want := range []string{
		`"source":"orders"`, `"step":"timestamp header"`, `"reason":"missing: no X-Timestamp"`, `"level":"WARN"`, `"request_id":"` + r.Req + `"`,
	} {
		if !strings.Contains(f.log.String(), want) {
			t.Errorf("the log has no %s: %s", want, f.log)
		}
	}
}

// A timestamp is taken on both sides of the clock up to the tolerance, that
// included.
func TestTimestampsWithinToleranceAreTaken(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for name, when := range map[string]time.Time{"old": at.Add(-5 * time.Minute), "early": at.Add(5 * time.Minute)} {
		for _, source := range []string{"orders", "stripe", "std"} {
			src := f.sources[source]
			d := f.delivery(source, name, `{"id":"`+name+`","kind":"x","type":"x"}`).signed(src.Verifier(), src.Keys()[0], name, when)
			if r := f.send(d); r.code != http.StatusOK {
				t.Errorf("%s, %s: answered %+v, want 200", source, name, r)
			}
		}
	}
}

// While secrets rotate, each of them counts; nothing else does.
func TestEachSecretOfARotationCounts(t *testing.T) {
	t.Parallel()
	f := setup(t)
	src := f.sources["rotating"]
	for i, k := range append(src.Keys(), otherKey) {
		d := f.delivery("rotating", "", `{"kind":"x","id":`+string(rune('1'+i))+`}`).signed(src.Verifier(), k, "", at)
		want := http.StatusOK
		if i == 2 {
			want = http.StatusUnauthorized
		}
		if r := f.send(d); r.code != want {
			t.Errorf("key %d: answered %d, want %d", i, r.code, want)
		}
	}
	if got := f.stored(); got != 2 {
		t.Errorf("%d messages stored, want 2", got)
	}
}

// Promise 10: what is refused costs nothing of the rate, however many come at once, so
// that a flood leaves the sender no debt.
func TestAFloodLeavesNoDebt(t *testing.T) {
	t.Parallel()
	r := ingress.NewRate(rate.NewLimiter(1, 1))
	if !r.Take(at) {
		t.Fatal("the first is refused")
	}
	var flood sync.WaitGroup
	for range 16 {
		flood.Go(func() {
			for range 10_000 {
				if r.Take(at) {
					t.Error("one more than the rate is taken")
				}
			}
		})
	}
	flood.Wait()
	if !r.Take(at.Add(time.Second)) {
		t.Error("the next is refused a second later")
	}
}

// Promise 10: a source's rate is its own.
func TestRateIsLimitedBySource(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for i := range 4 {
		r := f.send(f.delivery("limited", "", `{"kind":"x","n":`+string(rune('0'+i))+`}`))
		want := http.StatusOK
		if i >= 2 {
			want = http.StatusTooManyRequests
		}
		if r.code != want {
			t.Errorf("request %d: answered %+v, want %d", i, r, want)
		}
		if after := r.header.Get("Retry-After"); i >= 2 && after != "1800" {
			t.Errorf("Retry-After: %s, want the 1800 seconds until the next", after)
		}
	}
	if r := f.send(f.delivery("orders", "d", goodBody)); r.code != http.StatusOK {
		t.Errorf("another source was answered %+v", r)
	}
	if got := f.stored(); got != 3 {
		t.Errorf("%d messages stored, want 3", got)
	}
}

// Promise 2: a body that fits the source's limit but not the server's is
// refused for good, not stored by halves or promised.
func TestLargerThanTheServerTakes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for size, want := range map[int]int{1<<20 - 4096: 200, 1<<20 - 100: 413, 1 << 20: 413, 1<<20 + 1: 413, 2 << 20: 413, 2<<20 + 1: 413} {
		if r := f.send(f.delivery("bytes", "d", strings.Repeat("x", size))); r.code != want {
			t.Errorf("%d bytes: answered %+v, want %d", size, r, want)
		}
	}
	if got := f.stored(); got != 1 {
		t.Errorf("%d messages stored, want 1", got)
	}
}

// Promise 2: the same for a limit that the stream itself was given.
func TestLargerThanTheStreamTakes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	cfg := f.stream.CachedInfo().Config
	cfg.MaxMsgSize = 2000
	if _, err := f.jetstream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int]int{1000: 200, 3000: 413} {
		if r := f.send(f.delivery("bytes", "d", strings.Repeat("x", size))); r.code != want {
			t.Errorf("%d bytes: answered %+v, want %d", size, r, want)
		}
	}
	if got := f.stored(); got != 1 {
		t.Errorf("%d messages stored, want 1", got)
	}
}

// Of two content types, two readers could believe two different ones. It holds
// where every type is taken, too.
func TestTwoContentTypesAreRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	d := f.delivery("bytes", "d", "<a/>")
	d.header["Content-Type"] = []string{"text/xml", "application/json"}
	if r := f.send(d); r.code != http.StatusUnsupportedMediaType {
		t.Errorf("answered %+v, want 415", r)
	}
	d.header.Del("Content-Type")
	if r := f.send(d); r.code != http.StatusOK {
		t.Fatalf("without a type: answered %+v, want 200", r)
	}
	if got := f.last().Header.Get(event.HeaderContentType); got != "application/octet-stream" {
		t.Errorf("stored as %q, want application/octet-stream", got)
	}
}

// A source without a usable key must not become one that takes anything.
func TestNoServiceWithoutKeys(t *testing.T) {
	t.Parallel()
	f := setup(t)
	src := f.sources["orders"]
	try := func(change func(*ingress.Config)) error {
		cfg := ingress.Config{Ingress: pipeline.Default().Ingress, Sources: maps.Clone(f.sources)}
		change(&cfg)
		s, err := ingress.New(cfg, ingress.Deps{Conn: f.conn, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			s.Close()
		}
		return err
	}
	for name, change := range map[string]func(*ingress.Config){
		"unvalidated source": func(c *ingress.Config) { c.Sources["new"] = provider.Source{Verify: src.Verify, Event: src.Event} },
		"name of no source":  func(c *ingress.Config) { c.Sources["Not A Name"] = src },
		"no room":            func(c *ingress.Config) { c.MaxInFlight = 0 },
		"no time":            func(c *ingress.Config) { c.StoreTimeout = 0 },
	} {
		if err := try(change); err == nil {
			t.Errorf("%s: New() = nil error", name)
		}
	}
	if err := try(func(*ingress.Config) {}); err != nil {
		t.Errorf("unchanged: New() = %v", err)
	}
}
