package outcome_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/outcome"
	"github.com/tercelhq/tercel/pkg/topology"
)

func setup(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	return js
}

func tried(seq uint64, attempt int) consume.Message {
	e := event.Event{ID: fmt.Sprint("evt-", seq), Source: "orders", Account: event.NoAccount, Type: "paid", Origin: event.Webhook, ReceivedAt: time.Now()}
	return consume.Message{Stream: topology.StreamEnriched, Sequence: seq, Header: e.Header(), Attempt: attempt}
}

func stored(t *testing.T, js jetstream.JetStream) []consume.Message {
	t.Helper()
	var all []consume.Message
	for m, err := range consume.Scan(t.Context(), js, consume.ScanOptions{Stream: topology.StreamOutcomes}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func TestTriesAreStoredWithTheirEvent(t *testing.T) {
	t.Parallel()
	js := setup(t)
	log := outcome.NewLog(js, slog.New(slog.DiscardHandler))
	stop := log.Start()
	note := log.Note(topology.DeliverDurable("warehouse"))
	note(tried(7, 1), consume.Attempt{Outcome: consume.Delayed, Err: fault.RetryAfter(errors.New("status 429"), time.Second), Took: time.Millisecond})
	note(tried(7, 2), consume.Attempt{Outcome: consume.Acked})
	stop()
	all := stored(t, js)
	if len(all) != 2 {
		t.Fatalf("%d are stored, want 2", len(all))
	}
	r, err := outcome.Decode(all[0].Data)
	if err != nil || r.Consumer != "deliver_warehouse" || r.Stream != topology.StreamEnriched || r.Sequence != 7 || r.Attempt != 1 ||
		r.Outcome != consume.Delayed || r.Class != fault.Throttled || r.Message != "status 429" || r.Took != time.Millisecond || r.At.IsZero() {
		t.Errorf("the first is %+v, %v", r, err)
	}
	if e, err := event.FromHeader(all[0].Header); err != nil || e.ID != "evt-7" || all[0].Subject != "tercel.outcomes.deliver.orders" {
		t.Errorf("it is stored as %s with %+v, %v", all[0].Subject, e, err)
	}
	if r, err := outcome.Decode(all[1].Data); err != nil || r.Attempt != 2 || r.Outcome != consume.Acked || r.Message != "" {
		t.Errorf("the second is %+v, %v", r, err)
	}
	if _, err := outcome.Decode([]byte(`{}`)); err == nil {
		t.Error("Decode() of something else gave no error")
	}
}

// Promise 10: a stage that fails all the time fills nothing, and it is said that
// something was left out.
func TestPromise10TriesBeyondTheBoundAreCounted(t *testing.T) {
	t.Parallel()
	js := setup(t)
	log := outcome.NewLog(js, slog.New(slog.DiscardHandler))
	note := log.Note(topology.DeliverDurable("warehouse"))
	const n = 5000
	began := time.Now()
	for i := range n {
		note(tried(uint64(i+1), 1), consume.Attempt{Outcome: consume.Delayed, Err: errors.New("no")})
	}
	most := 201 + int(20*time.Since(began).Seconds()) // 200 at once, and 20 a second
	log.Start()()
	all := stored(t, js)
	if len(all) == 0 || len(all) > most {
		t.Fatalf("%d are stored of %d, want some and at most %d", len(all), n, most)
	}
	if r, err := outcome.Decode(all[0].Data); err != nil || r.Left != int64(n-len(all)) {
		t.Errorf("the first says that %d were left out, %v; want %d", r.Left, err, n-len(all))
	}
}

// A long text is cut, and between two letters.
func TestALongErrorIsCut(t *testing.T) {
	t.Parallel()
	js := setup(t)
	log := outcome.NewLog(js, slog.New(slog.DiscardHandler))
	log.Note(topology.DeliverDurable("warehouse"))(tried(1, 1), consume.Attempt{Outcome: consume.Delayed, Err: errors.New("a" + strings.Repeat("ü", 1000))})
	log.Start()()
	all := stored(t, js)
	if len(all) != 1 {
		t.Fatalf("%d are stored, want 1", len(all))
	}
	if r, err := outcome.Decode(all[0].Data); err != nil || r.Message != "a"+strings.Repeat("ü", 511)+" … (cut)" {
		t.Errorf("the error is %q, %v", r.Message, err)
	}
}

// A server that takes nothing, and a message of nobody's event, hold nobody up.
func TestWhatCannotBeStoredIsCounted(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, false)
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	log := outcome.NewLog(js, slog.New(slog.DiscardHandler))
	note := log.Note(topology.DeliverDurable("warehouse"))
	foreign := tried(1, 1)
	foreign.Header = nats.Header{}
	note(foreign, consume.Attempt{Outcome: consume.Delayed, Err: errors.New("no")})
	note(tried(2, 1), consume.Attempt{Outcome: consume.Delayed, Err: errors.New("no")})
	log.Start()()
	if got := log.Left(); got != 2 {
		t.Errorf("%d counted as left out, want 2", got)
	}
}

func Example() {
	r, err := outcome.Decode([]byte(`{"at":"2026-11-20T12:00:00Z","took":1200000,"consumer":"deliver_crm","stream":"TERCEL_ENRICHED","message":7,"attempt":2,"outcome":"acked"}`))
	fmt.Println(r.Consumer, r.Attempt, r.Outcome, r.Took, err)
	// Output: deliver_crm 2 acked 1.2ms <nil>
}
