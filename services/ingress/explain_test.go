package ingress_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/services/ingress"
)

// What Explain says of an accepted request is what the service does with it.
func TestExplainAgreesWithTheService(t *testing.T) {
	t.Parallel()
	f := setup(t)
	chunked := f.delivery("orders", "d-2", goodBody+" ")
	chunked.chunked = true
	for name, tt := range map[string]struct {
		source string
		d      delivery
	}{
		"stripe":    {"stripe", f.delivery("stripe", "", `{"id":"evt_1","type":"invoice.paid","created":1760000000}`)},
		"github":    {"hub", f.delivery("hub", "d-1", `{"action":"opened"}`)},
		"standard":  {"std", f.delivery("std", "msg_1", `{"type":"a.b"}`)},
		"orders":    {"orders", f.delivery("orders", "d-1", goodBody)},
		"chunked":   {"orders", chunked},
		"anonymous": {"anonymous", f.delivery("anonymous", "", `{"action":"x"}`)},
	} {
		ex, err := ingress.Explain(tt.source, f.sources[tt.source], tt.d.raw(), at)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r, m := f.send(tt.d), f.last()
		if !ex.Accepted || ex.Status != r.code || ex.EventID != r.ID || ex.Subject != m.Subject || ex.MessageID != m.Header.Get("Nats-Msg-Id") {
			t.Errorf("%s: explained as %+v, but answered %+v and stored at %s as %s", name, ex, r, m.Subject, m.Header)
		}
		if e, err := event.FromHeader(m.Header); err != nil || e.Type != ex.Type {
			t.Errorf("%s: explained type %q, stored %q, %v", name, ex.Type, e.Type, err)
		}
		for _, s := range ex.Steps {
			if s.Result != ingress.Passed {
				t.Errorf("%s: step %+v, want ok", name, s)
			}
		}
	}
}

func TestExplainNamesEveryStepInOrder(t *testing.T) {
	t.Parallel()
	src := decoded(t)["orders"]
	d := delivery{method: "POST", path: "/v1/orders", body: goodBody, header: map[string][]string{
		"Content-Type": {"application/json"}, "X-Delivery": {"d-1"},
	}}.signed(src.Verifier(), otherKey, "", at)
	ex, err := ingress.Explain("orders", src, d.raw(), at)
	if err != nil {
		t.Fatal(err)
	}
	want := []ingress.Step{
		{Name: "path", Result: ingress.Passed, Detail: "source orders, account _"},
		{Name: "method", Result: ingress.Passed, Detail: "POST"},
		{Name: "origin", Result: ingress.Passed, Detail: "any address"},
		{Name: "content encoding", Result: ingress.Passed, Detail: "none"},
		{Name: "content length", Result: ingress.Passed, Detail: "38 bytes, at most 16384"},
		{Name: "content type", Result: ingress.Passed, Detail: "application/json"},
		{Name: "body", Result: ingress.Passed, Detail: "38 bytes"},
		{Name: signature.StepHeader, Result: ingress.Passed},
		{Name: signature.StepFormat, Result: ingress.Passed},
		{Name: signature.StepTimestampHeader, Result: ingress.Passed},
		{Name: signature.StepTimestamp, Result: ingress.Passed},
		{Name: signature.StepMatch, Result: ingress.Failed, Detail: "mismatch: none of the signatures (1) was made with one of the keys (1)"},
		{Name: signature.StepWindow, Result: ingress.NotReached},
		{Name: "structure", Result: ingress.NotReached},
		{Name: "event type", Result: ingress.NotReached},
		{Name: "event id", Result: ingress.NotReached},
		{Name: "event time", Result: ingress.NotReached},
	}
	if !reflect.DeepEqual(ex.Steps, want) {
		t.Errorf("steps:\n%+v\nwant:\n%+v", ex.Steps, want)
	}
}

// Captured files have been through editors and terminals.
func TestExplainReadsCapturedFiles(t *testing.T) {
	t.Parallel()
	src := decoded(t)["rotating"]
	d := delivery{method: "POST", path: "/v1/rotating", body: `{"id":"e","kind":"k"}`, header: map[string][]string{
		"Content-Type": {"application/json"},
	}}.signed(src.Verifier(), src.Keys()[0], "", at)
	raw := string(d.raw())
	for name, tt := range map[string]struct {
		raw      string
		accepted bool
		body     string // detail of the body's step
	}{
		"as it came":          {raw, true, "21 bytes"},
		"LF line ends":        {strings.ReplaceAll(raw, "\r\n", "\n"), true, "21 bytes"},
		"newline at the end":  {raw + "\n", true, "21 bytes; 1 more follow that no Content-Length covers"},
		"no length":           {strings.Replace(raw, "Content-Length: 21\r\n", "", 1), false, "0 bytes; 21 more follow that no Content-Length covers"},
		"cut":                 {raw[:len(raw)-1], false, "the body was cut or its framing is wrong"},
		"connect by proxy":    {strings.Replace(raw, "POST /v1", "POST http://hooks.example.com/v1", 1), true, "21 bytes"},
		"query behind a path": {strings.Replace(raw, "rotating ", "rotating?x=1 ", 1), true, "21 bytes"},
	} {
		ex, err := ingress.Explain("rotating", src, []byte(tt.raw), at)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, s := range ex.Steps {
			if s.Name == "body" && s.Detail != tt.body {
				t.Errorf("%s: body %q, want %q", name, s.Detail, tt.body)
			}
		}
		if ex.Accepted != tt.accepted {
			t.Errorf("%s: %+v, want accepted %t", name, ex, tt.accepted)
		}
	}
	for name, raw := range map[string]string{
		"nothing": "", "a body alone": d.body, "an answer": "HTTP/1.1 200 OK\r\n\r\n", "HTTP/2": "POST /v1/rotating HTTP/2\r\nHost: a\r\n\r\n",
		"a preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		if ex, err := ingress.Explain("rotating", src, []byte(raw), at); err == nil && ex.Accepted {
			t.Errorf("%s: accepted", name)
		} else if err == nil && name != "a preface" {
			t.Errorf("%s: Explain() = %+v, want an error", name, ex)
		}
	}
}

// An explanation is for a terminal and for tickets: no secret is in it.
func TestExplanationHoldsNoSecret(t *testing.T) {
	t.Parallel()
	src := decoded(t)["stripe"]
	d := delivery{method: "POST", path: "/v1/stripe", body: `{"id":"evt_1","type":"a","data":"personal"}`, header: map[string][]string{
		"Content-Type": {"application/json"},
	}}
	for _, key := range append(src.Keys(), otherKey) {
		d = d.signed(src.Verifier(), key, "", at)
		ex, err := ingress.Explain("stripe", src, d.raw(), at)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(ex)
		if err != nil {
			t.Fatal(err)
		}
		_, sig, _ := strings.Cut(d.header.Get("Stripe-Signature"), "v1=")
		for _, secret := range []string{environment["STRIPE"], sig, "personal"} {
			if strings.Contains(string(text), secret) {
				t.Errorf("%s is in %s", secret, text)
			}
		}
	}
}

// The signature is from: openssl dgst -sha256 -hmac 'a secret of enough length'.
func ExampleExplain() {
	file, err := pipeline.Decode("tercel.yaml", []byte(`
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:ORDERS_SECRET]
    event: {id: body.id, type: body.kind}
`), config.WithLookupEnv(func(string) (string, bool) { return "a secret of enough length", true }))
	if err != nil {
		fmt.Println(err)
		return
	}
	raw := `POST /v1/orders HTTP/1.1
Host: hooks.example.com
Content-Type: application/json
X-Signature: 84ad6d037ab2d9a8e7498ef06062029cbd1ed92c025c9ddbb5e221b799544c12
Content-Length: 32

{"id":"e-1","kind":"order.paid"}`
	ex, err := ingress.Explain("orders", file.Sources["orders"], []byte(raw), time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ex.Status, ex.EventID, ex.Subject)
	for _, s := range ex.Steps {
		fmt.Printf("%s: %s\n", s.Name, s.Result)
	}
	// Output:
	// 200 e-1 tercel.raw.orders._.order.paid
	// path: ok
	// method: ok
	// origin: ok
	// content encoding: ok
	// content length: ok
	// content type: ok
	// body: ok
	// signature header: ok
	// signature format: ok
	// signature match: ok
	// structure: ok
	// event type: ok
	// event id: ok
	// event time: ok
}

// A sample without a signature passes all other checks, and is said to have
// passed no check of it. The service itself knows no such thing (promise 2).
func TestExplainUnsignedChecksEverythingElse(t *testing.T) {
	t.Parallel()
	f := setup(t)
	src := f.sources["orders"]
	d := delivery{method: "POST", path: "/v1/orders", body: goodBody, header: map[string][]string{
		"Content-Type": {"application/json"}, "X-Delivery": {"d-1"},
	}}
	ex, err := ingress.ExplainUnsigned("orders", src, d.raw(), at)
	if err != nil || !ex.Accepted || len(ex.Messages) != 1 || ex.Messages[0].Subject != ex.Subject || string(ex.Messages[0].Data) != goodBody {
		t.Fatalf("ExplainUnsigned() = %+v, %v, want it accepted with its message", ex, err)
	}
	skipped := 0
	for _, s := range ex.Steps {
		if s.Result == ingress.Skipped && s.Name == "signature" {
			skipped++
		} else if s.Result != ingress.Passed {
			t.Errorf("step %+v, want ok", s)
		}
	}
	if skipped != 1 {
		t.Errorf("%d steps are skipped, want that of the signature", skipped)
	}
	// Signed, it is the same event.
	signed, err := ingress.Explain("orders", src, f.delivery("orders", "d-1", goodBody).raw(), at)
	if err != nil || signed.MessageID != ex.MessageID {
		t.Errorf("signed %+v, %v, want the message id %s", signed, err, ex.MessageID)
	}
	if ex, err := ingress.Explain("orders", src, d.raw(), at); err != nil || ex.Accepted || len(ex.Messages) != 0 {
		t.Errorf("Explain() = %+v, %v, want it refused", ex, err)
	}
	d.body = "{"
	if ex, err := ingress.ExplainUnsigned("orders", src, d.raw(), at); err != nil || ex.Accepted || len(ex.Messages) != 0 {
		t.Errorf("of no JSON: %+v, %v, want it refused", ex, err)
	}
	if r := f.send(d); r.code < 400 {
		t.Errorf("the service answered an unsigned request with %d", r.code)
	}
}
