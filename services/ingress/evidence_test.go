package ingress_test

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/services/ingress"
)

const evident = `
sources:
  signed:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:OTHER, env:PLAIN]
    event: {id: [header.X-Delivery, header.X-Other], type: body.kind}
  called:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{url}{body}"}
    public_url: https://hooks.example.com/v1/called
    secrets: [env:PLAIN]
    event: {type: body.kind}
    accounts: [north]
  tokened:
    verify: {scheme: token, header: X-Token}
    secrets: [env:PLAIN]
    event: {id: header.X-Delivery, type: body.kind}
  bearer:
    verify: {scheme: bearer}
    secrets: [env:PLAIN]
    event: {id: header.X-Delivery, type: body.kind}
  hidden:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {id: header.X-Customer, type: body.kind}
    redact: {paths: [header.X-Customer], stored: true}
  careless:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {id: header.Cookie, type: body.kind}
  naming:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{signed_headers:X-Signed-Headers}.{body}"}
    secrets: [env:PLAIN]
    event: {type: body.kind}
  several:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {split: body, id: item.id, type: item.kind}
`

// evidently has the sources above, and those with schemas.
func evidently(t testing.TB) func(*ingress.Config) {
	t.Helper()
	f, err := pipeline.Decode(filepath.Join(t.TempDir(), "tercel.yaml"), []byte(evident), config.WithLookupEnv(func(name string) (string, bool) {
		v, ok := environment[name]
		return v, ok
	}))
	if err != nil {
		t.Fatal(err)
	}
	sources := checking(t)
	for name, s := range f.Sources {
		sources[name] = s
	}
	return func(c *ingress.Config) { c.Sources = sources }
}

// proven is a delivery as the source's sender makes it.
func (f *fixture) proven(source, body string, more http.Header) delivery {
	f.t.Helper()
	src := f.sources[source]
	d := delivery{method: http.MethodPost, path: "/v1/" + source, body: body, header: http.Header{"Content-Type": {"application/json"}}}
	for name, values := range more {
		d.header[name] = values
	}
	if keys := src.Keys(); len(keys) > 0 {
		for name, values := range src.Verifier().Sign(keys[len(keys)-1], []byte(body), "", at) {
			d.header[name] = values
		}
	}
	return d
}

func (f *fixture) take(d delivery) event.Event {
	f.t.Helper()
	if r := f.send(d); r.Status != "accepted" {
		f.t.Fatalf("%s is answered %+v\n%s", d.path, r, f.log)
	}
	e, err := event.FromHeader(f.last().Header)
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

// Promises 8 and 9: a trigger has what its request was checked by, and no
// credential, and says what each check found.
func TestPromise8WhatWasCheckedIsStored(t *testing.T) {
	t.Parallel()
	f := setup(t, evidently(t))
	tests := map[string]struct {
		source, body string
		header       http.Header
		kept         []string // names of headers with their values
		absent       []string
		withheld     []string
		verdicts     []string
	}{
		"a signature": {
			source: "signed", header: http.Header{"X-Delivery": {"d-1"}, "X-Secret": {"nobody looks at it"}},
			kept: []string{"X-Delivery", "X-Signature", "X-Timestamp"}, absent: []string{"X-Other"},
			verdicts: []string{
				"origin passed any address may send", "signature passed hmac-sha256, by env:PLAIN", "timestamp passed signed 0s before it came, at most 5m0s",
				"structure passed strict JSON", "event id passed not signed, so a part of the body's hash is added", "repeat passed no repeat within 30m0s, nor as far as is known within 72h0m0s",
			},
		},
		"no id": {
			source: "several", body: `[{"id":"1","kind":"k"}]`,
			verdicts: []string{"event id passed signed"},
		},
		"a token":  {source: "tokened", header: http.Header{"X-Delivery": {"d-2"}}, kept: []string{"X-Delivery"}, withheld: []string{"X-Token"}, verdicts: []string{"signature passed token, by env:PLAIN"}},
		"a bearer": {source: "bearer", header: http.Header{"X-Delivery": {"d-3"}}, kept: []string{"X-Delivery"}, withheld: []string{"Authorization"}},
		"a header that isn't to be stored": {
			source: "hidden", header: http.Header{"X-Customer": {"c-1"}}, kept: []string{"X-Signature"}, withheld: []string{"X-Customer"},
		},
		"a cookie": {source: "careless", header: http.Header{"Cookie": {"session=1"}}, kept: []string{"X-Signature"}, withheld: []string{"Cookie"}},
		"a schema that isn't matched": {
			source: "warned", body: `{"id":"1","kind":"order.paid"}`,
			verdicts: []string{"signature passed none", "schema warned not matched: required@"},
		},
		"a schema that is": {source: "warned", body: `{"id":"2","kind":"order.paid","total":1}`, verdicts: []string{"schema passed matched"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.body == "" {
				tt.body = `{"kind":"thing.made"}`
			}
			d := f.proven(tt.source, tt.body, tt.header)
			e := f.take(d)
			got, err := event.ParseReceived(e.Received)
			if err != nil {
				t.Fatal(err)
			}
			var kept, absent []string
			for name, values := range got.Header {
				if values == nil {
					absent = append(absent, name)
				} else if kept = append(kept, name); !slices.Equal(values, d.header[name]) {
					t.Errorf("%s is kept as %q, want %q", name, values, d.header[name])
				}
			}
			slices.Sort(kept)
			if !slices.Equal(kept, tt.kept) || !slices.Equal(absent, tt.absent) || !slices.Equal(got.Withheld, tt.withheld) {
				t.Errorf("kept %q, absent %q, withheld %q; want %q, %q, %q", kept, absent, got.Withheld, tt.kept, tt.absent, tt.withheld)
			}
			for name, values := range f.last().Header {
				for _, secret := range []string{environment["PLAIN"], "nobody looks at it"} {
					if strings.Contains(strings.Join(values, " "), secret) {
						t.Errorf("header %s has %q", name, values)
					}
				}
			}
			c, err := event.ParseChecked(e.Checked)
			if err != nil {
				t.Fatal(err)
			}
			var verdicts []string
			for _, v := range c.Verdicts() {
				verdicts = append(verdicts, v.Check+" "+string(v.Result)+" "+v.Detail)
			}
			for _, want := range tt.verdicts {
				if !slices.Contains(verdicts, want) {
					t.Errorf("verdicts %q, want %q among them", verdicts, want)
				}
			}
		})
	}
}

// What a request of several events was checked by stands in the stored request
// alone.
func TestWhatWasCheckedStandsInTheRequestOnce(t *testing.T) {
	t.Parallel()
	f := setup(t, evidently(t))
	e := f.take(f.proven("several", `[{"id":"1","kind":"k"},{"id":"2","kind":"k"}]`, nil))
	if e.Received != "" || e.Request == "" {
		t.Errorf("a part has %q of request %q, want nothing", e.Received, e.Request)
	}
	m, err := f.stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := event.ParseReceived(m.Header.Get(event.HeaderReceived))
	if err != nil || got.Header.Get("X-Signature") == "" {
		t.Errorf("the request has %+v, %v; want its signature", got, err)
	}
}

// Who signs the address has the query kept, and whether the path named the
// account.
func TestTheAddressIsKeptWhereItIsSigned(t *testing.T) {
	t.Parallel()
	f := setup(t, evidently(t))
	src := f.sources["called"]
	d := delivery{method: http.MethodPost, path: "/v1/called/north?q=1", body: `{"kind":"k"}`, header: http.Header{"Content-Type": {"application/json"}}}
	for name, values := range src.Verifier().SignRequest(src.Keys()[0], signature.Request{
		Body: []byte(d.body), URL: src.CalledURL("north", "q=1"),
	}, "", at) {
		d.header[name] = values
	}
	got, err := event.ParseReceived(f.take(d).Received)
	if err != nil || got.Query != "q=1" || !got.Account {
		t.Errorf("kept is %+v, %v; want the query and that the path named the account", got, err)
	}
	plain, err := event.ParseReceived(f.take(f.proven("signed", `{"kind":"k"}`, http.Header{"X-Delivery": {"d-9"}})).Received)
	if err != nil || plain.Query != "" || plain.Account {
		t.Errorf("kept is %+v, %v; want nothing of an address that isn't signed", plain, err)
	}
	// One header is larger than what is kept at all.
	huge := f.proven("signed", `{"kind":"huge"}`, http.Header{"X-Delivery": {"d-10"}, "X-Other": {strings.Repeat("x", 9<<10)}})
	if got, err := event.ParseReceived(f.take(huge).Received); err != nil || !got.TooLarge {
		t.Errorf("kept is %+v, %v; want that it was too large", got, err)
	}
}

// Promise 9: a request itself says which headers are signed, and one that names
// its credentials has them kept by their names alone.
func TestPromise9NoCredentialIsKeptThatTheRequestNames(t *testing.T) {
	t.Parallel()
	f := setup(t, evidently(t))
	src := f.sources["naming"]
	d := delivery{method: http.MethodPost, path: "/v1/naming", body: `{"kind":"k"}`, header: http.Header{
		"Content-Type": {"application/json"}, "Authorization": {"Bearer planted"}, "Cookie": {"session=planted"}, "X-Shown": {"shown"},
		"X-Signed-Headers": {"x-signed-headers,authorization,cookie,x-shown"},
	}}
	for name, values := range src.Verifier().SignRequest(src.Keys()[0], signature.Request{Body: []byte(d.body), Header: d.header}, "", at) {
		d.header[name] = values
	}
	e := f.take(d)
	got, err := event.ParseReceived(e.Received)
	if err != nil || got.Header.Get("X-Shown") != "shown" || !slices.Contains(got.Withheld, "Authorization") || !slices.Contains(got.Withheld, "Cookie") {
		t.Errorf("kept is %+v, %v; want the header that may be shown, and the names of the others", got, err)
	}
	if strings.Contains(e.Received, "planted") {
		t.Errorf("a credential is kept: %s", e.Received)
	}
}
