package console_test

import (
	"bufio"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/services/console"
)

// reader is somebody at a browser without JavaScript.
type reader struct {
	*fixture
	client *http.Client
}

func (f *fixture) reader() *reader {
	f.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		f.Fatal(err)
	}
	return &reader{f, &http.Client{Jar: jar}}
}

// page is what a reader gets to see, after redirects.
type page struct {
	status int
	path   string
	text   string
	header http.Header
}

func (r *reader) do(method, path string, form url.Values, edits ...func(*http.Request)) page {
	r.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(r.Context(), method, r.url+path, body)
	if err != nil {
		r.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, edit := range edits {
		edit(req)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return page{resp.StatusCode, resp.Request.URL.RequestURI(), string(text), resp.Header}
}

func (r *reader) get(path string) page { r.Helper(); return r.do(http.MethodGet, path, nil) }

func (r *reader) signIn(token string) page {
	r.Helper()
	return r.do(http.MethodPost, "/sign-in", url.Values{"token": {token}, "next": {"/sources"}})
}

// places are all pages that can be read.
var places = []string{
	"/", "/events", "/events/tail", "/dead-letters", "/dead-letters/all", "/reconciliation", "/sources", "/sources/refusals", "/audit",
}

// changes are all that can be done on a page.
var changes = map[string]url.Values{
	"/dead-letters/1/edit":   {"patch": {"[]"}, "do": {"keep"}, "reason": {"x"}},
	"/dead-letters/replay":   {"plan": {"x"}, "rate": {"1"}, "reason": {"x"}},
	"/dead-letters/discard":  {"expected": {"1"}, "reason": {"x"}, "sequence": {"1"}},
	"/replays/x/stop":        {},
	"/reconciliation/run":    {"source": {"orders"}, "resource": {"order"}, "reason": {"x"}},
	"/reconciliation/pause":  {"source": {"orders"}, "resource": {"order"}, "reason": {"x"}},
	"/reconciliation/resume": {"source": {"orders"}, "resource": {"order"}, "reason": {"x"}},
	"/sources/pause":         {"source": {"orders"}, "reason": {"x"}},
	"/sources/resume":        {"source": {"orders"}, "reason": {"x"}},
}

func TestPagesAreForThoseWhoSignedIn(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.reader()
	for _, path := range append(places, "/events/tail/stream", "/replays/x", "/dead-letters/1", "/reconciliation/x") {
		if p := r.get(path); !strings.HasPrefix(p.path, "/sign-in?next=") || strings.Contains(p.text, "orders") {
			t.Errorf("%s shows %s to whoever asks", path, p.path)
		}
	}
	for path, form := range changes {
		if p := r.do(http.MethodPost, path, form); !strings.HasPrefix(p.path, "/sign-in?next=") {
			t.Errorf("%s did something for whoever asks: %s", path, p.path)
		}
	}
	for name, token := range map[string]string{"wrong": "not a token at all, but long", "expired": oldToken, "empty": ""} {
		if p := r.signIn(token); p.status != http.StatusForbidden || !strings.Contains(p.text, `role="alert"`) || len(r.client.Jar.Cookies(must(f.url))) > 0 {
			t.Errorf("with a token that is %s: %d %s", name, p.status, p.path)
		}
	}
	p := r.signIn(" " + viewerToken + "\n")
	if p.status != http.StatusOK || p.path != "/sources" || !strings.Contains(p.text, "victor (viewer)") {
		t.Fatalf("signed in: %d %s", p.status, p.path)
	}
	for _, path := range places {
		if p := r.get(path); p.status != http.StatusOK || p.path != path {
			t.Errorf("%s: %d %s", path, p.status, p.path)
		}
	}
	if p := r.do(http.MethodPost, "/sign-out", nil); !strings.HasPrefix(p.path, "/sign-in") {
		t.Errorf("signed out: %s", p.path)
	}
	if p := r.get("/"); !strings.HasPrefix(p.path, "/sign-in") {
		t.Errorf("after signing out: %s", p.path)
	}
}

func must(address string) *url.URL {
	u, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	return u
}

// Wrong tokens from an address that operators share, as behind a proxy, sign none of
// them out and keep none from signing in.
func TestWrongTokensSignNobodyOut(t *testing.T) {
	t.Parallel()
	f := setup(t)
	in, stranger := f.reader(), f.reader()
	in.signIn(operatorToken)
	for range 10 {
		stranger.signIn("not a token at all, but long")
	}
	if p := stranger.signIn("not a token at all, but long"); p.status != http.StatusTooManyRequests {
		t.Fatalf("the eleventh wrong token: %d, want 429", p.status)
	}
	if p := in.get("/sources"); p.status != http.StatusOK || p.path != "/sources" {
		t.Errorf("who was signed in is sent to %s (%d)", p.path, p.status)
	}
	if p := f.reader().signIn(viewerToken); p.status != http.StatusOK || p.path != "/sources" {
		t.Errorf("who signs in is sent to %s (%d)", p.path, p.status)
	}
}

func TestViewersChangeNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.reader()
	r.signIn(viewerToken)
	for path, form := range changes {
		if p := r.do(http.MethodPost, path, form); p.status != http.StatusForbidden && path != "/dead-letters/1/edit" {
			t.Errorf("%s: %d\n%s", path, p.status, p.text)
		}
	}
	for _, path := range places {
		if p := r.get(path); strings.Contains(p.text, `name="reason"`) {
			t.Errorf("%s offers a viewer what it may not do", path)
		}
	}
}

// A page of another site can't have a reader's browser do anything.
func TestOtherSitesCantActForAReader(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.reader()
	r.signIn(operatorToken)
	for path, form := range changes {
		for name, header := range map[string][2]string{
			"by fetch metadata": {"Sec-Fetch-Site", "cross-site"},
			"by a sibling":      {"Sec-Fetch-Site", "same-site"},
			"by origin":         {"Origin", "https://evil.example.com"},
		} {
			if p := r.do(http.MethodPost, path, form, func(req *http.Request) { req.Header.Set(header[0], header[1]) }); p.status != http.StatusForbidden {
				t.Errorf("%s %s: %d", path, name, p.status)
			}
		}
		if p := r.get(path + "?" + form.Encode()); p.status != http.StatusMethodNotAllowed && p.status != http.StatusNotFound {
			t.Errorf("GET %s: %d, want that only POST changes anything", path, p.status)
		}
	}
	// The cookie itself isn't for other sites, nor for scripts.
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).
		PostForm(f.url+"/sign-in", url.Values{"token": {operatorToken}, "next": {"//evil.example.com/"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if c := resp.Header.Get("Set-Cookie"); !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Strict") || strings.Contains(c, operatorToken) || strings.Contains(c, "Secure") {
		t.Errorf("cookie %q", c)
	}
	if to := resp.Header.Get("Location"); to != "/" {
		t.Errorf("sent to %q, want nowhere else", to)
	}
}

// A browser that reaches the console through a proxy that ends TLS says so, and keeps
// its cookie for encrypted connections.
func TestTheCookieIsForEncryptedConnectionsBehindAProxyToo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+"/sign-in", strings.NewReader(url.Values{"token": {operatorToken}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", "https://"+req.URL.Host)
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if c := resp.Header.Get("Set-Cookie"); !strings.Contains(c, "; Secure") {
		t.Errorf("cookie %q, status %d", c, resp.StatusCode)
	}
}

func TestPagesForbidWhatTheyDontNeed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.reader()
	r.signIn(operatorToken)
	for _, path := range append(places, "/static/console.css", "/static/console.js", "/no-such-page", "/dead-letters/99") {
		h := r.get(path).header
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
				"form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
			"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
			"Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s lets others in: %v", path, h)
		}
	}
	for _, path := range places {
		text := r.get(path).text
		for _, bad := range []string{"style=", "onclick=", "http://", "https://", "<script>"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has %q, which its policy forbids", path, bad)
			}
		}
		if strings.Contains(text, "%3d") {
			t.Errorf("%s has a link whose query is escaped as one value", path)
		}
	}
}

// What the outside sends is shown as text, whatever it looks like.
func TestPayloadsAreText(t *testing.T) {
	t.Parallel()
	f := setup(t)
	evil := `<script>alert(1)</script>"'><img src=x onerror=alert(2)>` + "\u202e\x1b[31m"
	e := event.Event{
		ID: evil, Source: "orders", Account: evil, Type: "order." + evil, Origin: event.Webhook, ContentType: "text/plain",
	}
	m := nats.NewMsg(e.RawSubject())
	m.Header, m.Data = e.Header(), []byte(evil+"\xff\x00"+strings.Repeat("[", 20000))
	if _, err := f.js.PublishMsg(t.Context(), m, jetstream.WithMsgID(e.MsgID())); err != nil {
		t.Fatal(err)
	}
	r := f.reader()
	r.signIn(operatorToken)
	address := "/events/one?" + url.Values{"id": {evil}}.Encode()
	until(t, "the event is found", func() bool { return r.get(address).status == http.StatusOK })
	for _, path := range []string{"/events", address, "/events?" + url.Values{"type": {"order.>"}, "record": {evil}}.Encode()} {
		p := r.get(path)
		if p.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, p.status, p.text)
		}
		// A form keeps what was filled in.
		p.text = regexp.MustCompile(` value="[^"]*"`).ReplaceAllString(p.text, "")
		for _, bad := range []string{"<script>alert", "<img src=x", "\u202e", "\x1b", "\x00", "\xff"} {
			if strings.Contains(p.text, bad) {
				t.Errorf("%s has %q as it came", path, bad)
			}
		}
	}
	if p := r.get(address); !strings.Contains(p.text, "&lt;script&gt;alert(1)&lt;/script&gt;") || !strings.Contains(p.text, `\u{202e}`) {
		t.Errorf("the payload isn't shown:\n%.3000s", p.text)
	}
}

func TestAddressesThatSomebodyMadeUp(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.reader()
	r.signIn(operatorToken)
	for path, want := range map[string]int{
		"/events?page=made-up":                      http.StatusBadRequest,
		"/events?status=happy":                      http.StatusBadRequest,
		"/events?since=forever":                     http.StatusBadRequest,
		"/events?from=yesterday":                    http.StatusBadRequest,
		"/events?page=" + strings.Repeat("A", 5000): http.StatusBadRequest,
		"/events/one":                               http.StatusBadRequest,
		"/events/one?id=nobody":                     http.StatusNotFound,
		"/dead-letters?page=%00":                    http.StatusBadRequest,
		"/dead-letters/0":                           http.StatusNotFound,
		"/dead-letters/-1":                          http.StatusNotFound,
		"/dead-letters/99999999999999999999":        http.StatusNotFound,
		"/dead-letters/17":                          http.StatusNotFound,
		"/dead-letters/all?state=lost":              http.StatusBadRequest,
		"/dead-letters/all?sequence=x":              http.StatusBadRequest,
		"/dead-letters/groups/nothing":              http.StatusNotFound,
		"/reconciliation/nothing":                   http.StatusNotFound,
		"/reconciliation?page=x":                    http.StatusBadRequest,
		"/replays/nothing":                          http.StatusNotFound,
		"/audit?page=x":                             http.StatusBadRequest,
		"/static/":                                  http.StatusNotFound,
		"/static/../pages.go":                       http.StatusNotFound,
		"/nothing":                                  http.StatusNotFound,
	} {
		if p := r.get(path); p.status != want {
			t.Errorf("%.60s: %d, want %d", path, p.status, want)
		}
	}
	for name, tt := range map[string]struct {
		path string
		form url.Values
		want int
	}{
		"a rate that is none":    {"/dead-letters/replay", url.Values{"rate": {"fast"}, "reason": {"x"}}, http.StatusBadRequest},
		"no number of letters":   {"/dead-letters/discard", url.Values{"reason": {"x"}}, http.StatusBadRequest},
		"a source that isn't":    {"/sources/pause", url.Values{"source": {"nobody"}, "reason": {"x"}}, http.StatusNotFound},
		"without a reason":       {"/sources/pause", url.Values{"source": {"orders"}}, http.StatusBadRequest},
		"a form without an end":  {"/sources/pause", url.Values{"source": {"orders"}, "reason": {strings.Repeat("x", 3<<20)}}, http.StatusBadRequest},
		"a stage that there isn": {"/dead-letters/plan", url.Values{"begin": {"paint"}}, http.StatusBadRequest},
	} {
		if p := r.do(http.MethodPost, tt.path, tt.form); p.status != tt.want {
			t.Errorf("%s: %d, want %d\n%.600s", name, p.status, tt.want, p.text)
		}
	}
}

// On a developer's own machine nobody signs in, and the address must be the
// machine's own.
func TestAllInOneNeedsNoToken(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *console.Config, _ *console.Deps) { c.Tokens, c.Open = nil, true })
	r := f.reader()
	if p := r.get("/"); p.status != http.StatusOK || p.path != "/" || strings.Contains(p.text, "Sign out") {
		t.Errorf("%d %s", p.status, p.path)
	}
	if p := r.do(http.MethodGet, "/", nil, func(req *http.Request) { req.Host = "evil.example.com" }); p.status != http.StatusMisdirectedRequest {
		t.Errorf("under another name: %d", p.status)
	}
}

// The live tail sends a row for each event, as text.
func TestTheLiveTailSendsRows(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.reader()
	r.signIn(viewerToken)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+"/events/tail/stream?stream=raw", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || lines.Text() != ": begun" || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("begins with %q", lines.Text())
	}
	e := event.Event{ID: "<b>", Source: "orders", Account: "north", Type: "order.paid", Origin: event.Webhook, ContentType: "text/plain"}
	m := nats.NewMsg(e.RawSubject())
	m.Header, m.Data = e.Header(), []byte("x")
	if _, err := f.js.PublishMsg(t.Context(), m, jetstream.WithMsgID(e.MsgID())); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		if row, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			if !strings.HasPrefix(row, "<tr>") || !strings.Contains(row, "orders north") || !strings.Contains(row, "&lt;b&gt;") {
				t.Errorf("row %s", row)
			}
			return
		}
	}
	t.Error("the stream ended: ", lines.Err())
}

// Reports are shown with all that they tell, and an event with its record.
func TestReportsAndRecordsAreShownInFull(t *testing.T) {
	t.Parallel()
	f := setup(t)
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	rep := report.Report{
		Run: "run-7", Continues: "run-6", Source: "orders", Account: "north", Resource: "order", Trigger: report.Schedule, DryRun: true,
		From: at.Add(-time.Hour), To: at, StartedAt: at, EndedAt: at.Add(time.Second), Pages: 3, Error: "the list <broke> off",
		Counts:       report.Counts{Listed: 40, Matched: 30, Missed: 7, Stale: 3},
		Destinations: map[string]report.Destination{"warehouse": {Matched: 39, Missed: 1}},
		Records:      []report.Record{{ID: "o-17", Version: "3", Verdict: "missed", FirstSeen: at, ChangedAt: at, Cause: report.NeverSent}},
	}
	if err := report.Publish(t.Context(), f.js, rep); err != nil {
		t.Fatal(err)
	}
	e := event.Event{
		ID: "evt-1", Source: "orders", Account: "north", Type: "order.paid", Origin: event.Webhook, ContentType: "application/json",
		Resource: "order", RecordID: "o-17", Version: "3", ObservedAt: at, TriggerSequence: 1,
	}
	m := nats.NewMsg(e.EnrichedSubject())
	m.Header, m.Data = e.Header(), []byte(`{"record":{"id":"o-17","colour":"teal"}}`)
	if _, err := f.js.PublishMsg(t.Context(), m, jetstream.WithMsgID(e.MsgID())); err != nil {
		t.Fatal(err)
	}
	r := f.reader()
	r.signIn(operatorToken)
	record := "/events/one?" + url.Values{"source": {"orders"}, "account": {"north"}, "resource": {"order"}, "record": {"o-17"}}.Encode()
	until(t, "the record is found", func() bool { return r.get(record).status == http.StatusOK })
	for path, want := range map[string][]string{
		"/reconciliation":             {"run-7", "orders/north/order", "dry run", "40 records listed", `class="bad"`},
		"/reconciliation?gaps=1":      {"run-7"},
		"/reconciliation/run-7":       {"/reconciliation/run-6", "the list &lt;broke&gt; off", "warehouse", "o-17", "missed", "3 pages", html.EscapeString(record)},
		record:                        {"order o-17", "enriched"},
		"/events/one?id=evt-1":        {"order o-17", "teal", "tercel.enriched.orders.north.order.paid"},
		"/events?source=nobody":       {"No such events"},
		"/reconciliation?source=else": {"No such reports"},
	} {
		p := r.get(path)
		for _, text := range want {
			if p.status != http.StatusOK || !strings.Contains(p.text, text) {
				t.Errorf("%s (%d) doesn't show %q:\n%.4000s", path, p.status, text, p.text)
			}
		}
	}
}
