package ingress_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/ingress"
)

const encodingSources = `
sources:
  packed:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {id: body.id, type: body.kind}
    request: {encodings: [gzip], max_body: 128KiB}
  before:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {split: body, type: item.kind}
    request: {encodings: [gzip], signed: decoded}
  plain:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {type: body.kind}
`

func encoding(t testing.TB, change ...func(*ingress.Config)) *fixture {
	t.Helper()
	return setup(t, append([]func(*ingress.Config){func(c *ingress.Config) { c.Sources = read(t, encodingSources) }}, change...)...)
}

func packed(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// noise is text that gzip makes half of, at best.
func noise(n int) string {
	var b []byte
	for sum := sha256.Sum256(nil); len(b) < n; sum = sha256.Sum256(sum[:]) {
		b = hex.AppendEncode(b, sum[:])
	}
	return string(b[:n])
}

// encoded is a delivery of body whose signature is over signed.
func (f *fixture) encoded(source, body, signed string) delivery {
	d := f.delivery(source, "", signed)
	d.body = body
	d.header.Set("Content-Encoding", "gzip")
	return d
}

// Promise 8: the trigger has the body in clear, and the bytes that came over
// the wire are kept with what they are.
func TestEncodedBodiesAreStoredInClearAndAsReceived(t *testing.T) {
	t.Parallel()
	f := encoding(t)
	body := `{"id":"e-1","kind":"made"}`
	zipped := packed(t, body)
	d := f.encoded("packed", zipped, zipped)
	ex, err := ingress.Explain("packed", f.sources["packed"], d.raw(), at)
	if err != nil || !ex.Accepted || ex.EventID != "e-1" || ex.Request != "tercel.requests.packed._" {
		t.Errorf("explained as %+v, %v", ex, err)
	}
	if r := f.send(d); r.Status != "accepted" || r.ID != "e-1" || r.Events != 0 {
		t.Fatalf("answered %+v\n%s", r, f.log)
	}
	msgs := f.all()
	if len(msgs) != 2 {
		t.Fatalf("%d messages stored, want 2", len(msgs))
	}
	if h := msgs[0].Header; string(msgs[0].Data) != zipped || h.Get(event.HeaderContentEncoding) != "gzip" || msgs[0].Subject != ex.Request {
		t.Errorf("the request is stored at %s with %v", msgs[0].Subject, h)
	}
	e, err := event.FromHeader(msgs[1].Header)
	if err != nil || string(msgs[1].Data) != body || e.Request != msgs[0].Header.Get(event.HeaderID) || e.Part != "" || e.ContentType != "application/json" {
		t.Errorf("the trigger is %+v, %v with %s", e, err, msgs[1].Data)
	}
	if r := f.send(d); r.Status != "duplicate" || f.stored() != 2 {
		t.Errorf("the repeat was answered %+v with %d messages stored", r, f.stored())
	}
	if r := f.send(f.delivery("packed", "", `{"id":"e-2","kind":"made"}`)); r.Status != "accepted" || f.stored() != 3 {
		t.Errorf("one in clear was answered %+v with %d messages stored, want 3", r, f.stored())
	}
}

// Some senders sign what they compress. Such a body may hold several events.
func TestSignatureOverWhatWasCompressed(t *testing.T) {
	t.Parallel()
	f := encoding(t)
	body := `[{"kind":"a"},{"kind":"b"}]`
	if r := f.send(f.encoded("before", packed(t, body), body)); r.Status != "accepted" || r.Events != 2 || f.stored() != 3 {
		t.Errorf("answered %+v with %d messages stored, want 3\n%s", r, f.stored(), f.log)
	}
	zipped := packed(t, `[{"kind":"c"}]`)
	for source, d := range map[string]delivery{
		"signed as received": f.encoded("before", zipped, zipped), "signed in clear": f.encoded("packed", zipped, `[{"kind":"c"}]`),
	} {
		if r := f.send(d); r.code != http.StatusUnauthorized {
			t.Errorf("%s: answered %+v, want 401", source, r)
		}
	}
}

// Promise 10: what is no gzip, or too much of it, is refused and takes no memory.
func TestBadEncodingsAreRefused(t *testing.T) {
	t.Parallel()
	f := encoding(t)
	good := packed(t, `{"id":"e-1","kind":"made"}`)
	bomb := packed(t, strings.Repeat("a", 32<<20))
	damaged := []byte(good)
	damaged[len(damaged)-6] ^= 1 // of the checksum
	for name, tt := range map[string]struct {
		body   string
		status int
		text   string
	}{
		"cut":              {good[:len(good)-1], 400, "content encoding: gzip: cut"},
		"cut in its head":  {good[:5], 400, "content encoding: gzip: cut"},
		"nothing":          {"", 400, "content encoding: gzip: cut"},
		"damaged":          {string(damaged), 400, "content encoding: gzip: damaged"},
		"no gzip":          {`{"id":"e-1","kind":"made"}`, 400, "content encoding: gzip: damaged"},
		"more behind it":   {good + "x", 400, "content encoding: gzip: 1 bytes behind the end"},
		"two members":      {good + good, 400, "behind the end"},
		"a bomb":           {bomb, 413, "the request is too large"},
		"above max_body":   {packed(t, `{"id":"`+noise(140<<10)+`","kind":"k"}`), 413, "the request is too large"},
		"above the ratio":  {packed(t, `{"id":"`+strings.Repeat("a", 120<<10)+`","kind":"k"}`), 413, "the request is too large"},
		"gzip within gzip": {packed(t, good), 400, "invalid JSON"},
	} {
		if r := f.send(f.encoded("packed", tt.body, tt.body)); r.code != tt.status || !strings.Contains(r.Error, tt.text) {
			t.Errorf("%s: answered %+v, want %d, %q", name, r, tt.status, tt.text)
		}
	}
	for name, values := range map[string][]string{
		"another": {"br"}, "two in one": {"gzip, gzip"}, "two headers": {"gzip", "identity"}, "unknown": {"x"},
	} {
		d := f.encoded("packed", good, good)
		d.header["Content-Encoding"] = values
		if r := f.send(d); r.code != http.StatusUnsupportedMediaType || r.header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("%s: answered %+v, want 415 and what is taken", name, r)
		}
	}
	if r := f.send(f.encoded("plain", good, good)); r.code != http.StatusUnsupportedMediaType || r.header.Get("Accept-Encoding") != "identity" {
		t.Errorf("where none is taken: answered %+v, want 415", r)
	}
	if got := f.stored(); got != 0 {
		t.Errorf("%d messages stored, want none", got)
	}
}

// Whatever is sent for gzip, it is refused, or its trigger has what gzip makes of it.
func FuzzEncodedBody(f *testing.F) {
	fx := encoding(f, func(c *ingress.Config) { c.Streams.Durability = topology.Relaxed })
	f.Add([]byte(packed(f, `{"id":"e-1","kind":"made"}`)))
	f.Add([]byte(packed(f, strings.Repeat("a", 300<<10))))
	f.Add([]byte("\x1f\x8b\x08\x1c\x00\x00\x00\x00\x00\xff\x02\x00name\x00comment\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		in := *fx
		in.t = t
		before := in.stored()
		r := httptest.NewRequest(http.MethodPost, "/v1/packed", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Content-Encoding", "gzip")
		src := fx.sources["packed"]
		for h, v := range src.Verifier().Sign(src.Keys()[0], body, "", at) {
			r.Header[h] = v
		}
		w := httptest.NewRecorder()
		fx.service.Handler().ServeHTTP(w, r)
		if w.Code >= 500 || w.Code >= 400 && in.stored() != before {
			t.Fatalf("answered %d\n%s", w.Code, fx.log)
		}
		if w.Code == http.StatusOK && in.stored() == before+2 {
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			var clear bytes.Buffer
			if _, err := clear.ReadFrom(z); err != nil || clear.String() != string(in.last().Data) {
				t.Errorf("stored %q of %q, %v", in.last().Data, clear.String(), err)
			}
		}
	})
}
