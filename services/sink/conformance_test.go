package sink_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// Every kind of destination passes this suite.
func TestDestinationsConform(t *testing.T) {
	t.Parallel()
	suite := map[string]func(t *testing.T, k kind){
		"stores every part of an event":                      storesEveryPart,
		"promise 4: a duplicate changes nothing":             absorbsDuplicates,
		"promise 4: ids of other sources are other events":   keepsIdentitiesApart,
		"promise 7: any order of events ends in one state":   endsInOneState,
		"promise 5: what was written is there after a crash": survivesKill,
		"keeps what it has over a restart":                   survivesRestart,
		"fails transiently while it can't be written":        failsTransiently,
		"can't be opened while it can't be written":          refusesToOpen,
	}
	for name, k := range kinds {
		for what, test := range suite {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				test(t, k)
			})
		}
	}
}

func open(t *testing.T, k kind, dir string) writer {
	t.Helper()
	w, err := k.open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// write writes items, of which the given number are expected to be duplicates.
func write(t *testing.T, w writer, items []delivery.Item, duplicates int) {
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
	if got != duplicates {
		t.Errorf("%d duplicates, want %d", got, duplicates)
	}
}

func storesEveryPart(t *testing.T, k kind) {
	dir := t.TempDir()
	full := update("evt 1\x00 \"ü\"", "7", 3, 5)
	full.Trigger = []byte("{\r\n \"n\": 1.00e2,\n\t\"s\": \"a\\nb\\u00e9\"\n}")
	bare := enriched{
		event.Event{ID: "evt-2", Source: "orders", Account: event.NoAccount, Type: "ping", Origin: event.Replay, ReceivedAt: at(9)},
		event.Body{Trigger: []byte(`"aGk="`)},
	}
	write(t, open(t, k, dir), items(full, bare, tombstone("evt-3", "7", 8)), 0)
	rows := k.rows(t, dir)
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
	dir := t.TempDir()
	w := open(t, k, dir)
	a, b := update("a", "1", 1, 1), update("b", "2", 1, 1)
	write(t, w, items(a, b, a), 1) // within a batch
	before := k.rows(t, dir)
	write(t, w, items(b, a), 2) // and across
	after := k.rows(t, dir)
	if got, want := fmt.Sprintf("%+v", after), fmt.Sprintf("%+v", before); got != want {
		t.Errorf("rows after duplicates:\n got %s\nwant %s", got, want)
	}
	if len(after) != 2 {
		t.Errorf("%d rows, want 2", len(after))
	}
}

func keepsIdentitiesApart(t *testing.T, k kind) {
	dir := t.TempDir()
	e := update("1", "1", 1, 1)
	otherAccount, otherSource, shifted := e, e, e
	otherAccount.Account = "south"
	otherSource.Source = "refunds"
	shifted.Source, shifted.Account = "orders", "nort"
	shifted.Event.ID = "h1"
	write(t, open(t, k, dir), items(e, otherAccount, otherSource, shifted), 0)
	if got := len(k.rows(t, dir)); got != 4 {
		t.Errorf("%d rows, want 4", got)
	}
}

// record is a record's state.
type record struct{ version, observedAt, deletedAt, eventID, record string }

func (r record) deleted() bool { return r.deletedAt > r.observedAt }

// fold is the model: it joins events into records one by one.
func fold(rows []row) map[string]record {
	records := map[string]record{}
	for _, r := range rows {
		had, ok := records[r.RecordID]
		now := had
		switch {
		case r.Deleted && r.ObservedAt >= had.deletedAt:
			if had.version == "" && (!ok || r.ObservedAt > had.deletedAt || r.EventID > had.eventID) {
				now.eventID = r.EventID
			}
			now.deletedAt = r.ObservedAt
		case !r.Deleted && (had.version == "" || cmp.Or(cmp.Compare(r.Version, had.version),
			cmp.Compare(r.ObservedAt, had.observedAt), cmp.Compare(r.EventID, had.eventID)) > 0):
			now = record{r.Version, r.ObservedAt, had.deletedAt, r.EventID, string(r.Record)}
		}
		records[r.RecordID] = now
	}
	return records
}

// history is a random sequence of creates, updates, deletions, revivals and
// repeats over a few records, with many ties.
func history(rng *rand.Rand) []enriched {
	var events []enriched
	for i := range 1 + rng.IntN(24) {
		eventID, id := fmt.Sprint("evt-", i), fmt.Sprint(rng.IntN(3))
		switch rng.IntN(5) {
		case 0:
			events = append(events, tombstone(eventID, id, 10+rng.IntN(6)))
		case 1:
			if len(events) > 0 {
				events = append(events, events[rng.IntN(len(events))])
			}
		default:
			events = append(events, update(eventID, id, rng.IntN(5), 10+rng.IntN(6)))
		}
	}
	return events
}

func rowsOf(events []enriched) []row {
	rows := make([]row, len(events))
	for i, e := range events {
		rows[i] = row{
			EventID: e.Event.ID, RecordID: e.RecordID, Version: string(e.Event.Version), ObservedAt: delivery.Time(e.ObservedAt),
			Deleted: e.Event.Deleted, Record: e.Record,
		}
	}
	return rows
}

func endsInOneState(t *testing.T, k kind) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		events := history(rng)
		want := fold(rowsOf(events))
		for range 3 {
			rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			dir := t.TempDir()
			w, err := k.open(t.Context(), dir)
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
			rows := k.rows(t, dir)
			if got := fold(rows); !maps.Equal(got, want) {
				t.Fatalf("seed %d: events fold to\n     %v\nwant %v", seed, got, want)
			}
			seen := map[string]bool{}
			for _, r := range rows {
				if seen[r.EventID] {
					t.Errorf("seed %d: event %s is there twice", seed, r.EventID)
				}
				seen[r.EventID] = true
			}
			if k.config(dir).SQLite != nil {
				checkRecords(t, dir, want)
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

// checkRecords compares table records with the model.
func checkRecords(t *testing.T, dir string, want map[string]record) {
	t.Helper()
	db := database(t, dir)
	result, err := db.QueryContext(t.Context(), `SELECT record_id, coalesce(version, ''), coalesce(observed_at, ''),
		coalesce(deleted_at, ''), event_id, coalesce(record, ''), deleted FROM records`)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]record{}
	for result.Next() {
		var id string
		var r record
		var deleted bool
		if err := result.Scan(&id, &r.version, &r.observedAt, &r.deletedAt, &r.eventID, &r.record, &deleted); err != nil {
			t.Fatal(err)
		}
		if deleted != r.deleted() {
			t.Errorf("record %s: deleted is %t in %+v", id, deleted, r)
		}
		got[id] = r
	}
	if err := result.Err(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, want) {
		t.Errorf("records\n got %v\nwant %v", got, want)
	}
}

func survivesRestart(t *testing.T, k kind) {
	dir := t.TempDir()
	var all []enriched
	for i := range 200 { // several files
		all = append(all, update(fmt.Sprint("evt-", i), fmt.Sprint(i), 1, 1))
	}
	w := open(t, k, dir)
	write(t, w, items(all...), 0)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = open(t, k, dir)
	write(t, w, items(append(all, update("new", "new", 1, 1))...), 200)
	if got := len(k.rows(t, dir)); got != 201 {
		t.Errorf("%d rows, want 201", got)
	}
}

func failsTransiently(t *testing.T, k kind) {
	dir := t.TempDir()
	w := open(t, k, dir)
	write(t, w, items(update("a", "1", 1, 1)), 0)
	heal := k.breakIt(t, dir)
	for _, r := range w.Write(t.Context(), items(update("b", "2", 1, 1), update("c", "3", 1, 1))) {
		if r.Err == nil || fault.IsPermanent(r.Err) {
			t.Errorf("a write to a broken destination = %v, want a transient error", r.Err)
		}
	}
	heal()
	write(t, w, items(update("b", "2", 1, 1)), 0)
	if got := len(k.rows(t, dir)); got != 2 {
		t.Errorf("%d rows, want 2", got)
	}
}

func refusesToOpen(t *testing.T, k kind) {
	dir := t.TempDir()
	w := open(t, k, dir)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	heal := k.breakIt(t, dir)
	if w, err := k.open(t.Context(), dir); err == nil {
		_ = w.Close()
		t.Error("a broken destination was opened")
	}
	heal()
	open(t, k, dir)
	if _, err := k.open(t.Context(), filepath.Join(dir, "no", "such")); err == nil {
		t.Error("a destination was opened below a folder that doesn't exist")
	}
}
