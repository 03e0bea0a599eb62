package ingress_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/ingress"
)

const formSources = `
sources:
  twilio: {preset: twilio, secrets: [env:TOKEN], public_url: https://hooks.example.com/v1/twilio}
  braintree: {preset: braintree, secrets: [env:TOKEN]}
  shop:
    verify: {scheme: token, header: X-Token}
    secrets: [env:TOKEN]
    event: {id: form.id, type: "shop.{form.kind}"}
    request: {content_types: [application/x-www-form-urlencoded]}
`

const formToken = "0123456789abcdef0123456789abcdef"

// Forms are read by one grammar for their signature and their attributes. An
// event has what an independent reader finds there once, and nothing that two
// readers could take for two things.
func FuzzForms(f *testing.F) {
	file, err := pipeline.Decode("tercel.yaml", []byte(formSources), config.WithLookupEnv(func(string) (string, bool) { return formToken, true }))
	if err != nil {
		f.Fatal(err)
	}
	for _, body := range []string{
		"", "id=1&kind=paid", "kind=a&kind=b&id=1", "id=1&kind=a%26b%3D%00", "id=1;kind=a", "id=%zz&kind=a", "MessageStatus=sent&To=%2B15551234567",
		"CallStatus=&MessageStatus=a&MessageStatus=a", "id=%ff&kind=%ff", "=&&==&kind", "bt_signature=a|b&bt_payload=YQ==", "kind=" + strings.Repeat("x", 2000),
		"id=1&kind=a+b%20c%2B", "%6bind=a&id=%31", "kind=\u00e9&id=\u2028",
	} {
		f.Add([]byte(body))
	}
	explain := func(t *testing.T, source, header string, body []byte) ingress.Explanation {
		t.Helper()
		raw := fmt.Appendf(nil, "POST /v1/%s HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Type: application/x-www-form-urlencoded\r\n%s\r\nContent-Length: %d\r\n\r\n%s",
			source, header, len(body), body)
		ex, err := ingress.Explain(source, file.Sources[source], raw, at)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		if ex.Status >= 500 {
			t.Fatalf("%s would be answered %d: %+v", source, ex.Status, ex.Steps)
		}
		return ex
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 64<<10 {
			return
		}
		values, err := url.ParseQuery(string(body))
		one := func(name string) (string, bool) {
			v := values[name]
			return strings.Join(v, ""), err == nil && len(v) == 1 && utf8.ValidString(v[0])
		}
		kind, kindOnce := one("kind")
		id, idOnce := one("id")
		good := kindOnce && idOnce && kind != "" && id != "" && len("shop."+kind) <= 1024 && len(id) <= 1024
		ex := explain(t, "shop", "X-Token: "+formToken, body)
		if ex.Accepted != good || good && ex.Type != "shop."+kind {
			t.Errorf("accepted %t as type %q, want %t with %q: %+v", ex.Accepted, ex.Type, good, "shop."+kind, ex.Steps)
		}
		if ex := explain(t, "braintree", "X-Unused: 1", body); ex.Accepted {
			t.Errorf("braintree took an unsigned form %q", body)
		}
		if err != nil {
			return
		}
		ex = explain(t, "twilio", "X-Twilio-Signature: "+twilioSignature(values), body)
		status, once := one("MessageStatus")
		switch {
		case !ex.Accepted && len(body) < 1000: // a longer one can hold too long a type
			t.Errorf("twilio's own signature was refused: %+v", ex.Steps)
		case ex.Accepted && once && status != "" && ex.Type != "message."+status:
			t.Errorf("type %q, want message.%s", ex.Type, status)
		}
		if explain(t, "twilio", "X-Twilio-Signature: "+twilioSignature(url.Values{"other": {string(body)}}), body).Accepted {
			if other := (url.Values{"other": {string(body)}}); signedText(values) != signedText(other) {
				t.Errorf("twilio took another form's signature for %q", body)
			}
		}
	})
}

// Promise 4: however a captured form is spelled that has its signature, it is the same
// event.
func TestAFormInAnotherSpellingIsARepeat(t *testing.T) {
	t.Parallel()
	file, err := pipeline.Decode("tercel.yaml", []byte(formSources), config.WithLookupEnv(func(string) (string, bool) { return formToken, true }))
	if err != nil {
		t.Fatal(err)
	}
	signature := twilioSignature(url.Values{"Body": {"hello"}, "From": {"+1"}})
	ids := map[string]bool{}
	for _, body := range []string{"Body=hello&From=%2B1", "From=%2b1&Body=hello", "%42ody=hello&From=%2B1", "Body=hello&From=%2B1&Body=hello", "Bo=dyhello&From%2B1="} {
		raw := fmt.Appendf(nil, "POST /v1/twilio HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
			"X-Twilio-Signature: %s\r\nContent-Length: %d\r\n\r\n%s", signature, len(body), body)
		ex, err := ingress.Explain("twilio", file.Sources["twilio"], raw, at)
		if err != nil || !ex.Accepted {
			t.Fatalf("%s: %+v, %v", body, ex, err)
		}
		ids[ex.EventID] = true
	}
	if len(ids) != 1 {
		t.Errorf("events %v, want one", ids)
	}
}

// signedText is what Twilio signs of a form: names in order, each with its values.
func signedText(form url.Values) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(form)) {
		for _, value := range slices.Compact(slices.Sorted(slices.Values(form[name]))) {
			b.WriteString(name + value)
		}
	}
	return b.String()
}

func twilioSignature(form url.Values) string {
	mac := hmac.New(sha1.New, []byte(formToken))
	mac.Write([]byte("https://hooks.example.com/v1/twilio" + signedText(form)))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
