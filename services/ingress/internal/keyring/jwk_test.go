package keyring_test

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/ingress/internal/keyring"
	"github.com/tercelhq/tercel/services/ingress/internal/nettest"
)

const plaid = "api: {headers: {PLAID-CLIENT-ID: env:ID, PLAID-SECRET: env:SECRET}}\n"

// jwkAnswer is an endpoint's answer with a new key, with members laid over the key's.
func jwkAnswer(t testing.TB, more map[string]any) string {
	t.Helper()
	public, err := nettest.Key(t).Public().(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	raw := base64.RawURLEncoding.EncodeToString
	key := map[string]any{
		"alg": "ES256", "crv": "P-256", "kid": "k1", "kty": "EC", "use": "sig", "x": raw(public[1:33]), "y": raw(public[33:]),
		"created_at": 1560466950, "expired_at": nil,
	}
	for name, value := range more {
		key[name] = value
	}
	doc, err := json.Marshal(map[string]any{"key": key, "request_id": "RZ6Omi1bzzwDaLo"})
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

func TestKeysOfAnEndpoint(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		answer string
		want   error
	}{
		"good":                     {200, jwkAnswer(t, nil), nil},
		"one that ends later":      {200, jwkAnswer(t, map[string]any{"expired_at": now.Add(time.Hour).Unix()}), nil},
		"one that has ended":       {200, jwkAnswer(t, map[string]any{"expired_at": now.Unix()}), keyring.ErrUnknown},
		"an end that is no number": {200, jwkAnswer(t, map[string]any{"expired_at": "soon"}), keyring.ErrUnavailable},
		"no such id":               {400, `{"error_type":"INVALID_INPUT","error_code":"INVALID_WEBHOOK_VERIFICATION_KEY_ID"}`, keyring.ErrUnknown},
		"not found":                {404, ``, keyring.ErrUnknown},
		"wrong credentials":        {400, `{"error_type":"INVALID_INPUT","error_code":"INVALID_API_KEYS"}`, keyring.ErrUnavailable},
		"an error that is no JSON": {400, `INVALID_WEBHOOK_VERIFICATION_KEY_ID`, keyring.ErrUnavailable},
		"too many requests":        {429, `{"error_code":"RATE_LIMIT"}`, keyring.ErrUnavailable},
		"out of order":             {500, `{"error_code":"INVALID_WEBHOOK_VERIFICATION_KEY_ID"}`, keyring.ErrUnavailable},
		"no JSON":                  {200, `<html>`, keyring.ErrUnavailable},
		"two keys in one":          {200, `{"key":{},"key":{}}`, keyring.ErrUnavailable},
		"a second key":             {200, strings.TrimSuffix(jwkAnswer(t, nil), "}") + `,"key":{}}`, keyring.ErrUnavailable},
		"no key":                   {200, `{}`, keyring.ErrUnavailable},
		"a key of another id":      {200, jwkAnswer(t, map[string]any{"kid": "k2"}), keyring.ErrUnavailable},
		"of another curve":         {200, jwkAnswer(t, map[string]any{"crv": "P-384"}), keyring.ErrUnavailable},
		"a shared key":             {200, jwkAnswer(t, map[string]any{"kty": "oct", "k": "AAAA"}), keyring.ErrUnavailable},
		"not on its curve":         {200, jwkAnswer(t, map[string]any{"x": strings.Repeat("A", 43)}), keyring.ErrUnavailable},
		"a short coordinate":       {200, jwkAnswer(t, map[string]any{"x": "AAAA"}), keyring.ErrUnavailable},
		"a coordinate in base64":   {200, jwkAnswer(t, map[string]any{"x": "++++"}), keyring.ErrUnavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Answer(tt.status, tt.answer)
			_, err := w.ring("plaid", plaid).Key(t.Context(), "k1")
			if !errors.Is(err, tt.want) {
				t.Errorf("Key() = %v, want %v", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "a value of enough length") {
				t.Errorf("Key() = %v, with a secret in it", err)
			}
		})
	}
}

// The question is what the API's documentation says, and goes nowhere else.
func TestHowAnEndpointIsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := make(chan string, 1)
	answer := jwkAnswer(t, nil)
	w.Serve(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- fmt.Sprint(r.Method, " ", r.Host, r.URL, " ", r.Header.Get("Plaid-Client-Id") != "", r.Header.Get("Plaid-Secret") != "", " ", string(body))
		_, _ = rw.Write([]byte(answer))
	})
	if _, err := w.ring("plaid", plaid).Key(t.Context(), "k1"); err != nil {
		t.Fatal(err)
	}
	if got, want := <-asked, `POST production.plaid.com/webhook_verification_key/get true true {"key_id":"k1"}`; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
	w.Redirect("https://evil.example.com/")
	if _, err := w.ring("plaid", plaid).Key(t.Context(), "k1"); !errors.Is(err, keyring.ErrUnavailable) {
		t.Errorf("Key() after a redirect = %v", err)
	}
}

// A key without an end is asked for again, and not kept for long without an
// answer; one with an end isn't used after it.
func TestKeysOfAnEndpointEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Answer(200, jwkAnswer(t, map[string]any{"expired_at": now.Add(30 * time.Minute).Unix()}))
	r := w.ring("plaid", plaid)
	wantKey(t, r, "k1", nil)
	w.pass(30 * time.Minute)
	wantKey(t, r, "k1", keyring.ErrUnknown)

	w = newWorld(t)
	w.Answer(200, jwkAnswer(t, nil))
	r = w.ring("plaid", plaid)
	wantKey(t, r, "k1", nil)
	w.Answer(500, "{}")
	w.pass(59 * time.Minute)
	wantKey(t, r, "k1", nil)
	if w.asked() != 1 {
		t.Error("asked again within the hour")
	}
	w.pass(2 * time.Minute)
	wantKey(t, r, "k1", nil)
	eventually(t, "asked again", func() bool { return w.asked() == 2 })
	w.pass(23 * time.Hour)
	wantKey(t, r, "k1", keyring.ErrUnavailable)
}

// Nothing that an endpoint can answer makes a panic, and a key is one.
func FuzzJWK(f *testing.F) {
	w := newWorld(f)
	f.Add([]byte(jwkAnswer(f, nil)))
	f.Add([]byte(`{"key":{"kty":"EC","crv":"P-256","x":"","y":"","expired_at":1e99}}`))
	r := w.ring("plaid", plaid)
	f.Fuzz(func(t *testing.T, doc []byte) {
		_, err := r.ReadJWK(doc)
		if err != nil && !errors.Is(err, keyring.ErrUnknown) && !errors.Is(err, keyring.ErrUnavailable) {
			t.Errorf("ReadJWK() = %v", err)
		}
	})
}
