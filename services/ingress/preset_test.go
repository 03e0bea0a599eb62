package ingress_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/services/ingress"
)

const particularSources = `
sources:
  sms: {preset: twilio, secrets: [env:PLAIN], public_url: "https://hooks.example.com/in/sms", accounts: [north]}
  ledger: {preset: xero, secrets: [env:PLAIN]}
  code: {preset: gitlab, secrets: [env:PLAIN]}
  alerts: {preset: alertmanager, secrets: [env:PLAIN]}
  odd:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {type: "=odd"}
    reply: {ok: {status: 202, body: "[accepted]"}, refused: 498}
  open:
    verify: {scheme: none, insecure: true}
    event: {type: body.kind}
`

// withParticular adds the sources above to a service's.
func withParticular(t *testing.T) func(*ingress.Config) {
	t.Helper()
	f, err := pipeline.Decode("tercel.yaml", []byte(particularSources), config.WithLookupEnv(func(name string) (string, bool) {
		v, ok := environment[name]
		return v, ok
	}))
	if err != nil {
		t.Fatal(err)
	}
	return func(c *ingress.Config) {
		for name, src := range f.Sources {
			c.Sources[name] = src
		}
	}
}

// answered gives a request to the handler and returns the answer as it is.
func (f *fixture) answered(d delivery) *httptest.ResponseRecorder {
	f.t.Helper()
	w := httptest.NewRecorder()
	f.service.Handler().ServeHTTP(w, d.request(f.t))
	return w
}

func post(path, body string, namesAndValues ...string) delivery {
	d := delivery{method: http.MethodPost, path: path, body: body, header: http.Header{"Content-Type": {"application/json"}}}
	for i := 0; i < len(namesAndValues); i += 2 {
		d.header.Set(namesAndValues[i], namesAndValues[i+1])
	}
	return d
}

// A source is answered as it wants to be, and stored as any other.
func TestSourcesArePrescribedTheirAnswers(t *testing.T) {
	t.Parallel()
	f := setup(t, withParticular(t))
	signed := func(source, body string) delivery {
		src := f.sources[source]
		return post("/v1/"+source, body).signed(src.Verifier(), src.Keys()[0], "", at)
	}
	tests := map[string]struct {
		request     delivery
		status      int
		body        string
		contentType string
	}{
		"a body of its own":        {signed("odd", "{}"), 202, "[accepted]", "text/plain"},
		"the same again":           {signed("odd", "{}"), 202, "[accepted]", "text/plain"},
		"no body":                  {signed("ledger", `{"events":[{"eventCategory":"INVOICE","eventType":"UPDATE"}]}`), 200, "", ""},
		"refused, as it wants":     {post("/v1/odd", "{}", "X-Signature", "00"), 498, "signature not accepted", "application/json"},
		"refused, not for ever":    {post("/v1/code", `{"object_kind":"push"}`, "X-Gitlab-Token", "of someone else"), 503, "signature not accepted", "application/json"},
		"refused, without a wish":  {post("/v1/alerts", `{"status":"firing"}`, "Authorization", "Bearer of someone else"), 401, "signature not accepted", "application/json"},
		"open to anyone, as asked": {post("/v1/open", `{"kind":"x"}`), 200, "accepted", "application/json"},
	}
	for _, name := range []string{
		"a body of its own", "the same again", "no body", "refused, as it wants", "refused, not for ever", "refused, without a wish", "open to anyone, as asked",
	} {
		tt := tests[name]
		w := f.answered(tt.request)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) || tt.body == "" && w.Body.Len() > 0 || w.Header().Get("Content-Type") != tt.contentType {
			t.Errorf("%s: answered %d, %q, %q, want %d, %q, %q", name, w.Code, w.Header().Get("Content-Type"), w.Body, tt.status, tt.contentType, tt.body)
		}
	}
	if got := f.stored(); got != 4 { // one with its request
		t.Errorf("%d messages stored, want 4", got)
	}
}

// A signed URL is the configured one, with the account and the query of the
// request, whatever Host says; and a form's fields have the identity.
func TestSignedURLsAndForms(t *testing.T) {
	t.Parallel()
	f := setup(t, withParticular(t))
	src := f.sources["sms"]
	form := url.Values{"MessageSid": {"SM1"}, "MessageStatus": {"delivered"}}.Encode()
	sign := func(called string) delivery {
		d := post("/v1/sms/north?a=%20b", form)
		d.header.Set("Content-Type", "application/x-www-form-urlencoded")
		r := signature.Request{Header: d.header, Body: []byte(d.body), Method: d.method, URL: called}
		for name, values := range src.Verifier().SignRequest(src.Keys()[0], r, "", at) {
			d.header[name] = values
		}
		return d
	}
	if w := f.answered(sign("https://hooks.example.com/v1/sms/north?a=%20b")); w.Code != http.StatusUnauthorized {
		t.Errorf("a signature over the address of the request's Host was answered %d", w.Code)
	}
	if w := f.answered(sign("https://hooks.example.com/in/sms/north?a=%20b")); w.Code != http.StatusOK {
		t.Fatalf("a signature over the public URL was answered %d\n%s", w.Code, f.log)
	}
	got, err := event.FromHeader(f.last().Header)
	if err != nil || got.Type != "message.delivered" || got.Account != "north" {
		t.Errorf("stored %+v, %v, want type message.delivered of account north", got, err)
	}
	twice := sign("https://hooks.example.com/in/sms/north?a=%20b")
	twice.body += "&MessageStatus=read"
	if w := f.answered(twice); w.Code != http.StatusUnauthorized {
		t.Errorf("a form with one field more was answered %d", w.Code)
	}
}

// Where the next message can be the last to the byte, none is dropped.
func TestNoRequestIsARepeatWhereNoneCanBe(t *testing.T) {
	t.Parallel()
	f := setup(t, withParticular(t))
	d := post("/v1/alerts", `{"status":"firing"}`, "Authorization", "Bearer "+environment["PLAIN"])
	ids := map[string]bool{}
	for range 3 {
		r := f.send(d)
		if r.Status != "accepted" {
			t.Errorf("answered %+v, want it accepted", r)
		}
		ids[r.ID] = true
	}
	if len(ids) != 3 || f.stored() != 3 {
		t.Errorf("%d ids and %d messages of 3 requests", len(ids), f.stored())
	}
}
