package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// hostileInput is a genuinely signed webhook, or a record, that tries to break
// something further down.
type hostileInput struct {
	body   string // of the webhook
	header http.Header
	id     string // of the record
	record string // what the API has under id
	want   string // refused, delivered or dead
}

// nested is a JSON object with a value that is n arrays deep.
func nested(object string, n int) string {
	return strings.TrimSuffix(object, "}") + `,"deep":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}"
}

// Promise 3: what a sender or an API may send comes out at one end: refused,
// delivered whole, or a dead letter that says why.
func TestPromise3HostileInputHasOneOutcome(t *testing.T) {
	t.Parallel()
	many := func(n int, good bool) http.Header {
		h := http.Header{"X-Signature": make([]string, n)}
		for i := range n {
			h["X-Signature"][i] = strings.Repeat("0", 64)
		}
		if good {
			h["X-Signature"] = append(h["X-Signature"], "genuine")
		}
		return h
	}
	hook := func(id string) string {
		b, err := json.Marshal(map[string]string{"type": "order.paid", "id": id})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	order := func(id, more string) string {
		b, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"id":%s,"version":1,"updated_at":"2026-01-01T00:00:00Z"%s}`, b, more)
	}
	long, wide := strings.Repeat("x", 10<<10), strings.Repeat("ж", 128)
	inputs := map[string]hostileInput{
		"webhook, a name twice":                     {body: `{"type":"order.paid","id":"1","id":"2"}`, want: "refused"},
		"webhook, a name twice, once escaped":       {body: `{"type":"order.paid","id":"1","\u0069d":"2"}`, want: "refused"},
		"webhook, half a surrogate":                 {body: `{"type":"order.paid","id":"\ud83d"}`, want: "refused"},
		"webhook, the halves the wrong way":         {body: `{"type":"order.paid","id":"1","x":"\ude00\ud83d"}`, want: "refused"},
		"webhook, deeper than any reader":           {body: nested(`{"type":"order.paid","id":"1"}`, 20_000), want: "refused"},
		"webhook, too long a delivery id":           {body: hook("1"), header: http.Header{"X-Delivery": {long}}, want: "refused"},
		"webhook, too long a type":                  {body: `{"type":"` + long + `","id":"1"}`, want: "refused"},
		"webhook, hundreds of signatures":           {body: hook("1"), header: many(300, false), want: "refused"},
		"webhook, hundreds of signatures, one good": {body: hook("1"), header: many(300, true), want: "refused"},
		"webhook, deep":                             {body: nested(hook("1"), 9_000), want: "delivered"},
		"webhook, as deep as can be":                {body: nested(hook("1"), 9_999), want: "dead"},
		"webhook, NUL in a text":                    {body: `{"type":"order.paid","id":"1","note":"a\u0000b"}`, want: "delivered"},
		"webhook, NUL in the type":                  {body: `{"type":"other.\u0000","id":"1"}`, want: "delivered"},
		"webhook, a large number":                   {body: `{"type":"other","id":"1","n":123456789012345678901234567890.5e400}`, want: "delivered"},
		"record, NUL in its id":                     {body: hook("a\x00b"), id: "a\x00b", record: order("a\x00b", ""), want: "delivered"},
		"record, NUL in a text":                     {body: hook("nul"), id: "nul", record: order("nul", `,"note":"a\u0000b"`), want: "delivered"},
		"record, half a surrogate":                  {body: hook("half"), id: "half", record: order("half", `,"note":"\udc00"`), want: "dead"},
		"record, a name twice":                      {body: hook("twice"), id: "twice", record: order("twice", `,"version":2`), want: "dead"},
		"record, deep":                              {body: hook("deep"), id: "deep", record: nested(order("deep", ""), 9_000), want: "delivered"},
		"record, deeper than any reader":            {body: hook("deeper"), id: "deeper", record: nested(order("deeper", ""), 20_000), want: "dead"},
		"record, not JSON":                          {body: hook("html"), id: "html", record: "<html>down</html>", want: "dead"},
		"record, another one":                       {body: hook("mine"), id: "mine", record: order("yours", ""), want: "dead"},
		"record, a long id of wide letters":         {body: hook(wide), id: wide, record: order(wide, ""), want: "delivered"},
		"record, an id of 10 kB":                    {body: hook(long), id: long, record: order(long, ""), want: "dead"},
		"record, a large number":                    {body: hook("large"), id: "large", record: order("large", `,"n":1e999`), want: "delivered"},
	}
	s := startShop(t)
	s.put("1", 1)
	for _, in := range inputs {
		if in.record != "" {
			s.putRaw(in.id, in.record)
		}
	}
	p := startLive(t, s, liveOptions{})
	events := map[string]string{} // by input
	for name, in := range inputs {
		if id := sendHostile(p, fmt.Sprint("d-", len(events)), in); (id == "") != (in.want == "refused") {
			t.Errorf("%s: event %q, want it %s", name, id, in.want)
		} else if id != "" {
			events[name] = id
		}
	}
	for name, id := range events {
		state := map[string]adminv1.EventStatus{"delivered": delivered, "dead": deadLetter}[inputs[name].want]
		var w *adminv1.TraceEventResponse
		until(t, name+" has ended", func() bool {
			w = p.trace(id)
			return w.GetStatus() > pending
		})
		if w.GetStatus() != state {
			t.Errorf("%s: %+v, want it %s", name, w, state)
		}
	}
	checkDelivered(t, p, inputs, events)
}

// sendHostile returns the event's id, or "" for what is refused.
func sendHostile(p *livePipeline, delivery string, in hostileInput) string {
	p.t.Helper()
	req := p.request(delivery, in.body)
	for name, values := range in.header {
		for i, v := range values {
			if v == "genuine" {
				values[i] = req.Header.Get(name)
			}
		}
		req.Header[name] = values
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ ID string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode >= 500 {
		p.t.Fatalf("answered %s, %v", resp.Status, err)
	}
	return answer.ID
}

// checkDelivered compares what the database has with what was sent, byte by
// byte.
func checkDelivered(t *testing.T, p *livePipeline, inputs map[string]hostileInput, events map[string]string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.data, "tercel.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, id := range events {
		in := inputs[name]
		if in.want != "delivered" {
			continue
		}
		var body string
		var record sql.NullString
		if err := db.QueryRowContext(t.Context(), "SELECT body FROM events WHERE event_id = ?", id).Scan(&body); err != nil {
			t.Errorf("%s: event %s: %v", name, id, err)
		}
		if !strings.Contains(body, in.body) || !strings.Contains(body, in.record) {
			t.Errorf("%s: the event is %.300s, want what was sent", name, body)
		}
		if in.record == "" {
			continue
		}
		err := db.QueryRowContext(t.Context(), "SELECT record FROM records WHERE record_id = ?", in.id).Scan(&record)
		if err != nil || record.String != in.record {
			t.Errorf("%s: the record is %.300s (%v), want what the API has", name, record.String, err)
		}
	}
}
