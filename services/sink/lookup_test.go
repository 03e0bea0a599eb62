package sink_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/tercelhq/tercel/services/internal/destination"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// lookedUp is what a reader finds, as the model has it.
func lookedUp(h destination.Held) record {
	r := record{version: string(h.Version), observedAt: delivery.Time(h.ObservedAt)}
	if h.Deleted {
		r.deletedAt = "later"
	}
	return r
}

// What a destination holds can be asked for by id, and listed.
func canBeLookedUp(t *testing.T, k kind) {
	p := k.place(t)
	w := open(t, p)
	all := numbered(0, 2100) // several pages
	odd := update("odd", "odd", 2, 2)
	odd.RecordID = "a\x00b ␀0 \"'%_"
	all = append(all, tombstone("gone", "7", 5), tombstone("early", "8", 0), tombstone("unknown", "only gone", 3),
		update("newer", "9", 3, 4), odd)
	for batch := range slices.Chunk(items(all...), 500) {
		for _, r := range w.Write(t.Context(), batch) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	others := []enriched{update("1", "1", 9, 9), update("2", "elsewhere", 9, 9), update("3", "elsewhere", 9, 9)}
	others[0].Account, others[1].Source, others[2].Resource = "south", "refunds", "invoice"
	write(t, k, w, items(others...), 0)
	want := fold(rowsOf(all))
	r, err := destination.Open(t.Context(), "out", p.destination(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	key := destination.Key{Source: "orders", Account: "north", Resource: "order"}
	check := func(what string, got map[string]record) {
		t.Helper()
		if len(got) != len(want) {
			t.Errorf("%s: %d records, want %d", what, len(got), len(want))
		}
		for id, w := range want {
			g, ok := got[id]
			if deleted := g.deletedAt != ""; !ok || g.version != w.version || g.observedAt != w.observedAt || deleted != w.deleted() {
				t.Errorf("%s: record %q is %+v, want %+v", what, id, g, w)
			}
		}
	}
	listed := map[string]record{}
	for h, err := range r.All(t.Context(), key) {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := listed[h.ID]; twice {
			t.Errorf("record %q comes twice", h.ID)
		}
		listed[h.ID] = lookedUp(h)
	}
	check("all", listed)
	ids := []string{"elsewhere", "nobody"}
	for id := range want {
		ids = append(ids, id)
	}
	held, err := r.Versions(t.Context(), key, ids)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]record{}
	for id, h := range held {
		if id != h.ID {
			t.Errorf("record %q is under %q", h.ID, id)
		}
		found[id] = lookedUp(h)
	}
	check("versions", found)
	if none, err := r.Versions(t.Context(), key, nil); err != nil || len(none) != 0 {
		t.Errorf("no ids: %v, %v", none, err)
	}
}

// Where nothing can be looked up, or isn't there yet, a reader says so.
func TestLookUpSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := k.place(t)
			r, err := destination.Open(t.Context(), "out", p.destination(t))
			if k.cannot[recordsAreThere] != "" {
				if !errors.Is(err, destination.ErrNoRecords) {
					t.Errorf("Open() = %v, want ErrNoRecords", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			key := destination.Key{Source: "orders", Account: "north", Resource: "order"}
			if held, err := r.Versions(t.Context(), key, []string{"1"}); err == nil {
				t.Errorf("an empty place holds %v", held)
			}
			pages := 0
			for _, err := range r.All(t.Context(), key) {
				if pages++; err == nil {
					t.Error("an empty place has a record")
				}
			}
			if pages != 1 {
				t.Errorf("%d errors, want 1", pages)
			}
		})
	}
	insert := postgresPlace(t)
	insert.yaml = "postgres: {dsn: env:DATABASE_URL, mode: insert}"
	if _, err := destination.Open(t.Context(), "out", insert.destination(t)); !errors.Is(err, destination.ErrNoRecords) {
		t.Errorf("Open() of a log = %v, want ErrNoRecords", err)
	}
}
