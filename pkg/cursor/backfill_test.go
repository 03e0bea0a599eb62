package cursor_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

var begun = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func openBackfills(t *testing.T) (*cursor.Backfills, *cursor.Store) {
	t.Helper()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	b, err := cursor.OpenBackfills(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cursor.Open(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	return b, s
}

// Promise 6: whoever was overtaken can't write what a backfill has come to.
func TestBackfillsAreWrittenByCompareAndSet(t *testing.T) {
	t.Parallel()
	store, cursors := openBackfills(t)
	ctx := t.Context()
	b, err := store.Save(ctx, cursor.Backfill{ID: "b1", Source: "shop", Resource: "order", State: cursor.Running, StartedAt: begun})
	if err != nil {
		t.Fatal(err)
	}
	old := b
	b.State = cursor.Paused
	if b, err = store.Save(ctx, b); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Save(ctx, old); !errors.Is(err, cursor.ErrConflict) {
		t.Errorf("Save() of an old one = %v, want %v", err, cursor.ErrConflict)
	}
	if _, err := store.Save(ctx, cursor.Backfill{ID: "b1"}); !errors.Is(err, cursor.ErrConflict) {
		t.Errorf("Save() of another with its id = %v, want %v", err, cursor.ErrConflict)
	}
	if got, err := store.Load(ctx, "b1"); err != nil || got != b {
		t.Errorf("Load() = %+v, %v, want %+v", got, err, b)
	}
	for _, account := range []string{"a.b", "_", "ö %"} {
		st, err := store.Stretch(ctx, "b1", account)
		if err != nil || st.Run != "" || st.Account != account {
			t.Fatalf("Stretch() = %+v, %v, want none yet", st, err)
		}
		st.Run = "r"
		first, err := store.SaveStretch(ctx, "b1", st)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.SaveStretch(ctx, "b1", st); !errors.Is(err, cursor.ErrConflict) {
			t.Errorf("SaveStretch() of an old one = %v, want %v", err, cursor.ErrConflict)
		}
		if _, err := store.SaveStretch(ctx, "b1", first); err != nil {
			t.Error(err)
		}
	}
	stretches, err := store.Stretches(ctx, "b1")
	if err != nil || len(stretches) != 3 || stretches[2].Account != "ö %" {
		t.Errorf("Stretches() = %+v, %v, want 3", stretches, err)
	}
	if entries, err := cursors.List(ctx, ""); err != nil || len(entries) != 0 {
		t.Errorf("a list of cursors has %+v, %v, want none", entries, err)
	}
}

func TestBackfillsAreListedAndDropped(t *testing.T) {
	t.Parallel()
	store, _ := openBackfills(t)
	ctx := t.Context()
	for i := range 3 {
		b := cursor.Backfill{ID: fmt.Sprint("b", i), StartedAt: begun.Add(-time.Duration(i) * time.Hour)}
		if _, err := store.Save(ctx, b); err != nil {
			t.Fatal(err)
		}
		if _, err := store.SaveStretch(ctx, b.ID, cursor.Stretch{Account: "_", Run: "r"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Drop(ctx, "b1"); err != nil {
		t.Fatal(err)
	}
	all, err := store.List(ctx)
	if err != nil || len(all) != 2 || all[0].ID != "b2" || all[1].ID != "b0" {
		t.Errorf("List() = %+v, %v, want b2 and b0", all, err)
	}
	for _, id := range []string{"b1", "*", "b 0", ""} {
		if _, err := store.Load(ctx, id); !errors.Is(err, cursor.ErrNoBackfill) {
			t.Errorf("Load(%q) = %v, want %v", id, err, cursor.ErrNoBackfill)
		}
	}
	if left, err := store.Stretches(ctx, "b1"); err != nil || len(left) != 0 {
		t.Errorf("Stretches() of what was dropped = %+v, %v", left, err)
	}
}

func TestBackfillsOverlap(t *testing.T) {
	t.Parallel()
	hour := func(h int) time.Time { return begun.Add(time.Duration(h) * time.Hour) }
	one := cursor.Backfill{Source: "shop", Resource: "order", Account: "north", From: hour(1), To: hour(3)}
	for name, tt := range map[string]struct {
		change func(b *cursor.Backfill)
		want   bool
	}{
		"itself":             {func(*cursor.Backfill) {}, true},
		"all accounts":       {func(b *cursor.Backfill) { b.Account = "" }, true},
		"another account":    {func(b *cursor.Backfill) { b.Account = "south" }, false},
		"another resource":   {func(b *cursor.Backfill) { b.Resource = "refund" }, false},
		"another source":     {func(b *cursor.Backfill) { b.Source = "mall" }, false},
		"from the beginning": {func(b *cursor.Backfill) { b.From = time.Time{} }, true},
		"the time before":    {func(b *cursor.Backfill) { b.From, b.To = time.Time{}, hour(1) }, false},
		"the time after":     {func(b *cursor.Backfill) { b.From, b.To = hour(3), hour(4) }, false},
		"a part":             {func(b *cursor.Backfill) { b.From, b.To = hour(2), hour(4) }, true},
	} {
		other := one
		tt.change(&other)
		if one.Overlaps(other) != tt.want || other.Overlaps(one) != tt.want {
			t.Errorf("%s: Overlaps() = %t, want %t", name, !tt.want, tt.want)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	window := func(share float64, done bool, listed int) cursor.Window {
		return cursor.Window{Share: share, Done: done, Pages: 1, Counts: report.Counts{Listed: listed, Repaired: listed}}
	}
	done := cursor.Stretch{Account: "north", Run: "r", Slices: []cursor.Window{window(0, true, 10)}, EndedAt: begun, Complete: true}
	half := cursor.Stretch{Account: "south", Run: "r", Slices: []cursor.Window{window(.25, false, 10), window(.75, false, 10)}}
	broken := done
	broken.Account, broken.Complete, broken.Error = "south", false, "list: status 403"
	failing := half
	failing.Error, failing.RetryAt = "list: status 500", begun
	unread := done
	unread.Complete, unread.Slices = false, []cursor.Window{{Done: true, Counts: report.Counts{Unreadable: 3}}}
	running := cursor.Backfill{Accounts: 2, State: cursor.Running, StartedAt: begun}
	ended := cursor.Backfill{Accounts: 2, State: cursor.Ended, StartedAt: begun, EndedAt: begun.Add(30 * time.Second), Rested: 20}
	one := cursor.Backfill{Accounts: 1, State: cursor.Ended, StartedAt: begun, EndedAt: begun.Add(time.Second)}
	paused := cursor.Backfill{Accounts: 1, State: cursor.Paused, StartedAt: begun, ChangedAt: begun.Add(5 * time.Second)}
	for name, tt := range map[string]struct {
		b         cursor.Backfill
		stretches []cursor.Stretch
		want      string // share, seconds worked and left, listed, complete, reasons
	}{
		"begun":                {running, nil, "0.00 10 0 0 false []"},
		"half of one account":  {running, []cursor.Stretch{half}, "0.25 10 30 20 false []"},
		"one and a half":       {running, []cursor.Stretch{done, half}, "0.75 10 3 30 false []"},
		"one that waits":       {running, []cursor.Stretch{failing}, "0.25 10 30 20 false [account south: tried again at 2026-11-26T12:00:00Z: list: status 500]"},
		"complete":             {ended, []cursor.Stretch{done, done}, "1.00 10 0 20 true []"},
		"broken":               {ended, []cursor.Stretch{done, broken}, "1.00 10 0 20 false [account south: list: status 403]"},
		"an account has gone":  {ended, []cursor.Stretch{done, half}, "0.75 10 0 30 false [account south: the account has gone]"},
		"never begun":          {ended, []cursor.Stretch{done}, "0.50 10 0 10 false [1 accounts have gone before they were begun]"},
		"records unreadable":   {one, []cursor.Stretch{unread}, "1.00 1 0 0 false [3 records could not be read, see its report]"},
		"the clock stands":     {paused, []cursor.Stretch{half}, "0.50 5 5 20 false []"},
		"cancelled before all": {cursor.Backfill{Accounts: 1, State: cursor.Cancelled, StartedAt: begun, EndedAt: begun}, nil, "0.00 0 0 0 false [it was cancelled]"},
	} {
		p := tt.b.Progress(tt.stretches, begun.Add(10*time.Second))
		got := fmt.Sprintf("%.2f %.0f %.0f %d %t [%s]", p.Share, p.Worked, p.Left, p.Listed, p.Complete, strings.Join(p.Reasons, ", "))
		if got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

// A stretch is worked on up to where the last of its slices ends.
func TestStretchTotalsItsSlices(t *testing.T) {
	t.Parallel()
	rec := make([]report.Record, 60)
	w := func(h int) cursor.Window {
		return cursor.Window{
			To: begun.Add(time.Duration(h) * time.Hour), Done: h < 2, Pages: h, Records: rec, Counts: report.Counts{Listed: h},
			Destinations: map[string]report.Destination{"warehouse": {Missed: h}}, Causes: map[report.Cause]int{report.Late: h},
		}
	}
	got := cursor.Stretch{Run: "r", Continues: "q", Slices: []cursor.Window{w(1), w(2)}, To: begun.Add(9 * time.Hour)}.Total()
	if got.Done || got.Pages != 3 || got.Counts.Listed != 3 || got.Destinations["warehouse"].Missed != 3 || got.Causes[report.Late] != 3 || len(got.Records) != report.MaxRecords ||
		!got.To.Equal(begun.Add(2*time.Hour)) || got.Share != .5 || got.Run != "r" || got.Continues != "q" {
		t.Errorf("Total() = %+v", got)
	}
	if (cursor.Stretch{}).Total().Done {
		t.Error("a stretch without slices is done")
	}
}

// A backfill is paused where everybody sees it: nobody has to run for that.
func TestBackfillsArePaused(t *testing.T) {
	t.Parallel()
	store, _ := openBackfills(t)
	for name, tt := range map[string]struct {
		is   cursor.Backfill
		want error
		says string
	}{
		"one that runs":          {is: cursor.Backfill{ID: "runs", State: cursor.Running}},
		"one that is paused":     {is: cursor.Backfill{ID: "paused", State: cursor.Paused}},
		"one that was cancelled": {cursor.Backfill{ID: "cancelled", State: cursor.Cancelled}, cursor.ErrBackfillOver, "start another"},
		"one that has ended":     {cursor.Backfill{ID: "ended", State: cursor.Ended, EndedAt: begun}, cursor.ErrBackfillOver, "nothing to pause"},
		"one that nobody knows":  {want: cursor.ErrNoBackfill, says: "no such backfill"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.is.ID != "" {
				if _, err := store.Save(t.Context(), tt.is); err != nil {
					t.Fatal(err)
				}
			}
			b, err := store.Pause(t.Context(), tt.is.ID, begun)
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("Pause() = %v, want %v that says %q", err, tt.want, tt.says)
			}
			if err != nil {
				return
			}
			if stored, err := store.Load(t.Context(), tt.is.ID); err != nil || b.State != cursor.Paused || stored.State != cursor.Paused {
				t.Errorf("Pause() = %s, and %s is stored, %v", b.State, stored.State, err)
			}
		})
	}
}
