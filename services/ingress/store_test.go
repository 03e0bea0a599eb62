package ingress_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/ingress"
)

// Promise 1: when the answer is there, so is the message, with the body's own
// bytes and all that the request said of the event. The hashes in the ids are
// sha256sum's.
func TestAcceptedDeliveriesAreStoredBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	f := setup(t)
	tests := map[string]struct {
		source, account, id, body string
		want                      event.Event
		subject                   string
	}{
		"stripe": {
			source: "stripe", body: `{"id":"evt_1","type":"invoice.paid","created":1760000000}`,
			want:    event.Event{ID: "evt_1", DeliveryID: "evt_1", Type: "invoice.paid", Time: time.Unix(1760000000, 0)},
			subject: "tercel.raw.stripe._.invoice.paid",
		},
		"github": {
			source: "hub", id: "72d3162e", body: `{"action": "opened", "issue": {"number": 1}}`,
			want:    event.Event{ID: "72d3162e~52660b4d1dda84a9", DeliveryID: "72d3162e", Type: "issues.opened"},
			subject: "tercel.raw.hub._.issues.opened",
		},
		"standard webhooks": {
			source: "std", id: "msg_1", body: `{"type":"contact.created","timestamp":"2026-11-20T11:59:58.5+01:00"}`,
			want: event.Event{
				ID: "msg_1", DeliveryID: "msg_1", Type: "contact.created",
				Time: time.Date(2026, 11, 20, 10, 59, 58, 500_000_000, time.UTC),
			},
			subject: "tercel.raw.std._.contact.created",
		},
		"a scheme of one's own, with an account": {
			source: "tenants", account: "south.2", id: "d-1", body: ` { "kind" : "order paid", "at": 1760000000123 } ` + "\n",
			want: event.Event{
				ID: "d-1~20b4d3b46bce7e93", DeliveryID: "d-1", Account: "south.2", Type: "order paid",
				Time: time.UnixMilli(1760000000123),
			},
			subject: "tercel.raw.tenants.south%2E2.order%20paid",
		},
		"no id at all": {
			source: "anonymous", body: `{"action":"x"}`,
			want:    event.Event{ID: "sha256:bc5817caf683b04c0152efd3be1173390c63be3924fe9b280ff194fb88a68031", Type: "thing.made.x"},
			subject: "tercel.raw.anonymous._.thing.made.x",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := f.delivery(tt.source, tt.id, tt.body)
			if tt.account != "" {
				d.path += "/" + tt.account
			}
			r := f.send(d)
			if r.code != http.StatusOK || r.Status != "accepted" || r.ID != tt.want.ID {
				t.Fatalf("answered %+v, want event %s accepted\n%s", r, tt.want.ID, f.log)
			}
			m := f.last()
			got, err := attributes(t, m.Header)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Source, tt.want.Origin, tt.want.ContentType, tt.want.ReceivedAt = tt.source, event.Webhook, "application/json", at
			if tt.want.Account == "" {
				tt.want.Account = event.NoAccount
			}
			if tt.want.Time = tt.want.Time.UTC(); got != tt.want {
				t.Errorf("stored %+v\nwant   %+v", got, tt.want)
			}
			if m.Subject != tt.subject || string(m.Data) != tt.body {
				t.Errorf("stored at %s: %q", m.Subject, m.Data)
			}
			if again := f.send(d); again.code != http.StatusOK || again.Status != "duplicate" || again.ID != tt.want.ID {
				t.Errorf("a repeat was answered %+v, want a duplicate", again)
			}
		})
	}
	if got := f.stored(); got != uint64(len(tests)) {
		t.Errorf("%d messages stored, want %d", got, len(tests))
	}
}

// Promise 1: without JetStream there is no 2xx. What the provider then sends
// again is stored once.
func TestNoAnswerWithoutJetStream(t *testing.T) {
	t.Parallel()
	for name, replicas := range map[string]topology.Durability{"grouped": topology.Synced, "one by one": topology.Relaxed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, func(c *ingress.Config) {
				c.Streams.Durability, c.StoreTimeout = replicas, 500*time.Millisecond
			})
			d := f.delivery("stripe", "", `{"id":"evt_1","type":"invoice.paid"}`)
			f.server.Stop()
			if r := f.send(d); r.code != http.StatusServiceUnavailable {
				t.Errorf("answered %+v without a server, want 503", r)
			}
			f.server.Resume()
			eventually(t, "taken again", func() bool { return f.send(d).code == http.StatusOK })
			if got := f.stored(); got != 1 {
				t.Errorf("%d messages stored, want 1", got)
			}
		})
	}
}

// Promise 1: a full stream is a 503, not a success, and takes the repeat once
// there is room.
func TestFullStreamIsUnavailable(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.Streams.Raw.MaxBytes = 4 << 10 })
	filler := f.delivery("bytes", "big", strings.Repeat("x", 3000))
	if r := f.send(filler); r.code != http.StatusOK {
		t.Fatalf("answered %+v", r)
	}
	d := f.delivery("bytes", "next", strings.Repeat("y", 3000))
	for range 2 {
		if r := f.send(d); r.code != http.StatusServiceUnavailable {
			t.Errorf("a full stream was answered %+v, want 503", r)
		}
	}
	if got := f.stored(); got != 1 {
		t.Fatalf("%d messages stored, want 1", got)
	}
	if err := f.stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := f.send(d); r.Status != "accepted" {
		t.Errorf("with room again: %+v, want accepted", r)
	}
}

// Promise 4: whatever the number of repeats and however close, one is stored.
func TestRepeatsAreStoredOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[string]int{}
	for range 100 {
		for _, d := range []delivery{
			f.delivery("stripe", "", `{"id":"evt_1","type":"invoice.paid"}`),
			f.delivery("hub", "d-1", `{"action":"opened"}`),
		} {
			wg.Go(func() {
				r := f.send(d)
				mu.Lock()
				defer mu.Unlock()
				count[fmt.Sprint(r.code, " ", r.Status)]++
			})
		}
	}
	wg.Wait()
	if count["200 accepted"] != 2 || count["200 duplicate"] != 198 {
		t.Errorf("answers: %v, want 2 accepted and 198 duplicates", count)
	}
	if got := f.stored(); got != 2 {
		t.Errorf("%d messages stored, want 2", got)
	}
}

// Promise 4: an id that the signature doesn't cover can't be used to keep
// another event out.
func TestUnsignedIDWithAnotherBodyIsAnotherEvent(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, body := range []string{`{"action":"opened"}`, `{"action":"closed"}`} {
		if r := f.send(f.delivery("hub", "same", body)); r.Status != "accepted" {
			t.Errorf("%s was answered %+v, want accepted", body, r)
		}
	}
	for _, source := range []string{"orders", "bytes"} { // the same id at two more sources
		if r := f.send(f.delivery(source, "same", `{"kind":"x"}`)); r.Status != "accepted" {
			t.Errorf("%s answered %+v, want accepted", source, r)
		}
	}
	for _, account := range []string{"/north", "/south.2"} { // and at two accounts
		d := f.delivery("tenants", "same", `{"kind":"x"}`)
		d.path += account
		if r := f.send(d); r.Status != "accepted" {
			t.Errorf("account %s answered %+v, want accepted", account, r)
		}
	}
	if got := f.stored(); got != 6 {
		t.Errorf("%d messages stored, want 6", got)
	}
}

// No request header becomes a message header, least of all one that would
// command the server.
func TestRequestHeadersDontReachTheMessage(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if r := f.send(f.delivery("hub", "first", `{"action":"opened"}`)); r.code != http.StatusOK {
		t.Fatalf("answered %+v", r)
	}
	d := f.delivery("hub", "second", `{"action":"closed"}`)
	forged := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for name, value := range map[string]string{
		"Nats-Rollup": "all", "Nats-Msg-Id": "mine", "Nats-Ttl": "1s", "Nats-Expected-Stream": "OTHER", "Nats-Batch-Id": "b",
		"Traceparent": forged, "Tracestate": "a=b", "Tercel-Resource": "issue", "Tercel-Origin": "reconcile", "Ce-Id": "x", "Ce-Type": "y",
		"Authorization": "Bearer t", "Cookie": "c=d",
	} {
		d.header.Set(name, value)
	}
	// Neither does a trace that something around the handler has believed.
	believed := propagation.TraceContext{}.Extract(t.Context(), propagation.HeaderCarrier(d.header))
	w := httptest.NewRecorder()
	f.service.Handler().ServeHTTP(w, d.request(t).WithContext(believed))
	if w.Code != http.StatusOK {
		t.Fatalf("answered %d %s\n%s", w.Code, w.Body, f.log)
	}
	if got := f.stored(); got != 2 {
		t.Fatalf("%d messages stored, want 2", got)
	}
	known := map[string]bool{
		event.HeaderSpecVersion: true, event.HeaderID: true, event.HeaderSource: true, event.HeaderType: true,
		event.HeaderContentType: true, event.HeaderOrigin: true, event.HeaderDeliveryID: true, event.HeaderReceivedAt: true,
		event.HeaderTraceParent: true, event.HeaderChecked: true, event.HeaderReceived: true, jetstream.MsgIDHeader: true,
		// The server adds these to what it is asked for.
		jetstream.StreamHeader: true, jetstream.SubjectHeader: true, jetstream.SequenceHeader: true, jetstream.TimeStampHeaer: true,
	}
	m := f.last()
	for name := range m.Header {
		if !known[name] {
			t.Errorf("the message has a header %s", name)
		}
	}
	trace := m.Header.Get(event.HeaderTraceParent)
	if trace == "" || strings.Contains(trace, forged[3:35]) {
		t.Errorf("traceparent %q, want a trace of our own", trace)
	}
	if id, want := m.Header.Get(nats.MsgIdHdr), "hub:_:sha256:"; !strings.HasPrefix(id, want) {
		t.Errorf("%s: %q, want it to begin with %q", nats.MsgIdHdr, id, want)
	}
}

// A sender that hangs up while its event is being stored harms nobody, and its
// repeat is a duplicate.
func TestSenderMayHangUp(t *testing.T) {
	t.Parallel()
	f := setup(t)
	d := f.delivery("stripe", "", `{"id":"evt_1","type":"invoice.paid"}`)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	f.service.Handler().ServeHTTP(w, d.request(t).WithContext(gone))
	if w.Code != http.StatusOK || f.stored() != 1 {
		t.Errorf("answered %d with %d messages stored, want 200 and 1", w.Code, f.stored())
	}
	if r := f.send(d); r.Status != "duplicate" {
		t.Errorf("the repeat was answered %+v, want a duplicate", r)
	}
}

// A fault of ours ends one request: it is answered 500 and logged, nothing is
// stored, and the room that it took is free again.
func TestPanicEndsOneRequest(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.MaxInFlight = 1 })
	d := f.delivery("orders", "d", goodBody)
	r := d.request(t)
	r.Body = faulty{}
	w := httptest.NewRecorder()
	f.service.Handler().ServeHTTP(w, r)
	if got := readReply(t, w.Code, w.Header(), w.Body.Bytes()); got.code != http.StatusInternalServerError || f.stored() != 0 {
		t.Errorf("answered %+v with %d messages stored, want 500 and none", got, f.stored())
	}
	if text := f.log.String(); !strings.Contains(text, "panic while handling a request") || !strings.Contains(text, "readBody") {
		t.Errorf("the log has no stack: %s", text)
	}
	if r := f.send(d); r.code != http.StatusOK {
		t.Errorf("the next request was answered %+v", r)
	}
}

// faulty is a body whose reading panics.
type faulty struct{ io.ReadCloser }
