package ingress_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/ingress"
)

// Whoever has the secret can send what he likes. It is stored as it came or
// refused; it is never a 5xx, and never a message that can't be read again.
func FuzzSignedDeliveries(f *testing.F) {
	fx := setup(f, func(c *ingress.Config) { c.Streams.Durability = topology.Relaxed })
	names := []string{"orders", "rotating", "bytes", "anonymous", "hub", "std", "stripe"}
	for i := range names {
		f.Add(uint8(i), "application/json", "d-1", "thing.made", []byte(`{"id":"e","kind":"k","type":"t","at":1760000000,"action":"a"}`))
	}
	f.Add(uint8(0), "application/json; charset=utf-8", "*", ">", []byte(`{"kind":"\u0000.*. >","at":"0000-01-01T00:00:00+23:59"}`))
	f.Add(uint8(1), "a/b+json", "", "", []byte(`{"id":" ","kind":"..","id2":1e400}`))
	f.Add(uint8(2), "*/*", "\xff", "\t", []byte{0, 1, 255})
	f.Fuzz(func(t *testing.T, which uint8, contentType, id, kind string, body []byte) {
		name := names[int(which)%len(names)]
		src := fx.sources[name]
		r := httptest.NewRequest(http.MethodPost, "/v1/"+name, strings.NewReader(string(body)))
		for h, v := range map[string]string{
			"Content-Type": contentType, "X-Delivery": id, "X-Kind": kind, "X-Github-Delivery": id, "X-Github-Event": kind, "X-At": kind,
		} {
			r.Header[h] = []string{v}
		}
		signed := src.Verifier().SignRequest(src.Keys()[0], signature.Request{Body: body}, id, at)
		for h, v := range signed {
			r.Header[h] = v
		}
		w := httptest.NewRecorder()
		fx.service.Handler().ServeHTTP(w, r)
		got := readReply(t, w.Code, w.Header(), w.Body.Bytes())
		if got.code >= 500 {
			t.Fatalf("answered %+v\n%s", got, fx.log)
		}
		if got.code != http.StatusOK {
			return
		}
		in := *fx
		in.t = t
		m := in.last()
		e, err := event.FromHeader(m.Header)
		if err != nil {
			t.Fatalf("stored what can't be read again: %v", err)
		}
		if got.Status == "accepted" && (e.ID != got.ID || string(m.Data) != string(body) || e.Source != name) {
			t.Errorf("stored %+v with %q, want event %q of %s with %q", e, m.Data, got.ID, name, body)
		}
		if !utf8.ValidString(e.Type) || strings.ContainsAny(m.Subject, "*> \x00") || len(m.Subject) > 512 {
			t.Errorf("subject %q for type %q", m.Subject, e.Type)
		}
	})
}

// Captured files hold anything. Explaining them ends in an error or in a whole
// list of steps of which at most one failed.
func FuzzExplain(f *testing.F) {
	all := decoded(f)
	names := []string{"orders", "rotating", "bytes", "std"}
	for i, name := range names {
		src := all[name]
		d := delivery{method: "POST", path: "/v1/" + name, body: `{"id":"e","kind":"k","type":"t"}`, header: http.Header{
			"Content-Type": {"application/json"}, "X-Delivery": {"d"}, "X-Kind": {"k"},
		}}.signed(src.Verifier(), src.Keys()[0], "msg_1", at)
		f.Add(uint8(i), d.raw())
		d.chunked = true
		f.Add(uint8(i), d.raw())
	}
	steps := map[string]int{}
	for _, name := range names {
		src := all[name]
		steps[name] = len(src.Verifier().Steps()) + 11 // the other checks
	}
	f.Add(uint8(0), []byte("GET /v1/orders HTTP/1.1\n\n"))
	f.Add(uint8(0), []byte("POST /v1/orders HTTP/1.1\nContent-Length: 99999999999\n\n"))
	f.Fuzz(func(t *testing.T, which uint8, raw []byte) {
		name := names[int(which)%len(names)]
		ex, err := ingress.Explain(name, all[name], raw, at)
		if err != nil {
			if len(ex.Steps) > 0 || ex.Accepted {
				t.Errorf("%+v beside %v", ex, err)
			}
			return
		}
		failed, notReached := 0, 0
		for _, s := range ex.Steps {
			switch s.Result {
			case ingress.Failed:
				failed++
			case ingress.NotReached:
				notReached++
			case ingress.Passed:
				if failed > 0 {
					t.Errorf("%s passed after a step that failed", s.Name)
				}
			default:
				t.Errorf("%s: result %q", s.Name, s.Result)
			}
		}
		if ex.Accepted != (failed == 0) || ex.Accepted != (ex.Status == 200) || ex.Accepted && notReached > 0 || failed > 1 || ex.Status >= 500 {
			t.Errorf("accepted %t, status %d, %d failed, %d not reached", ex.Accepted, ex.Status, failed, notReached)
		}
		want := steps[name]
		if !bytes.HasPrefix(raw, []byte("POST ")) {
			src := all[name]
			want = len(src.Verifier().Steps()) + 3 // the door: there is no body to look at
		}
		if len(ex.Steps) != want {
			t.Errorf("%d steps, want %d", len(ex.Steps), want)
		}
	})
}
