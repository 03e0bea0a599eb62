package enricher_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/outcome"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Promise 8: an event says how each of its records was got, and a try that failed
// is noted with the one that did not.
func TestPromise8AnEventSaysHowItsRecordsWereGot(t *testing.T) {
	t.Parallel()
	ok := answers(whole())
	var asked atomic.Int64
	f := setup(t, oneSource, func(w http.ResponseWriter, r *http.Request) {
		switch n := asked.Add(1); {
		case r.URL.Path == "/orders/7" && n == 1:
			w.WriteHeader(http.StatusTooManyRequests - 4) // 425: this trigger's affair, and it may pass
		case r.URL.Path == "/orders/7/notes":
			http.NotFound(w, r)
		default:
			ok(w, r)
		}
	})
	f.start()
	f.send(trigger("order.paid", "evt_1"), order7)
	f.eventually("an event", func() bool { return len(f.events()) == 1 })
	f.settled("orders")
	got, err := event.ParseFetches(f.events()[0].Fetched)
	if err != nil || len(got) != 3 {
		t.Fatalf("fetched %+v, %v; want three", got, err)
	}
	for i, want := range []event.Fetch{{Name: "record", Status: 200}, {Name: "customer", Status: 200}, {Name: "notes", Status: 404}} {
		if g := got[i]; g.Name != want.Name || g.Status != want.Status || g.Tries < 1 || g.From != event.FromSource {
			t.Errorf("fetch %d is %+v, want %s with %d", i, g, want.Name, want.Status)
		}
	}
	var tries []outcome.Record
	f.eventually("both tries are noted", func() bool {
		tries = nil
		for m, err := range consume.Scan(t.Context(), f.js, consume.ScanOptions{Stream: topology.StreamOutcomes}) {
			if err != nil {
				t.Fatal(err)
			}
			r, err := outcome.Decode(m.Data)
			if err != nil {
				t.Fatal(err)
			}
			tries = append(tries, r)
		}
		return len(tries) == 2
	})
	if a, b := tries[0], tries[1]; a.Outcome != consume.Delayed || a.Message == "" || a.Attempt != 1 || b.Outcome != consume.Acked || b.Attempt != 2 ||
		b.Consumer != topology.EnrichDurable("orders") {
		t.Errorf("noted %+v", tries)
	}
}
