package signature_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/signature"
)

func TestParseKey(t *testing.T) {
	t.Parallel()
	text := signature.KeyFormat{}
	b64 := signature.KeyFormat{Encoding: signature.KeyBase64, StripPrefix: "whsec_"}
	hexed := signature.KeyFormat{Encoding: signature.KeyHex}
	tests := map[string]struct {
		format signature.KeyFormat
		secret string
		want   string // error; none where empty
	}{
		"text of 16 bytes":          {text, "0123456789abcdef", ""},
		"text of 15 bytes":          {text, "0123456789abcde", "signing secret: 15 bytes, want at least 16"},
		"text that looks encoded":   {text, "whsec_MDEyMzQ1Njc4OWFiY2RlZg==", ""},
		"text with spaces inside":   {text, "correct horse battery staple", ""},
		"empty":                     {text, "", "signing secret: 0 bytes, want at least 16"},
		"blank":                     {text, strings.Repeat(" ", 32), "signing secret: whitespace at its begin or end, want none"},
		"newline of a file":         {text, "0123456789abcdef\n", "signing secret: whitespace at its begin or end, want none"},
		"base64":                    {b64, standardSecret, ""},
		"base64 without the prefix": {b64, strings.TrimPrefix(standardSecret, "whsec_"), ""},
		"base64 unpadded":           {b64, strings.TrimRight(standardSecret, "="), "signing secret: not padded standard base64"},
		"base64 url alphabet":       {b64, "whsec_-_-_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0", "signing secret: not padded standard base64"},
		"base64 of 15 bytes":        {b64, "whsec_MDEyMzQ1Njc4OWFiY2Rl", "signing secret: 15 bytes, want at least 16"},
		"base64 prefix only":        {b64, "whsec_", "signing secret: 0 bytes, want at least 16"},
		"hex":                       {hexed, "00FF0102030405060708090a0b0c0d0e", ""},
		"hex of 15 bytes":           {hexed, "00ff0102030405060708090a0b0c0d", "signing secret: 15 bytes, want at least 16"},
		"odd hex":                   {hexed, "00ff0102030405060708090a0b0c0d0e0", "signing secret: not hex"},
		"not hex":                   {hexed, "zzff0102030405060708090a0b0c0d0e", "signing secret: not hex"},
		"unknown encoding":          {signature.KeyFormat{Encoding: "rot13"}, secret, `signing secret: unknown key.encoding "rot13"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := signature.ParseKey(signature.Scheme{Algorithm: signature.HMACSHA256, Key: tt.format}, tt.secret)
			if got := fmt.Sprint(err); got != tt.want && (err != nil || tt.want != "") {
				t.Errorf("ParseKey() = %s, want %s", got, tt.want)
			}
		})
	}
	if _, err := signature.ParseKey(signature.Scheme{Algorithm: "none"}, secret); err == nil {
		t.Error("ParseKey(unknown scheme) = nil error")
	}
}

// A key can't be printed, not even by way of a struct that holds it.
func TestKeyPrintsRedacted(t *testing.T) {
	t.Parallel()
	k := key(t, github, secret)
	type holder struct{ keys []signature.Key }
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%c"} {
		if got := fmt.Sprintf(verb, k); got != "[redacted]" {
			t.Errorf("Sprintf(%s) = %s, want [redacted]", verb, got)
		}
		fmt.Fprintf(&out, verb+verb+verb, &k, holder{[]signature.Key{k}}, &holder{[]signature.Key{k}})
	}
	encoded, err := json.Marshal(map[string]any{"key": k})
	if got, want := string(encoded), `{"key":"[redacted]"}`; got != want || err != nil {
		t.Errorf("Marshal() = %s, %v, want %s", got, err, want)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", k)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", k, "keys", holder{[]signature.Key{k}})
	decimal := strings.Trim(fmt.Sprint([]byte(secret)), "[]")
	for _, text := range []string{secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))), decimal} {
		if strings.Contains(out.String(), text) {
			t.Errorf("the secret was printed as %s", text)
		}
	}
}
