package signature_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/signature"
)

func trimOWS(s string) string { return strings.Trim(s, " \t") }

// hmacHex is the definition, for a second opinion.
func hmacHex(message string) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(message))
	return hex.EncodeToString(h.Sum(nil))
}

// Whatever header verifies holds the signature of exactly the time and body that
// are taken from it; whatever doesn't, fails at a known step.
func FuzzVerifyHeader(f *testing.F) {
	const good = "t=1760000000,v1=" + timeDotBody
	for _, header := range []string{
		good, "", ",", "=", "t=,v1=", good + ",v1=" + wrong, " " + good + " ,a=b", good + ",t=1760000001",
		"t=0" + good[2:], strings.ToUpper(good), "sha256=" + bodyHex, bodyHex, "t=NaN,v1=" + timeDotBody,
	} {
		f.Add(header, []byte(payload))
	}
	list, raw := compile(f, stripe), compile(f, github)
	keys := []signature.Key{key(f, stripe, secret)}
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		r := signature.Request{Header: http.Header{"Stripe-Signature": {header}, "X-Hub-Signature-256": {header}}, Body: body}
		err := raw.Verify(r, keys, at)
		checkFuzzed(t, raw, err)
		if want := "sha256=" + hmacHex(string(body)); err == nil && (!strings.EqualFold(trimOWS(header), want) || !strings.HasPrefix(trimOWS(header), "sha256=")) {
			t.Errorf("accepted %q", header)
		}

		err = list.Verify(r, keys, at)
		checkFuzzed(t, list, err)
		if err != nil {
			return
		}
		_, after, _ := strings.Cut(","+strings.NewReplacer(" ", "", "\t", "").Replace(header), ",t=")
		timestamp, _, _ := strings.Cut(after, ",")
		sec, err := strconv.ParseInt(timestamp, 10, 64)
		if err != nil || time.Unix(sec, 0).Sub(at).Abs() > 5*time.Minute || strconv.FormatInt(sec, 10) != timestamp {
			t.Errorf("accepted the timestamp %q of %q", timestamp, header)
		}
		if want := "v1=" + hmacHex(timestamp+"."+string(body)); !strings.Contains(strings.ToLower(header), want) {
			t.Errorf("accepted %q, which lacks %s", header, want)
		}
	})
}

func checkFuzzed(t *testing.T, v *signature.Verifier, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var e *signature.Error
	if !errors.As(err, &e) {
		t.Fatalf("Verify() = %v, want a *signature.Error", err)
	}
	checkError(t, v, err, e.Step, e.Err)
}

// Any scheme that compiles accepts what it signs, and nothing else.
func FuzzCompile(f *testing.F) {
	f.Add("S", "", "raw", "", "", "", "", "hex", "{body}", "", "", []byte(payload))
	f.Add("S", "sha256=", "raw", "", "", "", "", "base64", "v0:{timestamp}:{header:X-Y}:{body}", "", "T", []byte("\xff"))
	f.Add("S", "", "pairs", ";", "=", "v1", "t", "hex", "{id}.{timestamp}.{body}", "I", "", []byte(""))
	f.Add("S", "", "tokens", "", "", "v1", "", "base64", "{id}.{timestamp}.{body}", "I", "T", []byte("{}"))
	f.Fuzz(func(t *testing.T, header, prefix, format, list, pair, sigKey, tsKey, encoding, signed, id, ts string, body []byte) {
		s := signature.Scheme{
			Algorithm: signature.HMACSHA256, Header: header, Prefix: prefix, Format: signature.Format(format), ListSeparator: list,
			PairSeparator: pair, SignatureKey: sigKey, TimestampKey: tsKey, Encoding: signature.Encoding(encoding), Signed: signed, ID: id, Timestamp: ts,
		}
		v, err := signature.Compile(s)
		if err != nil {
			if faults := (signature.Faults{}); !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("Compile() = %v, want Faults", err)
			}
			return
		}
		r := signature.Request{Header: named(signed), Body: body}
		k := key(t, github, secret)
		for name, values := range v.SignRequest(k, r, "msg_1", at) {
			r.Header[name] = values
		}
		if len(prefix) > 1<<10 || len(sigKey)+len(tsKey) > 1<<10 {
			return // over the limit of a header, perhaps
		}
		if err := v.Verify(r, []signature.Key{k}, at); err != nil {
			t.Errorf("Verify(Sign()) = %v for %+v, headers %q", err, s, r.Header)
		}
		r.Body = append(r.Body[:len(r.Body):len(r.Body)], '!')
		if err := v.Verify(r, []signature.Key{k}, at); !errors.Is(err, signature.ErrMismatch) {
			t.Errorf("Verify(altered) = %v for %+v", err, s)
		}
	})
}

// named gives each {header:Name} of a template a value.
func named(signed string) http.Header {
	h := http.Header{}
	for _, part := range strings.Split(signed, "{header:")[1:] {
		name, _, _ := strings.Cut(part, "}")
		h.Set(name, "value")
	}
	return h
}
