package delivery_test

import (
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// header is a well-formed event's.
func header() nats.Header {
	at := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	return event.Event{
		ID: "e1", Source: "orders", Account: "_", Type: "order.paid", Origin: event.Webhook, ReceivedAt: at,
		Resource: "order", RecordID: "7", Version: "n0013", ObservedAt: at, TriggerSequence: 9,
	}.Header()
}

func TestDecodeReadsEveryPart(t *testing.T) {
	t.Parallel()
	h := header()
	// The value is the example of the W3C recommendation Trace Context.
	h.Set(event.HeaderTraceParent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	body := `{"trigger": {"a":1}, "record": {"id":7.0}, "related": {"b":null,"a\"":[1]}}`
	it, err := delivery.Decode(consume.Message{Header: h, Data: []byte(body), Sequence: 4})
	if err != nil {
		t.Fatal(err)
	}
	for part, have := range map[string][2]string{
		"trigger":  {string(it.Trigger), `{"a":1}`},
		"record":   {string(it.Record), `{"id":7.0}`},
		"related":  {string(it.Related), `{"a\"":[1],"b":null}`},
		"body":     {string(it.Body), body},
		"trace id": {it.TraceID, "0af7651916cd43dd8448eb211c80319c"},
		"event":    {it.Event.ID + it.Event.RecordID, "e17"},
	} {
		if have[0] != have[1] {
			t.Errorf("%s = %s, want %s", part, have[0], have[1])
		}
	}
	if it.Sequence != 4 {
		t.Errorf("sequence = %d, want 4", it.Sequence)
	}
}

func TestDecodeRefusesForGood(t *testing.T) {
	t.Parallel()
	const whole = `{"trigger":{},"record":{"secret":"s3cr3t"}}`
	tests := map[string]struct {
		body   string
		change func(h nats.Header)
	}{
		"no headers":           {whole, func(h nats.Header) { clear(h) }},
		"no id":                {whole, func(h nats.Header) { h.Del(event.HeaderID) }},
		"no record id":         {whole, func(h nats.Header) { h.Del(event.HeaderSubject) }},
		"no observation":       {whole, func(h nats.Header) { h.Del(event.HeaderObservedAt) }},
		"a tombstone of none":  {whole, func(h nats.Header) { h.Del(event.HeaderResource); h.Set(event.HeaderDeleted, "true") }},
		"no body":              {"", nil},
		"null":                 {"null", nil},
		"no object":            {`["s3cr3t"]`, nil},
		"no trigger":           {`{"record":{"secret":"s3cr3t"}}`, nil},
		"no record":            {`{"trigger":"s3cr3t"}`, nil},
		"a null record":        {`{"trigger":"s3cr3t","record":null}`, nil},
		"cut":                  {whole[:len(whole)-1], nil},
		"more behind":          {whole + "{}", nil},
		"a member twice":       {`{"trigger":1,"trigger":2,"record":{}}`, nil},
		"a member twice below": {`{"trigger":{"s3cr3t":1,"s3cr3t":2},"record":{}}`, nil},
		"not UTF-8":            {"{\"trigger\":\"\xff\",\"record\":{}}", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := header()
			if tt.change != nil {
				tt.change(h)
			}
			_, err := delivery.Decode(consume.Message{Header: h, Data: []byte(tt.body), Stream: "S", Sequence: 4})
			if !fault.IsPermanent(err) {
				t.Fatalf("Decode() = %v, want a permanent error", err)
			}
			if strings.Contains(err.Error(), "s3cr3t") { // promise 9
				t.Errorf("the payload is in the error: %v", err)
			}
		})
	}
}

func TestTimeSortsAsText(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	if got, want := delivery.Time(start), "2026-03-01T11:00:00.000000000Z"; got != want {
		t.Errorf("Time() = %s, want %s", got, want)
	}
	if delivery.Time(time.Time{}) != "" {
		t.Error("the zero time has a text")
	}
	for _, step := range []time.Duration{1, 10, time.Millisecond, time.Second, time.Hour} {
		if a, b := delivery.Time(start), delivery.Time(start.Add(step)); a >= b {
			t.Errorf("%s is not before %s", a, b)
		}
	}
}

// Whatever a message holds, decoding ends with valid parts or a permanent error.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"trigger":{},"record":{}}`), "7", "2026-03-01T12:00:00Z", "order")
	f.Add([]byte(`{"trigger":"aGk=","record":null,"related":{"a":null},"deleted":true}`), "%00", "", "")
	f.Fuzz(func(t *testing.T, body []byte, id, observed, resource string) {
		h := header()
		h.Set(event.HeaderSubject, id)
		h.Set(event.HeaderObservedAt, observed)
		h.Set(event.HeaderResource, resource)
		it, err := delivery.Decode(consume.Message{Header: h, Data: body})
		if err != nil {
			if !fault.IsPermanent(err) {
				t.Errorf("Decode() = %v, want a permanent error", err)
			}
			return
		}
		for _, part := range []jsontext.Value{it.Trigger, it.Record, it.Related} {
			if part != nil && !part.IsValid() {
				t.Errorf("part %q of %q is not JSON", part, body)
			}
		}
	})
}
