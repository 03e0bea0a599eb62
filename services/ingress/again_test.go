package ingress_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/ingress"
	"github.com/tercelhq/tercel/services/internal/control"
)

// twice is a fixture whose service is made anew with another configuration.
type twice struct {
	*fixture
	stop func() error // nil while it doesn't run
}

// earlier gives the service a configuration, and now does so a day later.
func (f *twice) earlier(source string) { f.restart(source, at) }

func (f *twice) now(source string) { f.restart(source, at.Add(24*time.Hour)) }

func (f *twice) restart(source string, clock time.Time) {
	f.t.Helper()
	if f.stop != nil {
		_ = f.stop()
	}
	f.stop = nil
	parsed, err := pipeline.Decode("tercel.yaml", []byte("sources:\n"+source), config.WithLookupEnv(func(name string) (string, bool) {
		v, ok := environment[name]
		return v, ok
	}))
	if err != nil {
		f.t.Fatal(err)
	}
	f.deps.Now = func() time.Time { return clock }
	cfg := ingress.Config{Ingress: pipeline.Default().Ingress, Sources: parsed.Sources, Streams: topology.DefaultConfig()}
	cfg.Listen, cfg.DrainGrace = "127.0.0.1:0", 0
	f.sources = parsed.Sources
	f.serve(cfg)
}

// verify has the service, which runs from then on, check a trigger again.
func (f *twice) verify(req control.VerifyRequest) (v control.Verified, err error) {
	f.t.Helper()
	if f.stop == nil {
		f.stop = f.run()
	}
	eventually(f.t, "an ingress that answers", func() bool {
		v, err = control.Verify(f.t.Context(), f.conn, req)
		return !errors.Is(err, control.ErrNoIngress)
	})
	return v, err
}

func failedAt(v control.Verified) string {
	for _, c := range v.Checks {
		if c.Result == event.Failed {
			return c.Check + ": " + c.Detail
		}
	}
	return ""
}

func found(v control.Verified, want event.Verdict) bool {
	return slices.ContainsFunc(v.Checks, func(c event.Verdict) bool {
		return c.Check == want.Check && c.Result == want.Result && strings.Contains(c.Detail, want.Detail)
	})
}

const shop = `  shop:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:PLAIN]
    event: {id: header.X-Delivery, type: body.kind}
`

// A stored request is judged by the configuration and the secrets of now, as if
// it had come when it came: what that makes of it is sent, and what it refuses is
// not.
func TestAStoredRequestIsJudgedAnew(t *testing.T) {
	t.Parallel()
	const body = `{"kind":"order.paid","nr":7,"items":[{"id":"a","kind":"k"}]}`
	tests := map[string]struct {
		then, now string
		id, typ   string // of what is sent
		failed    string // the check that refuses, and a part of why
		verdict   event.Verdict
	}{
		"as it was": {then: shop, now: shop, id: "d-1~", typ: "order.paid", verdict: event.Verdict{Check: "signature match", Result: event.Passed}},
		"found elsewhere": {
			then: shop, now: strings.NewReplacer("header.X-Delivery", "body.nr", "body.kind", `"{header.X-Delivery}.{body.kind}"`).Replace(shop),
			id: "7", typ: "d-1.order.paid", verdict: event.Verdict{Check: "event", Result: event.Passed, Detail: `its type was "order.paid" and is "d-1.order.paid"`},
		},
		"another secret": {then: shop, now: strings.Replace(shop, "env:PLAIN", "env:OTHER", 1), failed: "signature match: mismatch"},
		"both secrets":   {then: shop, now: strings.Replace(shop, "env:PLAIN", "env:OTHER, env:PLAIN", 1), id: "d-1~", typ: "order.paid"},
		"a header that nobody looked at": {
			then: shop, now: strings.Replace(shop, "header.X-Delivery", "header.X-Unseen", 1), failed: "stored request: the configuration of now looks at header X-Unseen",
		},
		"no such source": {then: shop, now: strings.Replace(shop, "  shop:", "  store:", 1), failed: "path: no such source"},
		"no such type":   {then: shop, now: strings.Replace(shop, "body.kind", "body.sort", 1), failed: "event type"},
		"a smaller body": {then: shop, now: shop + "    request: {max_body: 8B}\n", failed: "content length"},
		"split now":      {then: shop, now: strings.Replace(shop, "id: header.X-Delivery, type: body.kind", "split: body.items, id: item.id, type: item.kind", 1), failed: "event of the request: event.split"},
		"a token": {
			then: tokened, now: strings.Replace(tokened, "env:PLAIN", "env:OTHER", 1), id: "d-1~", typ: "order.paid",
			verdict: event.Verdict{Check: "signature", Result: event.NotRepeated, Detail: "the credential in header X-Token is not stored"},
		},
		"where from": {
			then: shop, now: shop + "    origin: {allow: [192.0.2.1]}\n", id: "d-1~", typ: "order.paid",
			verdict: event.Verdict{Check: "origin", Result: event.NotRepeated, Detail: "the sender's address is not stored"},
		},
		"ids of our own": {then: shop, now: strings.Replace(shop, "id: header.X-Delivery", "repeats: never", 1), id: "d-1~", typ: "order.paid"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &twice{fixture: setup(t)}
			f.earlier(tt.then)
			d := f.proven("shop", body, http.Header{"X-Delivery": {"d-1"}, "X-Unseen": {"u-1"}})
			f.take(d)
			f.now(tt.now)
			if tt.failed != "" {
				v, err := f.verify(control.VerifyRequest{Sequence: 1, Send: true})
				if err != nil || v.Accepted || !strings.HasPrefix(failedAt(v), tt.failed) || v.Sequence != 0 {
					t.Errorf("verified %+v, %v; want it refused with %q", v, err, tt.failed)
				}
				if n := f.stored(); n != 1 {
					t.Errorf("%d messages are stored, want the one", n)
				}
				return
			}
			if v, err := f.verify(control.VerifyRequest{Sequence: 1}); err != nil || !v.Accepted || f.stored() != 1 {
				t.Fatalf("a look alone is %+v, %v, with %d messages stored; want it accepted and not sent", v, err, f.stored())
			}
			v, err := f.verify(control.VerifyRequest{Sequence: 1, Send: true, Destinations: "crm"})
			if err != nil || !v.Accepted || v.Sequence != 2 {
				t.Fatalf("verified %+v, %v; want it sent", v, err)
			}
			if tt.verdict.Check != "" && !found(v, tt.verdict) {
				t.Errorf("verdicts %q, want %q", v.Checks, tt.verdict)
			}
			if v.NotRepeated() != (tt.verdict.Result == event.NotRepeated) {
				t.Errorf("not repeated: %t", v.NotRepeated())
			}
			m := f.last()
			e, err := event.FromHeader(m.Header)
			if err != nil || !strings.HasPrefix(e.ID, tt.id) || e.Type != tt.typ || e.Origin != event.Replay || e.TriggerSequence != 1 ||
				!e.ReceivedAt.Equal(at) || e.Destinations != "crm" || string(m.Data) != body || m.Subject != e.RawSubject() || m.Header.Get(nats.MsgIdHdr) != v.MsgID {
				t.Errorf("sent %+v, %v\n%s", e, err, m.Data)
			}
			if c, err := event.ParseChecked(e.Checked); err != nil || !c.Again || c.Window != 0 {
				t.Errorf("it was checked %+v, %v; want that it was again", c, err)
			}
			// What was sent again can be checked again in turn.
			if v, err := f.verify(control.VerifyRequest{Sequence: 2}); err != nil || !v.Accepted {
				t.Errorf("once more: %+v, %v", v, err)
			}
		})
	}
}

const tokened = `  shop:
    verify: {scheme: token, header: X-Token}
    secrets: [env:PLAIN]
    event: {id: header.X-Delivery, type: body.kind}
`

const several = `  shop:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {split: body, id: item.id, type: item.kind}
`

// Of a request with several events the whole is checked, and the one sent; their
// places may have changed.
func TestAPartIsJudgedWithItsRequest(t *testing.T) {
	t.Parallel()
	f := &twice{fixture: setup(t)}
	f.earlier(several)
	f.take(f.proven("shop", `[{"id":"1","kind":"k","n":"a"},{"id":"2","kind":"k","n":"b"}]`, nil))
	if v, err := f.verify(control.VerifyRequest{Sequence: 1}); !errors.Is(err, control.ErrUnverifiable) {
		t.Errorf("the request itself is %+v, %v; want it no trigger", v, err)
	}
	f.now(strings.Replace(several, "item.id", "item.n", 1))
	v, err := f.verify(control.VerifyRequest{Sequence: 3, Send: true})
	if err != nil || v.Sequence != 4 {
		t.Fatalf("verified %+v, %v", v, err)
	}
	m := f.last()
	if e, err := event.FromHeader(m.Header); err != nil || e.ID != "b" || e.Part != "2/2" || e.Request == "" || e.TriggerSequence != 3 || string(m.Data) != `{"id":"2","kind":"k","n":"b"}` {
		t.Errorf("sent %+v, %v\n%s", e, err, m.Data)
	}
	f.now(strings.Replace(several, "env:PLAIN", "env:OTHER", 1))
	if v, err := f.verify(control.VerifyRequest{Sequence: 3, Send: true}); err != nil || v.Accepted || !strings.HasPrefix(failedAt(v), "signature match") {
		t.Errorf("under another secret: %+v, %v", v, err)
	}
	if err := f.stream.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if v, err := f.verify(control.VerifyRequest{Sequence: 3}); !errors.Is(err, control.ErrGone) {
		t.Errorf("without its request: %+v, %v; want %v", v, err, control.ErrGone)
	}
}

// Promise 3: a trigger that has another's place, since its stream was made anew, isn't
// sent for it. One whose id was another, before its request was checked again, is itself.
func TestOnlyTheTriggerThatIsExpectedIsSentAgain(t *testing.T) {
	t.Parallel()
	f := &twice{fixture: setup(t)}
	f.earlier(shop)
	f.take(f.proven("shop", `{"kind":"order.paid"}`, http.Header{"X-Delivery": {"d-1"}}))
	e, err := event.FromHeader(f.last().Header)
	if err != nil {
		t.Fatal(err)
	}
	later := at.Add(time.Second)
	for name, tt := range map[string]struct {
		of   control.Expected
		sent bool
	}{
		"itself":                 {control.Expected{Source: "shop", Account: e.Account, ID: e.ID, ReceivedAt: later}, true},
		"of one of its records":  {control.Expected{Source: "shop", Account: e.Account, ID: e.ID + "#7", RecordID: "7"}, true},
		"with another id since":  {control.Expected{Source: "shop", Account: e.Account, ID: "d-2", ReceivedAt: at}, true},
		"another event":          {control.Expected{Source: "shop", Account: e.Account, ID: "d-2", ReceivedAt: later}, false},
		"another account's":      {control.Expected{Source: "shop", Account: "north", ID: e.ID, ReceivedAt: later}, false},
		"another source's":       {control.Expected{Source: "store", Account: e.Account, ID: e.ID, ReceivedAt: at}, false},
		"another of its request": {control.Expected{Source: "shop", Account: e.Account, ID: "d-2", Part: "2/2", ReceivedAt: at}, false},
		"one without its time":   {control.Expected{Source: "shop", Account: e.Account, ID: "d-2"}, false},
	} {
		before := f.stored()
		v, err := f.verify(control.VerifyRequest{Sequence: 1, Send: true, Of: tt.of})
		if tt.sent && (err != nil || v.Sequence != before+1) {
			t.Errorf("%s: %+v, %v; want it sent", name, v, err)
		}
		if !tt.sent && (!errors.Is(err, control.ErrGone) || !strings.Contains(err.Error(), "event "+e.ID+" of shop") || f.stored() != before) {
			t.Errorf("%s: %+v, %v, with %d messages stored; want %v that says what stands there", name, v, err, f.stored(), control.ErrGone)
		}
	}
}

// What there is too little of to check is told, and not sent.
func TestWhatCantBeCheckedAgain(t *testing.T) {
	t.Parallel()
	f := &twice{fixture: setup(t)}
	f.earlier(shop)
	js := f.jetstream()
	base := event.Event{ID: "1", Source: "shop", Account: event.NoAccount, Type: "k", Origin: event.Webhook, ReceivedAt: at, ContentType: "application/json"}
	tests := map[string]struct {
		change func(*event.Event)
		want   string
	}{
		"stored before":    {func(*event.Event) {}, "it is older than that what requests are checked by is stored"},
		"of a run":         {func(e *event.Event) { e.Origin = event.Reconcile }, "it came in no request"},
		"with its record":  {func(e *event.Event) { e.Origin, e.Resource = event.Replay, "order" }, "it came in no request"},
		"edited":           {func(e *event.Event) { e.Received, e.Edited = "X-Signature,", true }, "its body was edited"},
		"too much":         {func(e *event.Event) { e.Received = "@" }, "larger than 8192 bytes"},
		"something else":   {func(e *event.Event) { e.Received = "???" }, "not what was kept of a request"},
		"without its part": {func(e *event.Event) { e.Request = "request:1" }, "no longer stored"},
	}
	var sequences []uint64
	var wants []string
	for name, tt := range tests {
		e := base
		e.ID = name
		tt.change(&e)
		m := nats.NewMsg(e.RawSubject())
		m.Header, m.Data = e.Header(), []byte(`{"kind":"k"}`)
		ack, err := js.PublishMsg(t.Context(), m, jetstream.WithMsgID(e.MsgID()))
		if err != nil {
			t.Fatal(err)
		}
		sequences, wants = append(sequences, ack.Sequence), append(wants, tt.want)
	}
	for i, seq := range append(sequences, 0, 99) {
		want := "no longer stored"
		if i < len(wants) {
			want = wants[i]
		}
		v, err := f.verify(control.VerifyRequest{Sequence: seq, Send: true})
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, control.ErrGone) && !errors.Is(err, control.ErrUnverifiable) {
			t.Errorf("trigger %d: %+v, %v; want %q", seq, v, err, want)
		}
	}
	if n := f.stored(); n != uint64(len(sequences)) {
		t.Errorf("%d messages are stored, want %d", n, len(sequences))
	}
}
