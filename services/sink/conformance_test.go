package sink_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/services/sink"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// conformance is one test of the suite, named for what its users can rely on.
type conformance struct {
	name string
	run  func(t *testing.T, k kind)
}

// Names of tests that some kinds can't pass.
const (
	duplicatesChangeNothing = "promise 4: a duplicate changes nothing"
	recordsAreThere         = "promise 7: the newest state of each record is there, and can be compared with the source"
	refusedAlone            = "promise 3: an event that it refuses fails alone"
	slowIsBounded           = "it is not waited for beyond the time of a batch"
)

// suite is what every kind of destination passes, first by itself and then in
// the service, with a real server.
var suite = []conformance{
	{"every part of an event is there", storesEveryPart},
	{duplicatesChangeNothing, absorbsDuplicates},
	{"promise 4: ids of other sources are other events", keepsIdentitiesApart},
	{"promise 7: any order of events ends in one state", endsInOneState},
	{recordsAreThere, keepsRecords},
	{"promise 5: what was written is there after a crash", survivesKill},
	{"what is there outlives a restart", survivesRestart},
	{"it fails transiently while it takes no writes", failsTransiently},
	{"it can't be opened while it takes no writes", refusesToOpen},
	{"it fails transiently while it is full", fillsUp},
	{slowIsBounded, boundsWaiting},
	{refusedAlone, refusesOne},

	{"promise 3: each event has one outcome", deliversOnce},
	{"promise 4: redelivered and republished events", absorbsRepeats},
	{"promise 4: written, but not acknowledged", survivesCrashBeforeAck},
	{"promise 5: nothing is acknowledged while it's down, however long", waitsForDestination},
	{"promise 5: a restart in the middle of a batch", restartsMidBatch},
	{"promise 3: poison doesn't hold up its neighbours", isolatesPoison},
	{"being down, it leaves others at full speed", leavesOthersAtWork},
	{"promise 4: several sinks at once", takesSeveralSinks},
}

func TestDestinationsConform(t *testing.T) {
	t.Parallel()
	for name, k := range kinds {
		for _, c := range suite {
			if k.cannot[c.name] != "" {
				continue // the documentation says so
			}
			t.Run(name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, k)
			})
		}
	}
}

func open(t *testing.T, p *place) sink.Writer {
	t.Helper()
	w, err := p.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// write writes items, of which the given number are expected to be duplicates
// where the kind can tell.
func write(t *testing.T, k kind, w sink.Writer, items []delivery.Item, duplicates int) {
	t.Helper()
	got := 0
	results := w.Write(t.Context(), items)
	if len(results) != len(items) {
		t.Fatalf("%d results for %d items", len(results), len(items))
	}
	for i, r := range results {
		if r.Err != nil {
			t.Errorf("item %d: %v", i, r.Err)
		}
		if r.Duplicate {
			got++
		}
	}
	if k.absorbs() && got != duplicates {
		t.Errorf("%d duplicates, want %d", got, duplicates)
	}
}

func storesEveryPart(t *testing.T, k kind) {
	p := k.place(t)
	full := update("evt 1\x00 \"ü\"", "7", 3, 5)
	full.Trigger = []byte("{\r\n \"n\": 1.00e2,\n\t\"s\": \"a\\nb\\u00e9\"\n}")
	bare := enriched{
		event.Event{ID: "evt-2", Source: "orders", Account: event.NoAccount, Type: "ping", Origin: event.Replay, ReceivedAt: at(9)},
		event.Body{Trigger: []byte(`"aGk="`)},
	}
	write(t, k, open(t, p), items(full, bare, tombstone("evt-3", "7", 8)), 0)
	rows := k.events(t, p)
	if len(rows) != 3 {
		t.Fatalf("%d rows, want 3", len(rows))
	}
	for i := range rows {
		if rows[i].WrittenAt == "" || len(rows[i].WrittenAt) != len("2026-03-01T12:00:05.000000000Z") {
			t.Errorf("written_at %q", rows[i].WrittenAt)
		}
		rows[i].WrittenAt = ""
		_ = rows[i].Trigger.Compact()
	}
	want := []row{
		{
			EventID: "evt 1\x00 \"ü\"", Source: "orders", Account: "north", Type: "order.updated", Resource: "order", RecordID: "7",
			Version: "t2026-03-01T12:00:03.000000000Z", Origin: "webhook", EventTime: "2026-03-01T12:00:04.000000000Z",
			ReceivedAt: "2026-03-01T12:00:05.000000000Z", ObservedAt: "2026-03-01T12:00:05.000000000Z", Sequence: 1,
			Trigger: []byte(`{"n":1.00e2,"s":"a\nb\u00e9"}`), Record: full.Record, Related: []byte(`{"customer":{"name":"Ada"}}`),
		},
		{
			EventID: "evt-2", Source: "orders", Account: "_", Type: "ping", Origin: "replay",
			ReceivedAt: "2026-03-01T12:00:09.000000000Z", Sequence: 2, Trigger: []byte(`"aGk="`),
		},
		{
			EventID: "evt-3", Source: "orders", Account: "north", Type: "order.updated", Resource: "order", RecordID: "7",
			Origin: "webhook", Deleted: true, EventTime: "2026-03-01T12:00:07.000000000Z",
			ReceivedAt: "2026-03-01T12:00:08.000000000Z", ObservedAt: "2026-03-01T12:00:08.000000000Z", Sequence: 3,
			Trigger: []byte(`{"order":"7"}`),
		},
	}
	for i := range want {
		if got, want := fmt.Sprintf("%+v", plain(rows[i])), fmt.Sprintf("%+v", plain(want[i])); got != want {
			t.Errorf("row %d:\n got %s\nwant %s", i, got, want)
		}
	}
}

// plain makes an absent part and a null the same.
func plain(r row) row {
	for _, v := range []*[]byte{(*[]byte)(&r.Trigger), (*[]byte)(&r.Record), (*[]byte)(&r.Related)} {
		if string(*v) == "null" {
			*v = nil
		}
	}
	return r
}

func absorbsDuplicates(t *testing.T, k kind) {
	p := k.place(t)
	w := open(t, p)
	a, b := update("a", "1", 1, 1), update("b", "2", 1, 1)
	write(t, k, w, items(a, b, a), 1) // within a batch
	before := p.rows(t)
	write(t, k, w, items(b, a), 2) // and across
	after := p.rows(t)
	if got, want := fmt.Sprintf("%+v", after), fmt.Sprintf("%+v", before); got != want {
		t.Errorf("rows after duplicates:\n got %s\nwant %s", got, want)
	}
	if len(after) != 2 {
		t.Errorf("%d rows, want 2", len(after))
	}
}

func keepsIdentitiesApart(t *testing.T, k kind) {
	p := k.place(t)
	e := update("1", "1", 1, 1)
	otherAccount, otherSource, shifted := e, e, e
	otherAccount.Account = "south"
	otherSource.Source = "refunds"
	shifted.Source, shifted.Account = "orders", "nort"
	shifted.Event.ID = "h1"
	write(t, k, open(t, p), items(e, otherAccount, otherSource, shifted), 0)
	if got := len(k.events(t, p)); got != 4 {
		t.Errorf("%d rows, want 4", got)
	}
}

// inAnyOrder writes histories in several orders and batches, and hands each
// place to check with what the model makes of it.
func inAnyOrder(t *testing.T, k kind, check func(t *testing.T, p *place, want map[string]record)) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		events := history(rng)
		want := fold(rowsOf(events))
		for range 3 {
			rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			p := k.place(t)
			w, err := p.open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for batch := range slices.Chunk(items(events...), 1+rng.IntN(8)) {
				for _, r := range w.Write(t.Context(), batch) {
					if r.Err != nil {
						t.Fatal(r.Err)
					}
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if check(t, p, want); t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

// The events that are there make up the records, whoever folds them.
func endsInOneState(t *testing.T, k kind) {
	inAnyOrder(t, k, func(t *testing.T, p *place, want map[string]record) {
		rows := k.events(t, p)
		if got := fold(rows); !maps.Equal(got, want) {
			t.Errorf("events fold to\n     %v\nwant %v", got, want)
		}
		seen := map[string]bool{}
		for _, r := range rows {
			if seen[r.EventID] {
				t.Errorf("event %s is there twice", r.EventID)
			}
			seen[r.EventID] = true
		}
	})
}

func keepsRecords(t *testing.T, k kind) {
	inAnyOrder(t, k, func(t *testing.T, p *place, want map[string]record) {
		if got := p.records(t); !maps.Equal(got, want) {
			t.Errorf("records\n got %v\nwant %v", got, want)
		}
	})
	updatesRecordOfKnownEvent(t, k)
	canBeLookedUp(t, k)
}

// An event sent again with a fresher record updates the record (promise 7) and
// leaves the event as it was (promise 4).
func updatesRecordOfKnownEvent(t *testing.T, k kind) {
	p := k.place(t)
	w := open(t, p)
	write(t, k, w, items(update("a", "1", 1, 1)), 0)
	before := p.rows(t)
	write(t, k, w, items(update("a", "1", 5, 9), update("a", "1", 3, 4)), 2)
	if got, want := fmt.Sprintf("%+v", p.rows(t)), fmt.Sprintf("%+v", before); got != want {
		t.Errorf("events\n got %s\nwant %s", got, want)
	}
	if got, want := p.records(t), fold(rowsOf([]enriched{update("a", "1", 5, 9)})); !maps.Equal(got, want) {
		t.Errorf("records %v, want %v", got, want)
	}
}

func survivesRestart(t *testing.T, k kind) {
	p := k.place(t)
	all := numbered(0, 200) // several files
	w := open(t, p)
	write(t, k, w, items(all...), 0)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, k, open(t, p), items(append(all, update("new", "new", 1, 1))...), 200)
	if got := len(k.events(t, p)); got != 201 {
		t.Errorf("%d rows, want 201", got)
	}
}

// checkTransient checks that nothing was written, for a reason that may pass.
func checkTransient(t *testing.T, results []delivery.Result) {
	t.Helper()
	for _, r := range results {
		if r.Err == nil || fault.IsPermanent(r.Err) {
			t.Errorf("a write = %v, want a transient error", r.Err)
		}
	}
}

func failsTransiently(t *testing.T, k kind) {
	p := k.place(t)
	w := open(t, p)
	write(t, k, w, items(update("a", "1", 1, 1)), 0)
	heal := p.breakIt(t)
	checkTransient(t, w.Write(t.Context(), items(update("b", "2", 1, 1), update("c", "3", 1, 1))))
	heal()
	_ = w.Close() // as the service does; its error is the outage's
	write(t, k, open(t, p), items(update("b", "2", 1, 1)), 0)
	if got := len(k.events(t, p)); got != 2 {
		t.Errorf("%d rows, want 2", got)
	}
}

func refusesToOpen(t *testing.T, k kind) {
	p := k.place(t)
	if err := open(t, p).Close(); err != nil {
		t.Fatal(err)
	}
	heal := p.breakIt(t)
	if w, err := p.open(t.Context()); err == nil {
		_ = w.Close()
		t.Error("a broken destination was opened")
	}
	heal()
	open(t, p)
}

func fillsUp(t *testing.T, k kind) {
	p := k.place(t)
	if p.fill == nil {
		if out, err := victimOf(t, "fill", p).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		checkRows(t, k.events(t, p), 100)
		return
	}
	w := open(t, p)
	write(t, k, w, items(numbered(0, 10)...), 0)
	empty := p.fill(t)
	checkTransient(t, w.Write(t.Context(), items(numbered(10, 100)...)))
	empty()
	_ = w.Close()
	write(t, k, open(t, p), items(numbered(0, 100)...), 10)
	checkRows(t, k.events(t, p), 100)
}

func boundsWaiting(t *testing.T, k kind) {
	p := k.place(t)
	w := open(t, p)
	write(t, k, w, items(numbered(0, 10)...), 0)
	wake := p.hang(t)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	written := make(chan []delivery.Result, 1)
	go func() { written <- w.Write(ctx, items(numbered(10, 20)...)) }()
	select {
	case results := <-written:
		checkTransient(t, results)
	case <-time.After(time.Minute):
		t.Fatal("Write() didn't end within a minute of its deadline")
	}
	wake()
	_ = w.Close()
	for _, r := range open(t, p).Write(t.Context(), items(numbered(0, 20)...)) { // what hung may have come through
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
	checkRows(t, k.events(t, p), 20)
}

func refusesOne(t *testing.T, k kind) {
	p := k.place(t)
	w := open(t, p)
	p.refuse(t, "evt-7")
	for i, r := range w.Write(t.Context(), items(numbered(0, 20)...)) {
		if i == 7 && !fault.IsPermanent(r.Err) || i != 7 && r.Err != nil {
			t.Errorf("item %d: %v", i, r.Err)
		}
	}
	if got := len(k.events(t, p)); got != 19 {
		t.Errorf("%d rows, want 19", got)
	}
}
