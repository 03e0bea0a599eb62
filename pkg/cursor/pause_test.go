package cursor_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

func TestScopesNameWhatTheyName(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		scope cursor.Scope
		has   string // of the keys below
	}{
		"a source":                 {cursor.Scope{Source: "orders"}, "north/order north/refund south/order"},
		"an account":               {cursor.Scope{Source: "orders", Account: "north"}, "north/order north/refund"},
		"a resource of all":        {cursor.Scope{Source: "orders", Resource: "order"}, "north/order south/order"},
		"a resource of an account": {cursor.Scope{Source: "orders", Account: "north", Resource: "order"}, "north/order"},
		"another source":           {cursor.Scope{Source: "shop"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var has []string
			for _, name := range [][2]string{{"north", "order"}, {"north", "refund"}, {"south", "order"}} {
				k := cursor.Key{Source: "orders", Account: name[0], Resource: name[1]}
				scan := k
				scan.Work = cursor.Deletes // goes with it
				if tt.scope.Has(k) && tt.scope.Has(scan) {
					has = append(has, k.Account+"/"+k.Resource)
				}
			}
			if got := strings.Join(has, " "); got != tt.has {
				t.Errorf("%s has %q, want %q", tt.scope, got, tt.has)
			}
		})
	}
}

func pausesOf(pauses []cursor.Pause) string {
	var texts []string
	for _, p := range pauses {
		texts = append(texts, p.String()+" "+p.Since.Sub(noon).String())
	}
	return strings.Join(texts, ", ")
}

// What is paused stays so until it is resumed, and each change says what there
// was before.
func TestPausesAreKeptAndTellWhatWasBefore(t *testing.T) {
	t.Parallel()
	js := setup(t)
	pause := func(scope cursor.Scope, after time.Duration, want string) {
		t.Helper()
		before, err := open(t, js).Pause(t.Context(), scope, noon.Add(after))
		if err != nil || pausesOf(before) != want {
			t.Errorf("Pause(%s) = %q, %v; want %q", scope, pausesOf(before), err, want)
		}
	}
	resume := func(scope cursor.Scope, ended, left string) {
		t.Helper()
		e, l, err := open(t, js).Resume(t.Context(), scope)
		if err != nil || pausesOf(e) != ended || pausesOf(l) != left {
			t.Errorf("Resume(%s) = %q, %q, %v; want %q, %q", scope, pausesOf(e), pausesOf(l), err, ended, left)
		}
	}
	source := cursor.Scope{Source: "orders"}
	north := cursor.Scope{Source: "orders", Account: "north.eu"} // with what no key takes
	order := cursor.Scope{Source: "orders", Resource: "order"}
	other := cursor.Scope{Source: "shop"}
	pause(north, 0, "")
	pause(north, time.Minute, "orders of account north.eu 0s")
	pause(order, 2*time.Minute, "")
	pause(source, 3*time.Minute, "")
	pause(other, 4*time.Minute, "")
	pause(order, 5*time.Minute, "orders 3m0s, orders order 2m0s")
	pause(cursor.Scope{Source: "orders", Account: "north.eu", Resource: "order"}, 6*time.Minute,
		"orders 3m0s, orders order 2m0s, orders of account north.eu 0s")
	all, err := open(t, js).Pauses(t.Context())
	if want := "orders 3m0s, orders order 2m0s, orders of account north.eu 0s, orders order of account north.eu 6m0s, shop 4m0s"; err != nil || pausesOf(all) != want {
		t.Errorf("Pauses() = %q, %v; want %q", pausesOf(all), err, want)
	}
	if entries, err := open(t, js).List(t.Context(), ""); err != nil || len(entries) != 0 {
		t.Errorf("List() = %v, %v: a pause is taken for a cursor", entries, err)
	}
	resume(north, "orders of account north.eu 0s, orders order of account north.eu 6m0s", "orders 3m0s, orders order 2m0s")
	resume(north, "", "orders 3m0s, orders order 2m0s")
	resume(source, "orders 3m0s, orders order 2m0s", "")
	resume(source, "", "")
	resume(other, "shop 4m0s", "")
}

// follow has the pauses of a server followed until the test ends.
func follow(t *testing.T, js jetstream.JetStream) *cursor.Pauses {
	t.Helper()
	p := cursor.NewPauses(js, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	select {
	case <-p.Ready():
	case <-time.After(time.Minute):
		t.Fatal("it is not known what is paused after a minute")
	}
	return p
}

// Whoever follows pauses knows those that there were, hears of each change, and
// what was going on ends.
func TestPausesEndWhatTheyName(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, false)
	js := jet(t, server)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	s := open(t, js)
	old := cursor.Key{Source: "shop", Account: "_", Resource: "item"}
	if _, err := s.Pause(t.Context(), cursor.Scope{Source: old.Source, Account: old.Account, Resource: old.Resource}, noon); err != nil {
		t.Fatal(err)
	}
	unknown, stopUnknown := cursor.NewPauses(js, slog.New(slog.DiscardHandler)).While(t.Context(), key)
	defer stopUnknown()
	if !errors.Is(context.Cause(unknown), cursor.ErrPaused) {
		t.Error("something may begin before it is known what is paused")
	}
	p := follow(t, jet(t, server))
	if pause, paused := p.Of(old); !paused || !pause.Since.Equal(noon) {
		t.Errorf("Of() = %+v, %t; want the pause that was there first", pause, paused)
	}
	ctx, stop := p.While(t.Context(), old)
	defer stop()
	if !errors.Is(context.Cause(ctx), cursor.ErrPaused) {
		t.Error("what is paused goes on")
	}
	other, stopOther := p.While(t.Context(), cursor.Key{Source: "orders", Account: "south", Resource: "order"})
	defer stopOther()
	for _, scope := range []cursor.Scope{{Source: "orders", Account: "north.eu"}, {Source: "orders", Resource: "order", Account: "north.eu"}} {
		ctx, stop := p.While(t.Context(), key)
		defer stop()
		if ctx.Err() != nil {
			t.Fatal("it ends before anything is paused")
		}
		if _, err := s.Pause(t.Context(), scope, noon); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute):
			t.Fatalf("%s goes on a minute after %s was paused", key, scope)
		}
		if !errors.Is(context.Cause(ctx), cursor.ErrPaused) {
			t.Errorf("it ended by %v", context.Cause(ctx))
		}
		if _, _, err := s.Resume(t.Context(), scope); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
			if _, paused := p.Of(key); !paused {
				break
			} else if time.Now().After(end) {
				t.Fatal("it is paused a minute after it was resumed")
			}
		}
	}
	if other.Err() != nil {
		t.Error("another account ended too")
	}
}

func TestResetSetsACursorBack(t *testing.T) {
	t.Parallel()
	s := open(t, setup(t))
	day := 24 * time.Hour
	e := save(t, s, load(t, s), cursor.Cursor{StartedAt: noon, Window: &cursor.Window{To: noon, Done: true}})
	e = save(t, s, e, cursor.Cursor{StartedAt: noon, Through: noon, EndedAt: noon, OKAt: noon, Last: cursor.Last{Run: "r1", Complete: true}})
	e = save(t, s, e, cursor.Cursor{
		StartedAt: noon.Add(time.Hour), Through: noon, Failures: 2, Window: &cursor.Window{Run: "r2", From: noon, To: noon.Add(time.Hour), Position: "p"},
	})
	running := e.Cursor
	later := noon.Add(2 * time.Hour)
	for name, tt := range map[string]struct {
		to   time.Time
		want error
	}{"later": {noon.Add(time.Second), cursor.ErrForward}, "back": {noon.Add(-day), nil}} {
		before, err := s.Reset(t.Context(), key, tt.to, later)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: Reset() = %v, want %v", name, err, tt.want)
		}
		if tt.want == nil && (before.Window == nil || before.Window.Run != "r2" || !before.Through.Equal(running.Through)) {
			t.Errorf("before %+v, want what was there", before)
		}
	}
	got := load(t, s)
	if !got.Through.Equal(noon.Add(-day)) || got.Window != nil || got.Failures != 0 || !got.RetryAt.Equal(later) || !got.StartedAt.Equal(noon.Add(time.Hour)) {
		t.Errorf("cursor %+v, want it a day back and due", got.Cursor)
	}
	// Whoever was at it can't write any more.
	if _, err := s.Save(t.Context(), e, running); !errors.Is(err, cursor.ErrConflict) {
		t.Errorf("Save() of the run in hand = %v, want ErrConflict", err)
	}
	if _, err := s.Reset(t.Context(), key, time.Time{}, later); err != nil {
		t.Fatal(err)
	}
	if got := load(t, s); !got.Through.IsZero() {
		t.Errorf("cursor %+v, want it at the beginning", got.Cursor)
	}
	if _, err := s.Reset(t.Context(), key, noon, later); !errors.Is(err, cursor.ErrForward) {
		t.Errorf("Reset() of one that was never finished = %v, want ErrForward", err)
	}
	never := cursor.Key{Source: "orders", Account: "_", Resource: "never"}
	if before, err := s.Reset(t.Context(), never, time.Time{}, later); err != nil || before != (cursor.Cursor{}) {
		t.Errorf("Reset() of one that is not there = %+v, %v", before, err)
	}
	if entries, err := s.List(t.Context(), ""); err != nil || len(entries) != 1 {
		t.Errorf("List() = %v, %v, want the one cursor", entries, err)
	}
}

// A reset is written although a run keeps writing the same cursor.
func TestResetOfACursorThatIsWrittenAllTheTime(t *testing.T) {
	t.Parallel()
	s := open(t, setup(t))
	e := save(t, s, load(t, s), cursor.Cursor{Window: &cursor.Window{To: noon}})
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		pages := time.NewTicker(5 * time.Millisecond) // as fast as a source answers
		defer pages.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			var err error
			e, err = s.Save(ctx, e, cursor.Cursor{Window: &cursor.Window{To: noon, Pages: i}})
			if errors.Is(err, cursor.ErrConflict) {
				return // it has been reset
			}
			<-pages.C
		}
	})
	defer writing.Wait()
	defer cancel()
	if before, err := s.Reset(t.Context(), key, time.Time{}, noon); err != nil || before.Window == nil {
		t.Errorf("Reset() = %+v, %v", before, err)
	}
	writing.Wait()
	if got := load(t, s); got.Window != nil {
		t.Errorf("cursor %+v, want it without a window", got.Cursor)
	}
}

func ExampleScope() {
	fmt.Println(cursor.Scope{Source: "orders", Account: "north"}.Has(cursor.Key{Source: "orders", Account: "north", Resource: "order"}))
	// Output: true
}
