package signature_test

import (
	"net/http"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/tercelhq/tercel/pkg/signature"
)

const (
	secret  = "an example secret of the docs"
	payload = `{"type":"order.paid"}`
)

var at = time.Unix(1760000000, 0)

// Digests of payload, with or without a timestamp, under secret:
// printf '%s' "…" | openssl dgst -sha256 -hmac "$secret" (OpenSSL 3.0.19)
const (
	bodyHex    = "b108fd77a7ed8bc6da1f932d0b02d1fa36dec35afa30e416c5577ba0c8325c73"
	bodyBase64 = "sQj9d6fti8baH5MtCwLR+jbew1r6MOQWxVd7oMgyXHM="
	bodySHA1   = "81724afbd2e0b9fdef3ef887a2bf58e6835c4b34"
	bodySHA512 = "521795f983a0c17338539937b2d15b8a89e005b89785aa5dce36b166087a26d2" +
		"dfe393308f41554e650d70971aafaa7c26ac1cdf103fe2d815303ab1fa57f353"
	timeDotBody      = "ca9d00f896c5f90c3fd384a95afbfa360ec3469ae9f056d4dd9a521b23dc5f54"
	timeColonBody    = "d19b78f4f66e656885531186a88ac3e43d7ae1cb77508e769bdbfd5fa4a6796b"
	v0TimeBody       = "ddb17105f55d924504a81f4c5e9107a47a0a719f58659595a7a84cf8785fe9be"
	bodyMillis       = "f598db8d58de187f9a788234d26a15bc134437f6829fa44543a2f8d7bc34aebb"
	methodHeaderBody = "35bf1bb7037c8b1d30b66b2934f130e5fa053ad5cd60773fd87c199d7d656ec6" // POST-7:<body>
)

// The schemes of the pipeline file, as an operator writes them.
const (
	simple   = `{scheme: hmac-sha256, header: X-Signature, encoding: hex, signed: "{timestamp}.{body}", timestamp: X-Timestamp}`
	github   = `{scheme: hmac-sha256, header: X-Hub-Signature-256, prefix: sha256=}`
	stripe   = `{scheme: hmac-sha256, header: Stripe-Signature, format: pairs, signature_key: v1, timestamp_key: t, signed: "{timestamp}.{body}"}`
	standard = `{scheme: hmac-sha256, header: webhook-signature, format: tokens, signature_key: v1, encoding: base64,
		key: {encoding: base64, strip_prefix: whsec_}, id: webhook-id, timestamp: webhook-timestamp, signed: "{id}.{timestamp}.{body}"}`
	slack = `{scheme: hmac-sha256, header: X-Slack-Signature, prefix: v0=, timestamp: X-Slack-Request-Timestamp, signed: "v0:{timestamp}:{body}"}`
)

const standardSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// scheme decodes what the verify mapping of a pipeline file holds.
func scheme(t testing.TB, text string) signature.Scheme {
	t.Helper()
	var s signature.Scheme
	if err := yaml.UnmarshalWithOptions([]byte(text), &s, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return s
}

func compile(t testing.TB, text string) *signature.Verifier {
	t.Helper()
	v, err := signature.Compile(scheme(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func key(t testing.TB, schemeText, secret string) signature.Key {
	t.Helper()
	k, err := signature.ParseKey(scheme(t, schemeText), secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// headers makes a header map with canonical names, as a server does.
func headers(namesAndValues ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(namesAndValues); i += 2 {
		h.Add(namesAndValues[i], namesAndValues[i+1])
	}
	return h
}

// Every scheme of a provider is data, agrees with another tool's signatures,
// and signs as that provider does.
func TestProviders(t *testing.T) {
	t.Parallel()
	millis := time.UnixMilli(1760000000123)
	tests := map[string]struct {
		scheme string
		secret string
		id     string
		extra  http.Header // of the request, beside what the scheme adds
		want   http.Header
		at     time.Time
	}{
		"simple form": {scheme: simple, want: headers("X-Signature", timeDotBody, "X-Timestamp", "1760000000")},
		"github":      {scheme: github, want: headers("X-Hub-Signature-256", "sha256="+bodyHex)},
		"stripe":      {scheme: stripe, want: headers("Stripe-Signature", "t=1760000000,v1="+timeDotBody)},
		"standard webhooks": { // printf … | openssl dgst -sha256 -mac HMAC -macopt hexkey:3031… -binary | base64
			scheme: standard, secret: standardSecret, id: "msg_1",
			want: headers("webhook-id", "msg_1", "webhook-timestamp", "1760000000",
				"webhook-signature", "v1,fVNz/BsGrl10KtXJJd81XEgESziy95TuaizbyQ+qoFY="),
		},
		"slack": {scheme: slack, want: headers("X-Slack-Signature", "v0="+v0TimeBody, "X-Slack-Request-Timestamp", "1760000000")},
		"miniflux": {
			scheme: `{scheme: hmac-sha256, header: X-Miniflux-Signature}`,
			want:   headers("X-Miniflux-Signature", bodyHex),
		},
		"paddle": {
			scheme: `{scheme: hmac-sha256, header: Paddle-Signature, format: pairs, list_separator: ";", signature_key: h1,
				timestamp_key: ts, signed: "{timestamp}:{body}", tolerance: 5s}`,
			want: headers("Paddle-Signature", "ts=1760000000;h1="+timeColonBody),
		},
		"shopify": {
			scheme: `{scheme: hmac-sha256, header: X-Shopify-Hmac-Sha256, encoding: base64}`,
			want:   headers("X-Shopify-Hmac-Sha256", bodyBase64),
		},
		"ghost, in milliseconds": {
			scheme: `{scheme: hmac-sha256, header: X-Ghost-Signature, format: pairs, signature_key: sha256, timestamp_key: t,
				timestamp_unit: ms, signed: "{body}{timestamp}"}`,
			want: headers("X-Ghost-Signature", "t=1760000000123,sha256="+bodyMillis), at: millis,
		},
		"pagerduty, a list without a time": {
			scheme: `{scheme: hmac-sha256, header: X-PagerDuty-Signature, format: pairs, signature_key: v1}`,
			want:   headers("X-PagerDuty-Signature", "v1="+bodyHex),
		},
		"intercom, sha1": {
			scheme: `{scheme: hmac-sha1, header: X-Hub-Signature, prefix: sha1=}`,
			want:   headers("X-Hub-Signature", "sha1="+bodySHA1),
		},
		"sha512":                    {scheme: `{scheme: hmac-sha512, header: x-sig}`, want: headers("X-Sig", bodySHA512)},
		"another header, in it":     {scheme: `{scheme: hmac-sha256, header: S, signed: "{header:x-call}:{body}"}`, extra: headers("X-Call", " POST-7 "), want: headers("S", methodHeaderBody)},
		"a hex key with zero bytes": {scheme: `{scheme: hmac-sha256, header: S, key: {encoding: hex}}`, secret: "00ff0102030405060708090a0b0c0d0E", want: headers("S", "a72874a6bfc5c924aee7549b40fe8ed9a1b065431c4aa43ab390a5a4d6fd7d2d")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.secret == "" {
				tt.secret = secret
			}
			if tt.at.IsZero() {
				tt.at = at
			}
			v, k := compile(t, tt.scheme), key(t, tt.scheme, tt.secret)
			got := v.SignRequest(k, signature.Request{Header: tt.extra, Body: []byte(payload)}, tt.id, tt.at)
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("SignRequest() = %v, want %v", got, tt.want)
			}
			r := signature.Request{Header: tt.want.Clone(), Body: []byte(payload)}
			for name, values := range tt.extra {
				r.Header[name] = values
			}
			if err := v.Verify(r, []signature.Key{k}, tt.at); err != nil {
				t.Errorf("Verify() = %v", err)
			}
			r.Body = []byte(payload + " ")
			if err := v.Verify(r, []signature.Key{k}, tt.at); err == nil {
				t.Error("Verify() = nil for an altered body")
			}
		})
	}
}

// A Verifier and its keys are shared by all requests of a server.
func TestVerifyConcurrently(t *testing.T) {
	t.Parallel()
	v, k := compile(t, stripe), key(t, stripe, secret)
	good := signature.Request{Header: v.Sign(k, []byte(payload), "", at), Body: []byte(payload)}
	bad := signature.Request{Header: good.Header, Body: []byte("{}")}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if err := v.Verify(good, []signature.Key{k}, at); err != nil {
					t.Errorf("Verify(good) = %v", err)
				}
				if err := v.Verify(bad, []signature.Key{k}, at); err == nil {
					t.Error("Verify(bad) = nil")
				}
			}
		})
	}
	wg.Wait()
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	v, k := compile(t, github), key(t, github, secret)
	if got := v.Sign(signature.Key{}, nil, "", at); got != nil {
		t.Errorf("Sign(zero key) = %v, want nil", got)
	}
	if got := v.Sign(key(t, `{scheme: hmac-sha1}`, secret), nil, "", at); got != nil {
		t.Errorf("Sign(key of another algorithm) = %v, want nil", got)
	}
	named := compile(t, `{scheme: hmac-sha256, header: S, signed: "{header:x-call}:{body}"}`)
	if got := named.Sign(k, nil, "", at); got != nil {
		t.Errorf("Sign(without the header in it) = %v, want nil", got)
	}
}
