package cursor_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

var (
	key  = cursor.Key{Source: "orders", Account: "north.eu", Resource: "order"}
	noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
)

func setup(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	return js
}

func open(t *testing.T, js jetstream.JetStream) *cursor.Store {
	t.Helper()
	s, err := cursor.Open(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func load(t *testing.T, s *cursor.Store) cursor.Entry {
	t.Helper()
	e, err := s.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func save(t *testing.T, s *cursor.Store, e cursor.Entry, c cursor.Cursor) cursor.Entry {
	t.Helper()
	e, err := s.Save(t.Context(), e, c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestCursorIsReadAsItWasSaved(t *testing.T) {
	t.Parallel()
	s := open(t, setup(t))
	e := load(t, s)
	if !e.Through.IsZero() || e.Window != nil {
		t.Fatalf("a cursor that was never saved is %+v, want zero", e.Cursor)
	}
	want := cursor.Cursor{
		StartedAt: noon, RetryAt: noon.Add(time.Minute),
		Window: &cursor.Window{
			Run: "r1", To: noon, Position: `p"1`, Pages: 2, Counts: report.Counts{Listed: 3, Missed: 1},
			Records: []report.Record{{ID: "a", Version: "n0011", Verdict: "missed"}},
		},
	}
	save(t, s, e, want)
	got := load(t, s).Cursor
	if got.Window == nil || got.Window.Position != `p"1` || got.Window.Counts != want.Window.Counts ||
		!got.Window.To.Equal(noon) || !got.Window.From.IsZero() || got.Window.Records[0] != want.Window.Records[0] || !got.RetryAt.Equal(want.RetryAt) {
		t.Errorf("loaded %+v, want %+v", got, want)
	}
}

// A runner that was paused while another took over can't write.
func TestPausedRunnerCannotWrite(t *testing.T) {
	t.Parallel()
	js := setup(t)
	paused, other := open(t, js), open(t, js)
	first := save(t, paused, load(t, paused), cursor.Cursor{Window: &cursor.Window{Run: "r1", To: noon, Position: "2"}})
	save(t, other, load(t, other), cursor.Cursor{Window: &cursor.Window{Run: "r1", To: noon, Position: "3"}})
	if _, err := paused.Save(t.Context(), first, cursor.Cursor{Window: &cursor.Window{Run: "r1", To: noon, Position: "2"}}); !errors.Is(err, cursor.ErrConflict) {
		t.Errorf("Save() of the paused runner = %v, want ErrConflict", err)
	}
	if _, err := paused.Save(t.Context(), cursor.Entry{Key: key}, cursor.Cursor{}); !errors.Is(err, cursor.ErrConflict) {
		t.Errorf("Save() of one who thinks it the first = %v, want ErrConflict", err)
	}
	if got := load(t, other).Window.Position; got != "3" {
		t.Errorf("position %q, want the other runner's", got)
	}
}

// Promise 6: through moves only to the end of a window of which every page was
// saved as compared, and never back.
func TestThroughNeverPassesAnUnfinishedPage(t *testing.T) {
	t.Parallel()
	later := noon.Add(time.Hour)
	tests := map[string]struct {
		stored, next cursor.Cursor
		want         error
	}{
		"without a window":              {next: cursor.Cursor{Through: noon}, want: cursor.ErrBackwards},
		"window with pages left":        {stored: cursor.Cursor{Window: &cursor.Window{To: noon, Position: "3"}}, next: cursor.Cursor{Through: noon}, want: cursor.ErrBackwards},
		"finished, but beyond its end":  {stored: cursor.Cursor{Window: &cursor.Window{To: noon, Done: true}}, next: cursor.Cursor{Through: later}, want: cursor.ErrBackwards},
		"finished, window kept":         {stored: cursor.Cursor{Window: &cursor.Window{To: noon, Done: true}}, next: cursor.Cursor{Through: noon, Window: &cursor.Window{To: noon}}, want: cursor.ErrBackwards},
		"finished":                      {stored: cursor.Cursor{Window: &cursor.Window{To: noon, Done: true}}, next: cursor.Cursor{Through: noon}},
		"the last page and the advance": {stored: cursor.Cursor{Window: &cursor.Window{To: noon}}, next: cursor.Cursor{Through: noon, Window: nil}, want: cursor.ErrBackwards},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, setup(t))
			e := save(t, s, load(t, s), tt.stored)
			if _, err := s.Save(t.Context(), e, tt.next); !errors.Is(err, tt.want) {
				t.Errorf("Save() = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestThroughNeverGoesBack(t *testing.T) {
	t.Parallel()
	s := open(t, setup(t))
	e := save(t, s, load(t, s), cursor.Cursor{Window: &cursor.Window{To: noon, Done: true}})
	e = save(t, s, e, cursor.Cursor{Through: noon})
	early := noon.Add(-time.Hour)
	e = save(t, s, e, cursor.Cursor{Through: noon, Window: &cursor.Window{To: early, Done: true}})
	if _, err := s.Save(t.Context(), e, cursor.Cursor{Through: early}); !errors.Is(err, cursor.ErrBackwards) {
		t.Errorf("Save() = %v, want ErrBackwards", err)
	}
	if _, err := s.Save(t.Context(), e, cursor.Cursor{}); !errors.Is(err, cursor.ErrBackwards) {
		t.Errorf("Save() that forgets = %v, want ErrBackwards", err)
	}
}

func TestForeignCursorIsAnErrorThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	js := setup(t)
	kv, err := js.KeyValue(t.Context(), topology.BucketCursors)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), key.String(), "secret rubbish"); err != nil {
		t.Fatal(err)
	}
	_, err = open(t, js).Load(t.Context(), key)
	if want := "load cursor orders.north=2Eeu.order: it was not written by a reconciler; delete it to begin anew"; err == nil || err.Error() != want {
		t.Errorf("Load() = %v, want %s", err, want)
	}
}

func TestCursorsAreListedByKey(t *testing.T) {
	t.Parallel()
	js := setup(t)
	s := open(t, js)
	if all, err := s.List(t.Context(), ""); err != nil || len(all) != 0 {
		t.Fatalf("List() of nothing = %v, %v", all, err)
	}
	kv, err := js.KeyValue(t.Context(), topology.BucketCursors)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), "_other.thing", "not a resource's"); err != nil {
		t.Fatal(err)
	}
	keys := []cursor.Key{
		{Source: "hub", Account: "_", Resource: "issue"},
		{Source: "orders", Account: "a.b/c=d", Resource: "order"},
		{Source: "orders", Account: "a", Resource: "refund"},
	}
	for _, k := range keys {
		save(t, s, cursor.Entry{Key: k}, cursor.Cursor{StartedAt: noon})
	}
	scan := keys[1]
	scan.Work = cursor.Deletes
	save(t, s, cursor.Entry{Key: scan}, cursor.Cursor{StartedAt: noon}) // is of other work
	all, err := s.List(t.Context(), "")
	if err != nil || len(all) != 3 || all[0].Key != keys[0] || all[1].Key != keys[2] || all[2].Key != keys[1] || !all[2].StartedAt.Equal(noon) {
		t.Errorf("List() = %+v, %v", all, err)
	}
	save(t, s, all[1], cursor.Cursor{StartedAt: noon}) // an entry of the list can be saved
}

func ExampleKey_String() {
	fmt.Println(cursor.Key{Source: "hub", Account: "_", Resource: "issue"})
	fmt.Println(cursor.Key{Source: "hub", Account: "acme.eu", Resource: "issue"})
	fmt.Println(cursor.Key{Source: "hub", Account: "_", Resource: "issue", Work: cursor.Deletes})
	// Output:
	// hub._.issue
	// hub.acme=2Eeu.issue
	// _deletes.hub._.issue
}
