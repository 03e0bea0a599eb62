package ingress_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/ingress"
)

const splitSources = `
sources:
  several:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {split: body.events, id: item.id, type: "{body.topic}.{item.kind}", time: item.at}
  list:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {split: body, type: "=thing.changed"}
  unsigned:
    verify: {scheme: none, insecure: true}
    event: {split: body.events, id: item.id, type: item.kind}
  payments: {preset: adyen, secrets: [env:HEX]}
  ledger2: {preset: xero, secrets: [env:PLAIN]}
  registry: {preset: docker-registry, secrets: [env:PLAIN]}
`

var paymentsKey = []byte("the key of the payments")

func hmacSHA256(key []byte, text string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// splitting is a fixture with the sources above.
func splitting(t testing.TB, change ...func(*ingress.Config)) *fixture {
	t.Helper()
	return setup(t, append([]func(*ingress.Config){func(c *ingress.Config) { c.Sources = read(t, splitSources) }}, change...)...)
}

// read returns the sources of a pipeline file.
func read(t testing.TB, text string) map[string]provider.Source {
	t.Helper()
	f, err := pipeline.Decode("tercel.yaml", []byte(text), config.WithLookupEnv(func(name string) (string, bool) {
		if name == "HEX" {
			return hex.EncodeToString(paymentsKey), true
		}
		v, ok := environment[name]
		return v, ok
	}))
	if err != nil {
		t.Fatal(err)
	}
	return f.Sources
}

// all are the messages of the stream in their order.
func (f *fixture) all() []*jetstream.RawStreamMsg {
	f.t.Helper()
	info, err := f.stream.Info(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	var msgs []*jetstream.RawStreamMsg
	for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
		m, err := f.stream.GetMsg(f.t.Context(), seq)
		if err != nil {
			f.t.Fatal(err)
		}
		msgs = append(msgs, m)
	}
	return msgs
}

// updateStream changes a limit of the stream.
func (f *fixture) updateStream(change func(*jetstream.StreamConfig)) {
	f.t.Helper()
	cfg := f.stream.CachedInfo().Config
	change(&cfg)
	if _, err := f.jetstream().UpdateStream(f.t.Context(), cfg); err != nil {
		f.t.Fatal(err)
	}
}

// Promise 8: each event's body is its own bytes, and the request's are kept too.
func TestRequestsAreSplitIntoTheirEvents(t *testing.T) {
	t.Parallel()
	f := splitting(t)
	items := []string{`{"id":"a", "kind":"made","at":1760000000}`, `{ "id":"b","kind":"sold", "n":1.50 }`, `{"id":3,"kind":"made"}`}
	body := `{"topic":"thing","events":[ ` + strings.Join(items, " ,\n ") + `]} `
	d := f.delivery("several", "", body)
	ex, err := ingress.Explain("several", f.sources["several"], d.raw(), at)
	if err != nil {
		t.Fatal(err)
	}
	if r := f.send(d); r.code != http.StatusOK || r.Status != "accepted" || r.ID != "" || r.Events != 3 {
		t.Fatalf("answered %+v", r)
	}
	msgs := f.all()
	if len(msgs) != 4 || len(ex.Events) != 3 {
		t.Fatalf("%d messages stored and %d explained", len(msgs), len(ex.Events))
	}
	whole, err := event.FromHeader(msgs[0].Header)
	if err != nil || msgs[0].Subject != "tercel.requests.several._" || string(msgs[0].Data) != body || ex.Request != msgs[0].Subject {
		t.Errorf("the request is stored at %s as %+v, %v: %s", msgs[0].Subject, whole, err, msgs[0].Data)
	}
	for i, want := range []event.Event{
		{ID: "a", Type: "thing.made", Part: "1/3", Time: time.Unix(1760000000, 0).UTC()},
		{ID: "b", Type: "thing.sold", Part: "2/3"},
		{ID: "3", Type: "thing.made", Part: "3/3"},
	} {
		want.DeliveryID, want.Source, want.Account, want.Origin = want.ID, "several", "_", event.Webhook
		want.ContentType, want.ReceivedAt, want.Request = "application/json", at, whole.ID
		m := msgs[i+1]
		got, err := attributes(t, m.Header)
		if err != nil || got != want || string(m.Data) != items[i] {
			t.Errorf("event %d is %+v, %v\nwant %+v\nwith %s", i+1, got, err, want, m.Data)
		}
		if e := ex.Events[i]; e.EventID != got.ID || e.Subject != m.Subject || e.MessageID != m.Header.Get("Nats-Msg-Id") || e.Type != got.Type || e.Part != got.Part {
			t.Errorf("event %d was explained as %+v, but stored at %s under %s", i+1, e, m.Subject, m.Header)
		}
	}
}

// Promise 4: a repeat of a request adds nothing, whatever the order of its
// events; of one that overlaps, what is new is stored.
func TestEventsOfARequestAreStoredOnce(t *testing.T) {
	t.Parallel()
	before := absorbed(t, "several2")
	stored := counted(t)
	f := splitting(t, func(c *ingress.Config) { c.Sources["several2"] = c.Sources["several"] })
	made := func(ids ...string) string {
		var items []string
		for _, id := range ids {
			items = append(items, `{"id":"`+id+`","kind":"made"}`)
		}
		return `{"topic":"t","events":[` + strings.Join(items, ",") + `]}`
	}
	for _, step := range []struct {
		body, status string
		messages     uint64 // that the stream has then
	}{
		{made("a", "b"), "accepted", 3},
		{made("a", "b"), "duplicate", 3},
		{made("b", "a", "c", "c"), "accepted", 5}, // the request, and c once
		{made("c"), "duplicate", 5},
		{`{"topic":"t","events":[]}`, "empty", 5},
	} {
		if r := f.send(f.delivery("several2", "", step.body)); r.Status != step.status || f.stored() != step.messages {
			t.Errorf("%s: answered %+v with %d messages stored, want %q and %d", step.body, r, f.stored(), step.status, step.messages)
		}
	}
	if got := since(before, absorbed(t, "several2")); got["window"]+got["horizon"] != 5 || got["request"] != 1 {
		t.Errorf("absorbed %v, want 5 events, and 1 within its request", got)
	}
	now := counted(t)
	for what, want := range map[string]int64{
		"tercel.triggers.stored several2 ": 3, "tercel.requests.answered several2 accepted": 2,
		"tercel.requests.answered several2 duplicate": 2, "tercel.requests.answered several2 empty": 1,
	} {
		if got := now[what] - stored[what]; got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
}

// Without ids, events that are the same to the byte are several if a request
// has them several times, and the same ones when it comes again.
func TestIdenticalEventsOfARequestAreCounted(t *testing.T) {
	t.Parallel()
	f := splitting(t)
	for _, step := range []struct {
		body   string
		status string
		events int // stored by then
	}{
		{`[{"n":1},{"n":1},{"n":2}]`, "accepted", 3},
		{`[{"n":1},{"n":1},{"n":2}]`, "duplicate", 3},
		{`[{"n":2},{"n":1}, {"n":1}]`, "duplicate", 3},
		{`[{"n":1},{"n":1},{"n":1}]`, "accepted", 4},
	} {
		r := f.send(f.delivery("list", "", step.body))
		ids := map[string]bool{}
		for _, m := range f.all() {
			if strings.HasPrefix(m.Subject, event.PrefixRaw) {
				ids[m.Header.Get(event.HeaderID)] = true
			}
		}
		if r.Status != step.status || len(ids) != step.events {
			t.Errorf("%s: answered %+v, %d events, want %q and %d", step.body, r, len(ids), step.status, step.events)
		}
	}
}

// One event that can't be taken keeps the whole request out, and is named.
func TestOneBadEventRefusesItsRequest(t *testing.T) {
	t.Parallel()
	f := splitting(t)
	for name, tt := range map[string]struct {
		source, body, want string
		status             int
	}{
		"no id":            {"several", `{"topic":"t","events":[{"id":"a","kind":"k"},{"kind":"k"}]}`, "event id: event 2 of 2: item.id: no value", 400},
		"no type":          {"several", `{"topic":"t","events":[{"id":"a"},{"id":"b","kind":"k"}]}`, "event type: event 1 of 2: {body.topic}.{item.kind}: no value", 400},
		"none has a type":  {"several", `{"events":[{"id":"a","kind":"k"}]}`, "event type: {body.topic}.{item.kind}: no value", 400},
		"id of many bytes": {"several", `{"topic":"t","events":[{"id":"` + strings.Repeat("x", 1025) + `","kind":"k"}]}`, "event id: event 1 of 1: 1025 bytes, want at most 1024", 400},
		"no array":         {"several", `{"topic":"t","id":"a"}`, "event.split: body.events: no value", 400},
		"another thing":    {"several", `{"topic":"t","events":{"id":"a"}}`, "event.split: body.events: not an array", 400},
		"a name twice":     {"several", `{"topic":"t","events":[{"id":"a","id":"b","kind":"k"}]}`, "invalid JSON: duplicate name at byte 33", 400},
		"cut":              {"list", `[{"n":1},`, "invalid JSON at byte 9", 400},
		"too many":         {"list", "[" + strings.Repeat("0,", 10_000) + "0]", "the request is too large", 413},
	} {
		r := f.send(f.delivery(tt.source, "", tt.body))
		if r.code != tt.status || r.Error != tt.want {
			t.Errorf("%s: answered %+v, want %d, %q", name, r, tt.status, tt.want)
		}
	}
	if got := f.stored(); got != 0 {
		t.Errorf("%d messages stored, want none", got)
	}
}

// Promise 1: when the stream has no room for all, it gets none, and the sender
// is told so. Its repeat is stored whole.
func TestRequestIsStoredWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	for _, durability := range topology.Durability("").Values() {
		f := splitting(t, func(c *ingress.Config) {
			c.Streams.Durability, c.StoreTimeout = topology.Durability(durability), time.Minute
		})
		var items []string
		for i := range 50 {
			items = append(items, fmt.Sprintf(`{"n":%d,"text":"%s"}`, i, strings.Repeat("x", 200)))
		}
		d := f.delivery("list", "", "["+strings.Join(items, ",")+"]")
		f.updateStream(func(c *jetstream.StreamConfig) { c.MaxBytes = 24 << 10 }) // for the request, and half of its events
		if r := f.send(d); r.code != http.StatusServiceUnavailable || f.stored() != 0 {
			t.Errorf("%s: answered %+v with %d messages stored, want 503 and none", durability, r, f.stored())
		}
		f.updateStream(func(c *jetstream.StreamConfig) { c.MaxBytes = -1 })
		if r := f.send(d); r.Status != "accepted" || f.stored() != 51 {
			t.Errorf("%s: the repeat was answered %+v with %d messages stored, want 51", durability, r, f.stored())
		}
	}
}

// A request with more events than a batch can hold is stored batch by batch. If
// one fails, the sender is told to come again, and that completes it.
func TestRequestOfSeveralBatchesIsCompletedByItsRepeat(t *testing.T) {
	t.Parallel()
	f := splitting(t, func(c *ingress.Config) { c.StoreTimeout = time.Minute })
	var items []string
	for i := range 2500 {
		items = append(items, strconv.Itoa(i))
	}
	d := f.delivery("list", "", "["+strings.Join(items, ",")+"]")
	f.updateStream(func(c *jetstream.StreamConfig) { c.MaxMsgs = 1500 })
	if r := f.send(d); r.code != http.StatusServiceUnavailable || f.stored() != 1000 {
		t.Errorf("answered %+v with %d messages stored, want 503 and the first batch", r, f.stored())
	}
	f.updateStream(func(c *jetstream.StreamConfig) { c.MaxMsgs = -1 })
	for _, want := range []string{"accepted", "duplicate"} {
		if r := f.send(d); r.Status != want || r.Events != 2500 {
			t.Errorf("answered %+v, want %s", r, want)
		}
	}
	parts := map[string]int{}
	for _, m := range f.all() {
		parts[m.Header.Get(event.HeaderPart)]++
	}
	if len(parts) != 2501 || f.stored() != 2501 || parts[""] != 1 {
		t.Errorf("%d messages with %d different parts, want 2500 and the request", f.stored(), len(parts))
	}
}

// Promise 4: a late repeat is told event by event.
func TestLateRepeatsOfManyEventsAreTold(t *testing.T) {
	t.Parallel()
	const window = 300 * time.Millisecond
	f := splitting(t, func(c *ingress.Config) {
		c.Streams.DedupWindow = window
		c.Sources["several-late"] = c.Sources["several"]
	})
	before := absorbed(t, "several-late")
	var items []string
	for i := range 40 {
		items = append(items, fmt.Sprintf(`{"id":"%d","kind":"k"}`, i))
	}
	body := func(items ...string) string { return `{"topic":"t","events":[` + strings.Join(items, ",") + `]}` }
	if r := f.send(f.delivery("several-late", "", body(items...))); r.Status != "accepted" {
		t.Fatalf("answered %+v", r)
	}
	began := time.Now()
	eventually(t, "the window is over", func() bool { return time.Since(began) > 3*window })
	if r := f.send(f.delivery("several-late", "", body(items...))); r.Status != "duplicate" || f.stored() != 41 {
		t.Errorf("a late repeat was answered %+v with %d messages stored, want 41", r, f.stored())
	}
	if r := f.send(f.delivery("several-late", "", body(items[7], `{"id":"new","kind":"k"}`))); r.Status != "accepted" || f.stored() != 43 {
		t.Errorf("one with something new was answered %+v with %d messages stored, want 43", r, f.stored())
	}
	if got := since(before, absorbed(t, "several-late")); got["horizon"] != 41 {
		t.Errorf("absorbed %v, want 41 by horizon", got)
	}
}

// Promise 4: where nothing signs an event's id, its bytes are the key as well.
func TestEventsWithUnsignedIDsAreToldByTheirBytes(t *testing.T) {
	t.Parallel()
	f := splitting(t)
	send := func(body string) reply {
		return f.send(post("/v1/unsigned", body))
	}
	if r := send(`{"events":[{"id":"a","kind":"k"},{"id":"a","kind":"k","forged":true}]}`); r.Status != "accepted" || f.stored() != 3 {
		t.Errorf("answered %+v with %d stored; nobody may claim an honest event's id", r, f.stored())
	}
	if r := send(`{"events":[ {"id":"a","kind":"k"}]}`); r.Status != "duplicate" {
		t.Errorf("the same bytes in another request: answered %+v, want a duplicate", r)
	}
	first, err := event.FromHeader(f.all()[1].Header)
	if err != nil || !strings.HasPrefix(first.ID, "a~") {
		t.Errorf("stored as %q, %v, want a part of the hash in the id", first.ID, err)
	}
}

// Promise 2: where each event is signed, one that isn't keeps all out.
func TestEveryEventNeedsItsSignature(t *testing.T) {
	t.Parallel()
	f := splitting(t)
	item := func(reference string) map[string]any {
		return map[string]any{
			"pspReference": reference, "originalReference": "", "merchantAccountCode": "Example", "merchantReference": "r",
			"amount": map[string]any{"value": 1130, "currency": "EUR"}, "eventCode": "AUTHORISATION", "success": "true",
		}
	}
	signed := func(it map[string]any) map[string]any {
		text := fmt.Sprintf("%s::Example:r:1130:EUR:AUTHORISATION:true", it["pspReference"])
		it["additionalData"] = map[string]any{"hmacSignature": hmacSHA256(paymentsKey, text)}
		return it
	}
	body := func(items ...map[string]any) string {
		wrapped := []any{}
		for _, it := range items {
			wrapped = append(wrapped, map[string]any{"NotificationRequestItem": it})
		}
		text, err := json.Marshal(map[string]any{"live": "false", "notificationItems": wrapped})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	forged := signed(item("p-2"))
	forged["pspReference"] = "p-3"
	for name, tt := range map[string]struct {
		body   string
		status int
	}{
		"second without": {body(signed(item("p-1")), item("p-2")), 401},
		"second forged":  {body(signed(item("p-1")), forged), 401},
		"none":           {body(), 401},
	} {
		if w := f.answered(post("/v1/payments", tt.body)); w.Code != tt.status || f.stored() != 0 {
			t.Errorf("%s: answered %d with %d messages stored, want %d and none", name, w.Code, f.stored(), tt.status)
		}
	}
	w := f.answered(post("/v1/payments", body(signed(item("p-1")), signed(item("p-2")))))
	if w.Code != 200 || w.Body.String() != "[accepted]" || f.stored() != 3 {
		t.Errorf("two signed events were answered %d, %s with %d messages stored, want 3", w.Code, w.Body, f.stored())
	}
	if m := f.last(); m.Header.Get(event.HeaderID) != "AUTHORISATION:p-2:true" {
		t.Errorf("the last event is %s", m.Header.Get(event.HeaderID))
	}
}

// Whatever a request holds, it is refused, or stored whole: as it came, and as
// events that are parts of it.
func FuzzSplit(f *testing.F) {
	fx := splitting(f, func(c *ingress.Config) { c.Streams.Durability = topology.Relaxed })
	names := []string{"several", "list", "ledger2"}
	f.Add(uint8(0), []byte(`{"topic":"t","events":[{"id":"a","kind":"k"},{"id":"b","kind":"k"}]}`))
	f.Add(uint8(1), []byte(` [ 1 , {"a":[]} ,null, "x",1] `))
	f.Add(uint8(2), []byte(`{"events":[{"eventCategory":"a","eventType":"b"}]}`))
	f.Add(uint8(0), []byte(`{"events":[{"id":"\u0000","kind":".*.>"}],"topic":"\ud83d\ude80"}`))
	f.Add(uint8(1), []byte(`[[[[],[[`))
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		in := *fx
		in.t = t
		name := names[int(which)%len(names)]
		before := in.stored()
		r := httptest.NewRequest(http.MethodPost, "/v1/"+name, strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		src := fx.sources[name]
		for h, v := range src.Verifier().Sign(src.Keys()[0], body, "", at) {
			r.Header[h] = v
		}
		w := httptest.NewRecorder()
		fx.service.Handler().ServeHTTP(w, r)
		after := in.stored()
		if w.Code >= 500 || w.Code >= 400 && after != before {
			t.Fatalf("answered %d with %d messages stored\n%s", w.Code, after-before, fx.log)
		}
		for seq := before + 1; seq <= after; seq++ {
			m, err := in.stream.GetMsg(t.Context(), seq)
			if err != nil {
				t.Fatal(err)
			}
			e, err := event.FromHeader(m.Header)
			if err != nil || !strings.Contains(string(body), string(m.Data)) || (e.Part == "") != (string(m.Data) == string(body)) && e.Part != "1/1" {
				t.Errorf("stored %+v, %v with %q of %q", e, err, m.Data, body)
			}
		}
	})
}
