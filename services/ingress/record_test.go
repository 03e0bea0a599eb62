package ingress_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/refusal"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/ingress"
)

// kept ends the service and returns what it kept of refused requests.
func (f *fixture) kept() []refusal.Record {
	f.t.Helper()
	f.service.Close()
	var all []refusal.Record
	for m, err := range consume.Scan(f.t.Context(), f.jetstream(), consume.ScanOptions{Stream: topology.StreamRefused}) {
		if err != nil {
			f.t.Fatal(err)
		}
		r, err := refusal.Decode(m.Data)
		if err != nil {
			f.t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// withSources adds sources, written as in the pipeline file.
func withSources(t *testing.T, text string) func(*ingress.Config) {
	t.Helper()
	file, err := pipeline.Decode("tercel.yaml", []byte(text), config.WithLookupEnv(func(name string) (string, bool) {
		v, ok := environment[name]
		return v, ok
	}))
	if err != nil {
		t.Fatal(err)
	}
	return func(c *ingress.Config) {
		c.Sources = maps.Clone(c.Sources)
		maps.Copy(c.Sources, file.Sources)
	}
}

// What is kept of a refused request says which check refused it, with what the
// request had and what was wanted.
func TestRefusedRequestsAreKeptForDebugging(t *testing.T) {
	t.Parallel()
	f := setup(t)
	forged := f.delivery("orders", "d-1", `{"kind":"paid","card":{"number":"4242"}}`)
	forged.body = `{"kind":"void","card":{"number":"4242"}}`
	forged.header.Set("User-Agent", "sender/1")
	forged.header.Set("X-Other", "value of another header")
	answer := f.send(forged)
	stale := f.delivery("orders", "d-2", `{"kind":"paid"}`)
	src := f.sources["orders"]
	stale = stale.signed(src.Verifier(), src.Keys()[0], "", at.Add(-time.Hour))
	f.send(stale)
	all := f.kept()
	if len(all) != 2 {
		t.Fatalf("%d are kept, want 2: %+v", len(all), all)
	}
	r := all[0]
	if r.Source != "orders" || r.RequestID != answer.Req || r.ClaimedID != "d-1" || r.Status != 401 || r.Outcome != "refused_signature" ||
		r.Check != "signature" || r.Step != "signature match" || !strings.HasPrefix(r.Reason, "mismatch") || !r.At.Equal(at) {
		t.Errorf("the forged one is kept as %+v", r)
	}
	if !slices.Equal(r.Keys, []string{"env:PLAIN"}) || r.Tolerance != "5m0s" || r.Method != "POST" || r.Path != "/v1/orders" {
		t.Errorf("tried with %v within %s, %s %s", r.Keys, r.Tolerance, r.Method, r.Path)
	}
	if r.Header["X-Signature"] != forged.header.Get("X-Signature") || r.Header["X-Timestamp"] != fmt.Sprint(at.Unix()) || r.Header["User-Agent"] != "sender/1" {
		t.Errorf("headers %v, want those that were checked", r.Header)
	}
	if r.Header["X-Other"] != "" || !slices.Contains(r.Others, "X-Other") {
		t.Errorf("headers %v and the names %v, want the other one's name alone", r.Header, r.Others)
	}
	if want := `{"kind":"string","card":{"number":"string"}}`; string(r.Body.Shape) != want || r.Body.Size != len(forged.body) || len(r.Body.SHA256) != 64 || r.Body.Text != "" {
		t.Errorf("body %+v, want its size, hash and shape", r.Body)
	}
	failed := slices.IndexFunc(r.Steps, func(s refusal.Step) bool { return s.Result == "failed" })
	if failed < 3 || r.Steps[failed].Name != "signature match" || r.Steps[failed-1].Result != "ok" || r.Steps[failed+1].Result != "not reached" {
		t.Errorf("steps %+v, want them up to the signature", r.Steps)
	}
	if r := all[1]; r.Step != "timestamp window" || !strings.Contains(r.Reason, "signed at 2026-11-20T11:00:00Z, checked at 2026-11-20T12:00:00Z, tolerance 5m0s") {
		t.Errorf("the stale one is kept as %+v", r)
	}
}

// Promise 9: what is kept of a stranger's request has no secret, whichever place
// it was put into, and nothing of a body.
func TestPromise9NothingSecretIsKeptOfRefusedRequests(t *testing.T) {
	t.Parallel()
	f := setup(t, withSources(t, `
sources:
  tokens:
    verify: {scheme: token, header: X-Token}
    secrets: [env:PLAIN]
    event: {id: header.X-Delivery, type: "{header.Authorization}.{body.kind}"}
  basic:
    verify: {scheme: basic}
    secrets: [env:PAIR]
    event: {type: body.kind}
  hidden:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {id: header.X-Delivery, type: body.kind}
    redact: [body.kind, header.X-Delivery]
`))
	const planted = "planted-by-the-sender"
	send := func(source string, set map[string]string, body string) {
		d := delivery{method: http.MethodPost, path: "/v1/" + source + "?key=" + planted, body: body, header: http.Header{
			"Content-Type": {"application/json"}, "Authorization": {"Bearer " + planted}, "Cookie": {"session=" + planted}, "X-Api-Key": {planted},
		}}
		for name, value := range set {
			d.header.Set(name, value)
		}
		if r := f.send(d); r.code < 400 {
			t.Fatalf("%s is answered %d", source, r.code)
		}
	}
	secret := environment["PLAIN"]
	send("tokens", map[string]string{"X-Token": planted}, `{"kind":"`+planted+`"}`)
	send("basic", nil, `{"kind":"`+planted+`"}`)
	send("orders", map[string]string{"X-Signature": secret, "X-Timestamp": fmt.Sprint(at.Unix()), "X-Delivery": secret}, `{"kind":"`+planted+`"}`)
	send("hidden", map[string]string{"X-Signature": strings.Repeat("0", 64), "X-Delivery": planted}, `{"kind":"`+planted+`"}`)
	all := f.kept()
	if len(all) != 4 {
		t.Fatalf("%d are kept, want 4", len(all))
	}
	for _, r := range all {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{planted, secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
			if at := strings.Index(string(text), s); at >= 0 {
				t.Errorf("what is kept of %s has %q: …%s", r.Source, s, text[max(0, at-80):])
			}
		}
	}
	if got := all[0].Header["X-Token"]; !strings.Contains(got, "[redacted]") || !strings.Contains(got, "21 bytes") {
		t.Errorf("the token is kept as %q, want its length alone", got)
	}
}

// What is kept of a body is for the operator to say.
func TestBodiesOfRefusedRequestsAreKeptAsConfigured(t *testing.T) {
	t.Parallel()
	f := setup(t, withSources(t, `
sources:
  whole:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {type: body.kind}
    refused: body
    redact: [body.card]
  several:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {split: body.events, id: item.id, type: item.kind}
    refused: body
    redact: [body.card]
  none:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {type: body.kind}
    refused: nothing
`))
	for _, source := range []string{"whole", "none"} {
		d := f.delivery(source, "", `{"kind":"paid"}`)
		d.body = `{"kind":"void","card":"4242"}`
		f.send(d)
	}
	d := f.delivery("several", "", `{"events":[]}`)
	d.body = `{"events":[{"id":"1","kind":"void","card":"4242"}]}`
	f.send(d) // before its events are known
	f.send(f.delivery("several", "", `{"events":[{"id":"1","kind":"void","card":"4242"},{"id":"4242","card":"4242"}]}`))
	all := f.kept()
	if len(all) != 3 || all[0].Source != "whole" || all[0].Body.Text != `{"kind":"void","card":"[redacted]"}` {
		t.Errorf("kept %+v, want the one body, redacted", all)
	}
	for _, r := range all[1:] {
		if text, err := json.Marshal(r); err != nil || strings.Contains(string(text), "4242") || r.Body.Text != `"[redacted]"` {
			t.Errorf("kept %s, %v, want nothing of a body whose events the rules speak of", text, err)
		}
	}
}

// Promise 10: a flood fills nothing, and what isn't the sender's doing isn't kept.
func TestPromise10AFloodOfRefusalsIsKeptInSmallPart(t *testing.T) {
	t.Parallel()
	f, turn := flooded(t, "kept-flood")
	f.forged("kept-flood", 200)
	turn(time.Minute)
	f.forged("kept-flood", 1)
	nowhere := f.delivery("orders", "", `{}`)
	nowhere.path = "/v1/nowhere"
	f.send(nowhere)
	eventually(t, "what is kept is stored", func() bool {
		stream, err := f.jetstream().Stream(t.Context(), topology.StreamRefused)
		return err == nil && stream.CachedInfo().State.Msgs == 11
	})
	f.server.Stop()
	f.send(f.delivery("orders", "d-1", `{"kind":"paid"}`)) // can't be stored
	f.server.Resume()
	eventually(t, "the connection is back", f.conn.IsConnected)
	all := f.kept()
	if len(all) != 11 {
		t.Errorf("%d are kept, want 10 of the first minute and one of the second", len(all))
	}
	for _, r := range all {
		if r.Outcome != "refused_signature" {
			t.Errorf("kept %+v", r)
		}
	}
}

// What a source doesn't want to be stored isn't, once every check has seen it: an
// event keeps its id, its hash is noted, and a request of several, in which the
// rules can't know their way, is kept as its hash alone.
func TestRedactedValuesAreNotStoredIfAsked(t *testing.T) {
	t.Parallel()
	f := setup(t, withSources(t, `
sources:
  one:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {type: body.kind}
    redact: {paths: [body.card], stored: true}
  many:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {split: body.events, id: item.id, type: item.kind}
    redact: {paths: [body.card], stored: true}
`))
	hash := func(text string) string { sum := sha256.Sum256([]byte(text)); return hex.EncodeToString(sum[:]) }
	one := `{"kind":"paid","card":"4242"}`
	if r := f.send(f.delivery("one", "", one)); r.code != http.StatusOK || r.ID != "sha256:"+hash(one) {
		t.Errorf("answered %+v, want the id of what was received", r)
	}
	m := f.last()
	if string(m.Data) != `{"kind":"paid","card":"[redacted]"}` || m.Header.Get(event.HeaderReceivedHash) != hash(one) {
		t.Errorf("stored %s with %v", m.Data, m.Header)
	}
	if r := f.send(f.delivery("one", "", one)); r.Status != "duplicate" {
		t.Errorf("a repeat is answered %+v", r)
	}
	many := `{"events":[{"id":"a","kind":"paid","card":"4242"},{"id":"b","kind":"sent"}]}`
	if r := f.send(f.delivery("many", "", many)); r.code != http.StatusOK {
		t.Fatalf("answered %+v", r)
	}
	stored := f.all()[1:]
	if len(stored) != 3 || len(stored[0].Data) != 0 || stored[0].Header.Get(event.HeaderReceivedHash) != hash(many) {
		t.Fatalf("the request is stored as %+v", stored)
	}
	for i, want := range []string{`{"id":"a","kind":"paid","card":"[redacted]"}`, `{"id":"b","kind":"sent"}`} {
		noted := stored[i+1].Header.Get(event.HeaderReceivedHash) != ""
		if got := string(stored[i+1].Data); got != want || noted != (i == 0) {
			t.Errorf("event %d is stored as %s, hash noted: %t; want %s", i+1, got, noted, want)
		}
	}
}
