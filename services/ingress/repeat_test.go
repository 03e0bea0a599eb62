package ingress_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/ingress"
)

// named gives sources names that no other test counts under.
func named(names map[string]string) func(*ingress.Config) {
	return func(c *ingress.Config) {
		for name, like := range names {
			c.Sources[name] = c.Sources[like]
		}
	}
}

// Promise 4: what somebody has captured can't come back as another event under
// an id that nothing signs. A provider whose events may be the same to the byte
// is told apart by its ids.
func TestCapturedBodyUnderAnotherIDIsARepeat(t *testing.T) {
	t.Parallel()
	f := setup(t, named(map[string]string{"captured": "hub", "told-apart": "hub"}), func(c *ingress.Config) {
		apart := c.Sources["told-apart"]
		apart.Event.Repeats = "identical"
		c.Sources["told-apart"] = apart
	})
	before := absorbed(t, "captured")
	body := `{"action":"opened"}`
	first := f.send(f.delivery("captured", "first", body))
	for _, id := range []string{"second", "third"} {
		if r := f.send(f.delivery("captured", id, body)); r.Status != "duplicate" || r.ID != first.ID {
			t.Errorf("under id %s: answered %+v, want a duplicate of %s", id, r, first.ID)
		}
	}
	if r := f.send(f.delivery("captured", "first", body)); r.Status != "duplicate" {
		t.Errorf("the provider's own repeat was answered %+v", r)
	}
	if got := f.stored(); got != 1 {
		t.Errorf("%d messages stored, want 1", got)
	}
	if got := since(before, absorbed(t, "captured")); got["body"] != 2 || got["window"] != 1 || got["horizon"] != 0 {
		t.Errorf("absorbed %v, want 2 by body and 1 by window", got)
	}
	for _, id := range []string{"first", "second"} {
		if r := f.send(f.delivery("told-apart", id, body)); r.Status != "accepted" {
			t.Errorf("of a provider with identical events, %s was answered %+v", id, r)
		}
	}
}

// Promise 1: where a token says who sends, and nothing of what is sent, events are told
// apart by their ids. Their bodies may be the same, as those of CloudEvents are whose
// attributes are headers.
func TestEqualBodiesUnderATokenAreEventsOfTheirOwn(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, `
sources:
  cloud: {preset: cloudevents, secrets: [env:PLAIN]}
`))
	send := func(id, typ string) reply {
		d := f.delivery("cloud", "", `{"orderId":7}`)
		d.header["Ce-Id"], d.header["Ce-Source"], d.header["Ce-Type"] = []string{id}, []string{"shop"}, []string{typ}
		return f.send(d)
	}
	for _, r := range []reply{send("1", "order.created"), send("2", "order.shipped")} {
		if r.Status != "accepted" {
			t.Errorf("answered %+v, want accepted", r)
		}
	}
	if r := send("1", "order.created"); r.Status != "duplicate" {
		t.Errorf("a repeat was answered %+v", r)
	}
}

// Promise 1: an event that the stream has lost, as in a power cut, is stored when it
// comes again, though the ingress remembers that it was.
func TestARepeatOfWhatTheStreamHasLostIsStored(t *testing.T) {
	t.Parallel()
	f := setup(t)
	js := f.jetstream()
	d := f.delivery("stripe", "", `{"id":"evt_1","type":"invoice.paid"}`)
	if r := f.send(d); r.Status != "accepted" {
		t.Fatalf("answered %+v", r)
	}
	if r := f.send(d); r.Status != "duplicate" || f.stored() != 1 {
		t.Fatalf("a repeat was answered %+v, with %d messages stored", r, f.stored())
	}
	if err := js.DeleteStream(t.Context(), topology.StreamRaw); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	if r := f.send(d); r.Status != "accepted" || f.stored() != 1 {
		t.Errorf("once the stream was lost it was answered %+v, with %d messages stored; want it stored", r, f.stored())
	}
}

// Promise 4: a repeat that comes after JetStream has forgotten the id is told
// all the same, by the replica that took the first, by another one, and by one
// that was started later. Beyond the source's own horizon it is a new event.
func TestLateRepeatsAreToldByEveryReplica(t *testing.T) {
	t.Parallel()
	const window = 300 * time.Millisecond
	var cfg ingress.Config
	f := setup(t, named(map[string]string{"late": "stripe", "late-body": "hub", "late-off": "stripe"}), func(c *ingress.Config) {
		c.Streams.DedupWindow = window
		off := c.Sources["late-off"]
		off.Dedup.Horizon = 0
		c.Sources["late-off"] = off
		cfg = *c
	})
	replica := func() *ingress.Service {
		s, err := ingress.New(cfg, ingress.Deps{Conn: f.conn, Log: slog.New(slog.NewJSONHandler(f.log, nil)), Now: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	send := func(s *ingress.Service, d delivery) string {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, d.request(t))
		return readReply(t, w.Code, w.Header(), w.Body.Bytes()).Status
	}
	other := replica()
	before, beforeBody := absorbed(t, "late"), absorbed(t, "late-body")
	d := f.delivery("late", "", `{"id":"evt_1","type":"invoice.paid"}`)
	body := f.delivery("late-body", "one", `{"action":"opened"}`)
	off := f.delivery("late-off", "", `{"id":"evt_1","type":"invoice.paid"}`)
	for _, d := range []delivery{d, body, off} {
		if got := send(f.service, d); got != "accepted" {
			t.Fatalf("answered %q", got)
		}
	}
	began := time.Now()
	eventually(t, "the window is over", func() bool { return time.Since(began) > 3*window })
	late := f.delivery("late-body", "two", `{"action":"opened"}`)
	later := replica()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { _ = later.Run(ctx) }()
	<-later.Ready() // it knows by then what the others have stored
	for name, s := range map[string]*ingress.Service{"the same": f.service, "another": other, "a later": later} {
		if got := send(s, d); got != "duplicate" {
			t.Errorf("%s replica answered a late repeat with %q", name, got)
		}
		if got := send(s, late); got != "duplicate" {
			t.Errorf("%s replica answered a captured body with %q", name, got)
		}
	}
	if got := send(f.service, off); got != "accepted" {
		t.Errorf("without a horizon a late repeat was answered %q", got)
	}
	if got := f.stored(); got != 4 {
		t.Errorf("%d messages stored, want 4", got)
	}
	if got := since(before, absorbed(t, "late")); got["horizon"] != 3 || got["window"] != 0 {
		t.Errorf("absorbed %v, want 3 by horizon", got)
	}
	if got := since(beforeBody, absorbed(t, "late-body")); got["body"] != 3 {
		t.Errorf("absorbed %v, want 3 by body", got)
	}
}

func since(before, now map[string]int64) map[string]int64 {
	for l, n := range before {
		now[l] -= n
	}
	return now
}

// absorbed reads tercel.duplicates.absorbed of one source by line.
func absorbed(t *testing.T, source string) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := measured.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	values := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			data, ok := m.Data.(metricdata.Sum[int64])
			if !ok || m.Name != "tercel.duplicates.absorbed" {
				continue
			}
			for _, p := range data.DataPoints {
				if s, _ := p.Attributes.Value("source"); s == attribute.StringValue(source) {
					l, _ := p.Attributes.Value("line")
					values[l.AsString()] += p.Value
				}
			}
		}
	}
	return values
}
