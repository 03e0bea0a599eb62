package sink_test

import (
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/sink"
)

// shaped is a destination at p with expressions.
func (p *place) shaped(t *testing.T, when, mapped string) pipeline.Destination {
	t.Helper()
	bare := p.yaml
	defer func() { p.yaml = bare }()
	p.yaml += "\nwhen: '" + when + "'\nmap: '" + mapped + "'\n"
	return p.destination(t)
}

// Every kind has what its map makes of the events that its when takes, under
// the attributes that they came with, and the others are done with.
func TestEveryKindIsShaped(t *testing.T) {
	t.Parallel()
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := k.place(t)
			mapped := `{n: .record.id, who: .related.customer.name, version: "9"}`
			if name == "http" || name == "nats" { // it is the whole body there
				mapped = "{record: " + mapped + "}"
			}
			_, js := stream(t)
			outcomes := delivered(t, "shaped-"+name)
			publish(t, js, nil, update("evt-1", "a", 1, 1), update("evt-2", "b", 2, 2), update("evt-3", "c", 1, 3), tombstone("evt-4", "d", 4))
			svc := start(t, js, quick(), map[string]pipeline.Destination{
				"shaped-" + name: p.shaped(t, ".record.version == 2 or .event.deleted", mapped),
			})
			settled(t, js, "shaped-"+name)
			svc.stop()
			rows := p.rows(t)
			if len(rows) != 2 || rows[0].EventID != "evt-2" || rows[1].EventID != "evt-4" || !rows[1].Deleted {
				t.Fatalf("rows %+v, want those of evt-2 and evt-4", rows)
			}
			for i, want := range []string{`{"n":"b","version":"9","who":"Ada"}`, `{"n":null,"version":"9","who":null}`} {
				r := rows[i]
				if string(r.Record) != want || !nothing(r.Trigger) || !nothing(r.Related) {
					t.Errorf("%s: trigger %s, record %s, related %s, want only the record %s", r.EventID, r.Trigger, r.Record, r.Related, want)
				}
			}
			if want := update("", "b", 2, 2).Version; rows[0].Version != string(want) || rows[0].RecordID != "b" {
				t.Errorf("version %s of %s, want %s of b", rows[0].Version, rows[0].RecordID, want)
			}
			if p.records != nil {
				records := p.records(t)
				if len(records) != 2 || records["b"].record != `{"n":"b","version":"9","who":"Ada"}` || !records["d"].deleted() {
					t.Errorf("records %+v, want b with what was made of it and a tombstone of d", records)
				}
			}
			got := delivered(t, "shaped-"+name)
			if got["written"]-outcomes["written"] != 2 || got["filtered"]-outcomes["filtered"] != 2 {
				t.Errorf("counted %v after %v, want 2 written and 2 filtered more", got, outcomes)
			}
		})
	}
}

// Promise 3: an event that an expression fails on is a dead letter by itself. It
// is neither passed on nor left out, and comes through once that is mended.
func TestPromise3AFailingExpressionIsOneEventsFate(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct{ when, mapped, want string }{
		"when":                 {`.record.id + 1 | . > 0 or true`, `.record`, "destination:2:7: when: jq: cannot add: string and number"},
		"map":                  {`true`, `.record.id + 1`, "destination:3:6: map: jq: cannot add: string and number"},
		"when that is neither": {`.record.id`, `.`, "destination:2:7: when: gives a string, want true or false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, js := stream(t)
			p := sqlitePlace(t)
			fails := update("evt-s3cret", "s3cret", 1, 1)
			fine := update("evt-1", "1", 1, 1)
			fine.Record = []byte(`{"id":1}`)
			if name == "when that is neither" {
				fine.Record = []byte(`{"id":true}`)
			}
			publish(t, js, nil, fails, fine)
			svc := start(t, js, quick(), map[string]pipeline.Destination{"out": p.shaped(t, x.when, x.mapped)})
			settled(t, js, "out")
			r := terminated(t, js)
			if r.Class != fault.Fatal || r.Message != x.want || r.Attempts != 1 {
				t.Errorf("given up (%s) after %d attempts: %s, want (permanent) at once: %s", r.Class, r.Attempts, r.Message, x.want)
			}
			if rows := p.rows(t); len(rows) != 1 || rows[0].EventID != "evt-1" {
				t.Errorf("rows %+v, want that of evt-1", rows)
			}
			if err := svc.Healthy(t.Context()); err != nil {
				t.Errorf("Healthy() = %v: the destination isn't sick", err)
			}
			svc.stop()
			publish(t, js, func(e enriched) string { return event.AgainID(e.MsgID(), event.Replay) }, fails)
			start(t, js, quick(), map[string]pipeline.Destination{"out": p.shaped(t, `true`, `.record.id`)})
			settled(t, js, "out")
			if rows := p.rows(t); len(rows) != 2 || string(rows[1].Record) != `"s3cret"` {
				t.Errorf("rows %+v, want that of the event sent again too", rows)
			}
		})
	}
}

// Explain tells what the service would do.
func TestExplainTellsWhatADestinationWouldHave(t *testing.T) {
	t.Parallel()
	p := sqlitePlace(t)
	plain := p.destination(t)
	narrow := p.destination(t)
	narrow.Subscribe = []string{"orders.south.>", "*.*.order.created"}
	for name, x := range map[string]struct {
		dest pipeline.Destination
		want sink.Explanation
		err  string
	}{
		"everything":     {plain, sink.Explanation{Subscribed: true, Wanted: true, Payload: update("evt-1", "a", 1, 1).Encode()}, ""},
		"not subscribed": {narrow, sink.Explanation{}, ""},
		"not wanted":     {p.shaped(t, "false", "."), sink.Explanation{Subscribed: true}, ""},
		"mapped":         {p.shaped(t, "true", ".record.id"), sink.Explanation{Subscribed: true, Wanted: true, Payload: []byte(`"a"`)}, ""},
		"failing":        {p.shaped(t, "true", "error"), sink.Explanation{Subscribed: true}, "destination:3:6: map: jq: error"},
	} {
		got, err := sink.Explain(t.Context(), x.dest, update("evt-1", "a", 1, 1).message())
		if got.Subscribed != x.want.Subscribed || string(got.Payload) != string(x.want.Payload) || (err == nil) != (x.err == "") {
			t.Errorf("%s: Explain() = %+v, %v, want %+v, %s", name, got, err, x.want, x.err)
		}
		if err == nil && got.Wanted != x.want.Wanted || err != nil && !strings.HasPrefix(err.Error(), x.err) {
			t.Errorf("%s: Explain() = %+v, %v, want %+v, %s", name, got, err, x.want, x.err)
		}
	}
}

// nothing tells whether a destination was given no value: some write null.
func nothing[T ~string | ~[]byte](value T) bool { return len(value) == 0 || string(value) == "null" }
