package signature_test

import (
	"encoding/base64"
	"net/http"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/tercelhq/tercel/pkg/signature"
)

// What the Standard Webhooks library signs is accepted here, and the other way.
func TestAgreesWithStandardWebhooks(t *testing.T) {
	t.Parallel()
	now := time.Now() // the library has no other clock
	bodies := map[string]string{
		"json": payload, "empty": "", "invalid UTF-8": "\xff\xfe\x00", "byte order mark": "\ufeff{}", "dots": "1.2.3",
	}
	if got, want := signature.StandardWebhooks(), scheme(t, standard); got != want {
		t.Errorf("StandardWebhooks() = %+v, want %+v", got, want)
	}
	v, k := compile(t, standard), key(t, standard, standardSecret)
	oracle, err := standardwebhooks.NewWebhook(standardSecret)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := oracle.Verify([]byte(body), v.Sign(k, []byte(body), "msg_1", now)); err != nil {
				t.Errorf("the library refuses what Sign made: %v", err)
			}
			signed, err := oracle.Sign("msg_1", now, []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			h := v.Sign(k, nil, "msg_1", now) // for id and timestamp
			h.Set(standardwebhooks.HeaderWebhookSignature, signed)
			if err := v.Verify(signature.Request{Header: h, Body: []byte(body)}, []signature.Key{k}, now); err != nil {
				t.Errorf("Verify() = %v for what the library signed", err)
			}
		})
	}
}

// What Verify accepts, the library accepts; the rest is the same or stricter.
func FuzzVerifyLikeStandardWebhooks(f *testing.F) {
	v, k := compile(f, standard), key(f, standard, standardSecret)
	oracle, err := standardwebhooks.NewWebhookRaw([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		f.Fatal(err)
	}
	const good = "v1,fVNz/BsGrl10KtXJJd81XEgESziy95TuaizbyQ+qoFY="
	f.Add("msg_1", "1760000000", good, []byte(payload))
	f.Add("msg_1", "1760000000", "v1a,x  v1,"+base64.StdEncoding.EncodeToString(make([]byte, 32))+" "+good, []byte(payload))
	f.Add("msg_1.1760000000", "1760000000", good, []byte("1"))
	f.Fuzz(func(t *testing.T, id, timestamp, signatures string, body []byte) {
		h := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signatures}}
		if err := v.Verify(signature.Request{Header: h, Body: body}, []signature.Key{k}, at); err != nil {
			return
		}
		// A server trims fields before the library sees them.
		for name := range h {
			h.Set(name, trimOWS(h.Get(name)))
		}
		if err := oracle.VerifyIgnoringTimestamp(body, h); err != nil {
			t.Errorf("accepted id %q, timestamp %q, signatures %q, body %q, which the library refuses: %v", id, timestamp, signatures, body, err)
		}
	})
}
