package sourceapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// clock is a time that stands until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func api(base string) provider.API {
	return provider.API{Base: base, Concurrency: 8, Timeout: 20 * time.Second, MaxBody: 1 << 20, AllowPrivate: true}
}

func newClient(t testing.TB, cfg provider.API, deps sourceapi.Deps) *sourceapi.Client {
	t.Helper()
	c, err := sourceapi.New("orders", cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestGetAnswersWithTheRecord(t *testing.T) {
	t.Parallel()
	var got atomic.Pointer[http.Request]
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Clone(context.Background()))
		w.Header().Set("Etag", `"7"`)
		fmt.Fprint(w, ` {"id":"a/b"}`)
	})
	cfg := api(s.URL + "/v2/")
	cfg.Token = config.NewSecret("tok-1")
	cfg.Headers = map[string]config.Secret{"X-Api-Key": config.NewSecret("key-1"), "Accept": config.NewSecret("application/vnd.orders+json")}
	now := newClock()
	c := newClient(t, cfg, sourceapi.Deps{Now: now.now})
	ans, err := c.Get(t.Context(), "/orders/a%2Fb?x=1", url.Values{"since": {"2026-11-03T00:00:00+01:00"}})
	if err != nil {
		t.Fatal(err)
	}
	if ans.Status != 200 || string(ans.Body) != ` {"id":"a/b"}` || ans.Header.Get("Etag") != `"7"` ||
		!ans.RequestedAt.Equal(now.now()) || !ans.ReceivedAt.Equal(now.now()) {
		t.Errorf("Get() = %+v", ans)
	}
	r := got.Load()
	for what, pair := range map[string][2]string{
		"request":        {r.RequestURI, "/v2/orders/a%2Fb?x=1&since=2026-11-03T00%3A00%3A00%2B01%3A00"},
		"authorization":  {r.Header.Get("Authorization"), "Bearer tok-1"},
		"key":            {r.Header.Get("X-Api-Key"), "key-1"},
		"accept":         {r.Header.Get("Accept"), "application/vnd.orders+json"},
		"no trace leaks": {r.Header.Get("Traceparent"), ""},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %q, want %q", what, pair[0], pair[1])
		}
	}
}

func TestBasicAuthentication(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		fmt.Fprintf(w, "%q", user+" "+password+" "+r.Header.Get("Accept"))
	})
	cfg := api(s.URL)
	cfg.Basic = &provider.Basic{User: "u", Password: config.NewSecret("p:w")}
	ans, err := newClient(t, cfg, sourceapi.Deps{}).Get(t.Context(), "/", nil)
	if want := `"u p:w application/json"`; err != nil || string(ans.Body) != want {
		t.Errorf("Get() = %s, %v, want %s", ans.Body, err, want)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*provider.API){
		"no base":                func(a *provider.API) { a.Base = "" },
		"another scheme":         func(a *provider.API) { a.Base = "ftp://api.example.com" },
		"credentials in base":    func(a *provider.API) { a.Base = "https://u:hunter2@api.example.com" },
		"plain http":             func(a *provider.API) { a.Base, a.AllowPrivate = "http://api.example.com", false },
		"no concurrency":         func(a *provider.API) { a.Concurrency = 0 },
		"no timeout":             func(a *provider.API) { a.Timeout = 0 },
		"no body":                func(a *provider.API) { a.MaxBody = 0 },
		"line break in a secret": func(a *provider.API) { a.Token = config.NewSecret("hunter2\r\nX: y") },
		"odd header name":        func(a *provider.API) { a.Headers = map[string]config.Secret{"X Y": config.NewSecret("hunter2")} },
		"token and basic": func(a *provider.API) {
			a.Token, a.Basic = config.NewSecret("hunter2"), &provider.Basic{User: "u", Password: config.NewSecret("hunter2")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := api("https://api.example.com")
			change(&cfg)
			_, err := sourceapi.New("orders", cfg, sourceapi.Deps{})
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("New() = %v, want an error without the secret", err)
			}
		})
	}
}

// An id from a trigger stays where the path template puts it.
func TestHostileIDsStayInTheirPlace(t *testing.T) {
	t.Parallel()
	var last atomic.Value
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		last.Store(r.RequestURI)
		fmt.Fprint(w, "{}")
	})
	c := newClient(t, api(s.URL+"/v2"), sourceapi.Deps{})
	tests := map[string]struct{ path, want string }{
		"plain":                    {"/orders/7", "/v2/orders/7"},
		"slashes":                  {"/orders/" + url.PathEscape("//evil.example.com"), "/v2/orders/%2F%2Fevil.example.com"},
		"query":                    {"/orders/" + url.PathEscape("1?admin=1"), "/v2/orders/1%3Fadmin=1"},
		"fragment":                 {"/orders/" + url.PathEscape("1#x"), "/v2/orders/1%23x"},
		"escaped dots, as text":    {"/orders/" + url.PathEscape("%2e%2e"), "/v2/orders/%252e%252e"},
		"at sign":                  {"/" + url.PathEscape("@evil.example.com"), "/v2/@evil.example.com"},
		"host in front":            {"//evil.example.com/x", "/v2//evil.example.com/x"},
		"control character":        {"/orders/" + url.PathEscape("a\r\nX: y"), "/v2/orders/a%0D%0AX:%20y"},
		"dots":                     {"/orders/..", ""},
		"dot":                      {"/orders/./x", ""},
		"escaped dots":             {"/orders/%2e%2E/x", ""},
		"dots behind a slash":      {"/orders/" + url.PathEscape("../admin"), ""},
		"dots behind a backslash":  {"/orders/" + url.PathEscape(`..\admin`), ""},
		"no slash in front":        {"@evil.example.com/", ""},
		"port in front":            {":1/", ""},
		"bare fragment":            {"/orders/1#x", ""},
		"raw control character":    {"/orders/1\n", ""},
		"broken escape":            {"/orders/%zz", ""},
		"longer than any URL":      {"/" + strings.Repeat("a", 20<<10), ""},
		"absolute, not of the API": {"https://evil.example.com/", ""},
	}
	for name, tt := range tests { // one after the other: the server's memory is shared
		last.Store("")
		_, err := c.Get(t.Context(), tt.path, nil)
		if got := last.Load(); got != tt.want {
			t.Errorf("%s: server saw %q, want %q", name, got, tt.want)
		}
		if refused := tt.want == ""; refused != fault.IsPermanent(err) || !refused && err != nil {
			t.Errorf("%s: Get() = %v, want a permanent error %t", name, err, refused)
		}
	}
}

func TestStatusDecidesTheFate(t *testing.T) {
	t.Parallel()
	const none = -1
	now := newClock()
	in := func(d time.Duration) string { return fmt.Sprint(now.now().Add(d).Unix()) }
	h := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	tests := map[string]struct {
		status int
		header map[string]string
		want   fault.Class
		delay  time.Duration // none: not throttled
		again  bool          // a second request is made at once
		holds  bool          // further calls fail without a request
	}{
		"400":                              {400, nil, fault.Fatal, none, false, false},
		"401 waits for a credential":       {401, nil, fault.Postponed, 30 * time.Second, false, true},
		"402":                              {402, nil, fault.Fatal, none, false, false},
		"403 may be this record's":         {403, nil, fault.Transient, none, false, false},
		"403 of a used-up limit":           {403, h("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", in(90*time.Second)), fault.Postponed, 90 * time.Second, false, true},
		"403 of a limit not used up":       {403, h("X-RateLimit-Remaining", "9", "X-RateLimit-Reset", in(90*time.Second)), fault.Transient, none, false, false},
		"403 with Retry-After":             {403, h("Retry-After", "30"), fault.Postponed, 30 * time.Second, false, true},
		"404":                              {404, nil, fault.Transient, none, false, false},
		"405":                              {405, nil, fault.Fatal, none, false, false},
		"408":                              {408, nil, fault.Transient, none, false, false},
		"410":                              {410, nil, fault.Transient, none, false, false},
		"422":                              {422, nil, fault.Fatal, none, false, false},
		"425":                              {425, nil, fault.Transient, none, false, false},
		"429 without a time":               {429, nil, fault.Postponed, time.Second, false, true},
		"429 in seconds":                   {429, h("Retry-After", "120"), fault.Postponed, 2 * time.Minute, false, true},
		"429 in parts of seconds":          {429, h("Retry-After", "1.5"), fault.Postponed, 1500 * time.Millisecond, false, true},
		"429 until a date":                 {429, h("Retry-After", now.now().Add(45*time.Second).Format(http.TimeFormat)), fault.Postponed, 45 * time.Second, false, true},
		"429 until a moment ago":           {429, h("Retry-After", now.now().Add(-time.Second).Format(http.TimeFormat)), fault.Postponed, time.Second, false, true},
		"429 until a far date":             {429, h("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"), fault.Postponed, time.Hour, false, true},
		"429 until long ago":               {429, h("Retry-After", "Thu, 01 Jan 1970 00:00:00 GMT"), fault.Postponed, time.Second, false, true},
		"429 for a day is an hour":         {429, h("Retry-After", "86400"), fault.Postponed, time.Hour, false, true},
		"429 for less than nothing":        {429, h("Retry-After", "-5"), fault.Postponed, time.Second, false, true},
		"429 for ever":                     {429, h("Retry-After", "99999999999999999999"), fault.Postponed, time.Second, false, true},
		"429 for nonsense":                 {429, h("Retry-After", "soon"), fault.Postponed, time.Second, false, true},
		"429 for not a number":             {429, h("Retry-After", "NaN"), fault.Postponed, time.Second, false, true},
		"429 with a reset in seconds":      {429, h("RateLimit-Reset", "17"), fault.Postponed, 17 * time.Second, false, true},
		"429 with a reset since 1970":      {429, h("X-RateLimit-Reset", in(50*time.Second)), fault.Postponed, 50 * time.Second, false, true},
		"429 with a reset in milliseconds": {429, h("X-RateLimit-Reset", in(50*time.Second)+"000"), fault.Postponed, 50 * time.Second, false, true},
		"429 by a clock an hour ahead":     {429, h("Date", now.now().Add(time.Hour).Format(http.TimeFormat), "Retry-After", now.now().Add(time.Hour+45*time.Second).Format(http.TimeFormat)), fault.Postponed, 45 * time.Second, false, true},
		"429 by a clock an hour behind":    {429, h("Date", now.now().Add(-time.Hour).Format(http.TimeFormat), "X-RateLimit-Reset", in(-time.Hour+20*time.Second)), fault.Postponed, 20 * time.Second, false, true},
		"429 with the draft's header":      {429, h("RateLimit", `"burst";r=3;t=1, "daily";r=0;t=33`), fault.Postponed, 33 * time.Second, false, true},
		"429 with the draft's policy":      {429, h("RateLimit", `"hourly";r=0`, "RateLimit-Policy", `"other";q=9;w=1,"hourly";q=100;w=40`), fault.Postponed, 40 * time.Second, false, true},
		"429 with the older draft's":       {429, h("RateLimit", "limit=100, remaining=0, reset=21"), fault.Postponed, 21 * time.Second, false, true},
		"429 with one more hyphen":         {429, h("X-Rate-Limit-Reset", "9"), fault.Postponed, 9 * time.Second, false, true},
		"403 of a second limit":            {403, h("Retry-After", "60", "X-RateLimit-Remaining", "4999"), fault.Postponed, time.Minute, false, true},
		"400 of a configured limit":        {400, h("X-Left", "0", "X-Back", in(70*time.Second)+"000"), fault.Postponed, 70 * time.Second, false, true},
		"400 of a limit that is not full":  {400, h("X-Calls", "39/40"), fault.Fatal, none, false, false},
		"400 of a full one without a time": {400, h("X-Calls", "40/40"), fault.Postponed, 3 * time.Second, false, true},
		"500":                              {500, nil, fault.Transient, none, false, false},
		"502 is tried again":               {502, nil, fault.Transient, none, true, false},
		"503 is tried again":               {503, nil, fault.Transient, none, true, false},
		"503 with a time isn't":            {503, h("Retry-After", "10"), fault.Postponed, 10 * time.Second, false, true},
		"504":                              {504, nil, fault.Transient, none, false, false},
		"304":                              {304, nil, fault.Transient, none, false, false},
		"redirect to nowhere":              {302, nil, fault.Fatal, none, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				w.Header().Set("Date", now.now().Format(http.TimeFormat))
				for k, v := range tt.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(tt.status)
				if tt.status != 304 {
					fmt.Fprint(w, `{"error":"payload"}`)
				}
			})
			cfg := api(s.URL)
			cfg.Limits = []provider.Limit{{Remaining: "X-Left", Reset: "X-Back"}, {Used: "X-Calls", Wait: 3 * time.Second}}
			c := newClient(t, cfg, sourceapi.Deps{Now: now.now})
			ans, err := c.Get(t.Context(), "/orders/1", nil)
			checkFate(t, err, tt.want, tt.delay)
			if gone := tt.status == 404 || tt.status == 410; errors.Is(err, sourceapi.ErrNotFound) != gone {
				t.Errorf("Get() = %v, want ErrNotFound %t", err, gone)
			}
			if ans.Status != tt.status || !ans.RequestedAt.Equal(now.now()) {
				t.Errorf("Get() = status %d requested at %s, want %d, %s", ans.Status, ans.RequestedAt, tt.status, now.now())
			}
			if want := fmt.Sprintf("GET orders /orders/1: status %d", tt.status); !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "payload") {
				t.Errorf("error %q, want it to begin with %q and quote no payload", err, want)
			}
			first := calls.Load()
			if want := map[bool]int32{false: 1, true: 2}[tt.again]; first != want {
				t.Errorf("%d requests, want %d", first, want)
			}
			if held := c.Held() > 0; held != tt.holds {
				t.Errorf("Held() = %s, want more than 0: %t", c.Held(), tt.holds)
			}
			_, err = c.Get(t.Context(), "/orders/2", nil)
			if held := calls.Load() == first; held != tt.holds {
				t.Errorf("second call held back: %t (%v), want %t", held, err, tt.holds)
			}
		})
	}
}

func checkFate(t *testing.T, err error, want fault.Class, delay time.Duration) {
	t.Helper()
	if err == nil || fault.ClassOf(err) != want {
		t.Fatalf("Get() = %v, want a %s error", err, want)
	}
	got, asked := fault.Delay(err)
	if asked != (delay >= 0) || asked && (got < delay-10*time.Millisecond || got > delay+max(delay/10, 10*time.Millisecond)) {
		t.Errorf("delay %s, %t, want %s", got, asked, delay)
	}
}

// After "come back in a minute" nobody calls until the minute is over.
func TestThrottleIsRememberedUntilItsEnd(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(429)
			return
		}
		fmt.Fprint(w, "{}")
	})
	now := newClock()
	c := newClient(t, api(s.URL), sourceapi.Deps{Now: now.now})
	for _, step := range []struct {
		move, delay time.Duration
		calls       int32
	}{{0, 60 * time.Second, 1}, {0, 60 * time.Second, 1}, {59 * time.Second, time.Second, 1}} {
		now.move(step.move)
		_, err := c.Get(t.Context(), "/", nil)
		checkFate(t, err, fault.Postponed, step.delay)
		if got := calls.Load(); got != step.calls {
			t.Fatalf("%d requests, want %d", got, step.calls)
		}
	}
	now.move(time.Second)
	if _, err := c.Get(t.Context(), "/", nil); err != nil || calls.Load() != 2 {
		t.Errorf("Get() after the wait = %v after %d requests, want success with the second", err, calls.Load())
	}
}

func TestQuickRepeatMendsAClosedConnection(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, "{}")
	})
	if _, err := newClient(t, api(s.URL), sourceapi.Deps{}).Get(t.Context(), "/", nil); err != nil || calls.Load() != 2 {
		t.Errorf("Get() = %v after %d requests, want success with the second", err, calls.Load())
	}
}

func TestServerAwayCostsNoAttemptAndIsBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	s.Close()
	started := time.Now()
	_, err := newClient(t, api(s.URL), sourceapi.Deps{}).Get(t.Context(), "/orders/1", nil)
	checkFate(t, err, fault.Postponed, time.Second)
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("gave up after %s", took)
	}
}

func TestConcurrencyIsKept(t *testing.T) {
	t.Parallel()
	var inFlight, most atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n := inFlight.Add(1)
		defer inFlight.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-time.After(20 * time.Millisecond)
		fmt.Fprint(w, "{}")
	})
	cfg := api(s.URL)
	cfg.Concurrency = 3
	together(t, newClient(t, cfg, sourceapi.Deps{}), 30)
	if most.Load() != 3 {
		t.Errorf("%d requests in flight, want 3", most.Load())
	}
}

// together makes so many calls at once.
func together(t *testing.T, c *sourceapi.Client, calls int) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			if _, err := c.Get(t.Context(), fmt.Sprint("/", i), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestRateIsKept(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	cfg := api(s.URL)
	cfg.Rate = provider.Rate{Requests: 20, Per: 500 * time.Millisecond}
	c := newClient(t, cfg, sourceapi.Deps{})
	started := time.Now()
	together(t, c, 40)
	// Two at once, then 19 in each half second.
	if took, want := time.Since(started), 950*time.Millisecond; took < want {
		t.Errorf("40 requests took %s, want at least %s", took, want)
	}
}

func TestWaitingForTheRateCountsAgainstTheContext(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	cfg := api(s.URL)
	cfg.Rate = provider.Rate{Requests: 1, Per: time.Hour}
	c := newClient(t, cfg, sourceapi.Deps{})
	if _, err := c.Get(t.Context(), "/", nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Get(ctx, "/", nil)
	checkFate(t, err, fault.Postponed, time.Second)
}

func TestWaitingForASlotCountsAgainstTheContext(t *testing.T) {
	t.Parallel()
	busy, done := make(chan struct{}), make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		close(busy)
		<-done
		fmt.Fprint(w, "{}")
	})
	cfg := api(s.URL)
	cfg.Concurrency = 1
	c := newClient(t, cfg, sourceapi.Deps{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Get(t.Context(), "/", nil); err != nil {
			t.Error(err)
		}
	})
	<-busy
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Get(ctx, "/2", nil)
	checkFate(t, err, fault.Postponed, time.Second)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get() = %v, want the context's error", err)
	}
	close(done)
	wg.Wait()
}

func ExampleClient_Get() {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"id":"7","updated_at":"2026-11-03T12:00:00Z"}`)
	}))
	defer s.Close()
	c, err := sourceapi.New("orders", provider.API{
		Base: s.URL, Concurrency: 4, Timeout: time.Second, MaxBody: 1 << 20,
		AllowPrivate: true, // the example's server is on this machine
	}, sourceapi.Deps{})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	ans, err := c.Get(context.Background(), "/orders/7", nil)
	fmt.Println(ans.Status, string(ans.Body), err)
	// Output: 200 {"id":"7","updated_at":"2026-11-03T12:00:00Z"} <nil>
}

// What is seen with a clock that is wrong is put in order by the source's, of an
// answer and of a refusal alike. One that is right is more exact than a Date.
func TestObservedBySourcesClock(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		date func(now time.Time) string
		want func(now time.Time) time.Time
	}{
		"the same second": {
			func(now time.Time) string { return now.Format(http.TimeFormat) },
			func(now time.Time) time.Time { return now },
		},
		"this clock is ahead": {
			func(now time.Time) string { return now.Add(-time.Hour).Format(http.TimeFormat) },
			func(now time.Time) time.Time { return now.Truncate(time.Second).Add(time.Second - time.Hour) },
		},
		"this clock is behind": {
			func(now time.Time) string { return now.Add(time.Hour).Format(http.TimeFormat) },
			func(now time.Time) time.Time { return now.Truncate(time.Second).Add(time.Hour) },
		},
		"no date": {
			func(time.Time) string { return "" },
			func(now time.Time) time.Time { return now },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Date(2026, 11, 26, 12, 0, 0, 700_000_000, time.UTC)
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", tt.date(now))
				if r.URL.Path == "/gone" {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				fmt.Fprint(w, `{}`)
			})
			c := newClient(t, api(s.URL), sourceapi.Deps{Now: func() time.Time { return now }})
			for _, path := range []string{"/there", "/gone"} {
				ans, _ := c.Get(t.Context(), path, nil)
				if want := tt.want(now); !ans.ObservedAt.Equal(want) || !ans.RequestedAt.Equal(now) {
					t.Errorf("Get(%s) observed at %s, requested at %s, want %s, %s", path, ans.ObservedAt, ans.RequestedAt, want, now)
				}
			}
		})
	}
}

// Promise 7: what is seen within one second has its order although the clock is hours
// off, as soon as an answer has told by how much.
func TestObservedInOrderByAWrongClock(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]time.Duration{"ahead": 36 * time.Hour, "behind": -10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
			now := began
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", now.Format(http.TimeFormat))
				fmt.Fprint(w, `{}`)
			})
			own := off
			c := newClient(t, api(s.URL), sourceapi.Deps{Now: func() time.Time { return now.Add(own) }})
			observed := func(at time.Duration) time.Time {
				now = began.Add(at)
				ans, err := c.Get(t.Context(), fmt.Sprint("/", at), nil)
				if err != nil {
					t.Fatal(err)
				}
				return ans.ObservedAt
			}
			observed(20 * time.Millisecond)
			observed(980 * time.Millisecond)
			before := observed(1100 * time.Millisecond)
			for _, at := range []time.Duration{1300 * time.Millisecond, 1700 * time.Millisecond, 2100 * time.Millisecond} {
				seen := observed(at)
				if !seen.After(before) || seen.Sub(now).Abs() > 20*time.Millisecond {
					t.Errorf("observed at %s by the source's clock: said to be at %s, after %s", now, seen, before)
				}
				before = seen
			}
			own = 0 // somebody has set it right
			if seen := observed(2500 * time.Millisecond); !seen.Equal(now) {
				t.Errorf("by a clock that is right observed at %s, want %s", seen, now)
			}
		})
	}
}
