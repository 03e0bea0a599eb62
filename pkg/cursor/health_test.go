package cursor_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
)

// A source's health has one writer at a time, and everybody can read it.
func TestHealthIsWrittenByOneAtATime(t *testing.T) {
	t.Parallel()
	s := open(t, setup(t))
	first, err := s.Health(t.Context(), "orders")
	if err != nil || first.Source != "orders" || first.Learned.Enough {
		t.Fatalf("Health() = %+v, %v; want an empty one", first, err)
	}
	next := first.Health
	next.Silence = &cursor.Silence{Since: noon, AlarmedAt: noon.Add(time.Hour), Missed: 3, Advice: "look at it"}
	next.Refused = &cursor.Refused{Since: noon, Requests: 40, Reasons: map[string]int64{"b": 10, "a": 20}}
	saved, err := s.SaveHealth(t.Context(), first, next)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SaveHealth(t.Context(), first, next); !errors.Is(err, cursor.ErrConflict) {
		t.Errorf("SaveHealth() of what was loaded before = %v, want ErrConflict", err)
	}
	if _, err := s.SaveHealth(t.Context(), saved, next); err != nil {
		t.Error(err)
	}
	all, err := s.Healths(t.Context())
	if err != nil || len(all) != 1 || all[0].Source != "orders" || !all[0].Silence.Since.Equal(noon) {
		t.Fatalf("Healths() = %+v, %v", all, err)
	}
	want := "silent since 2026-11-26T12:00:00Z although at least 3 records have changed: look at it\n30 of 40 requests refused, since 2026-11-26T12:00:00Z: a 20, b 10"
	if got := strings.Join(all[0].Alarms(), "\n"); got != want {
		t.Errorf("Alarms() = %s, want %s", got, want)
	}
	next.Silence.AlarmedAt = time.Time{}
	next.Refused = nil
	if got := next.Alarms(); len(got) != 0 {
		t.Errorf("Alarms() of a silence without gaps = %q", got)
	}
	if entries, err := s.List(t.Context(), ""); err != nil || len(entries) != 0 {
		t.Errorf("List() = %v, %v: a health is taken for a cursor", entries, err)
	}
}

// A source that has left the pipeline file and comes back is looked after again.
func TestAHealthThatWasDroppedIsWrittenAgain(t *testing.T) {
	t.Parallel()
	s := open(t, setup(t))
	for i := range 3 {
		h, err := s.Health(t.Context(), "orders")
		if err != nil || h.Learned.Minutes != 0 {
			t.Fatalf("Health() = %+v, %v; want an empty one", h, err)
		}
		next := h.Health
		next.Learned.Minutes = i + 1
		if h, err = s.SaveHealth(t.Context(), h, next); err != nil {
			t.Fatalf("SaveHealth() after it was dropped %d times = %v", i, err)
		}
		if _, err := s.SaveHealth(t.Context(), h, next); err != nil {
			t.Error(err)
		}
		if err := s.DropHealth(t.Context(), "orders"); err != nil {
			t.Fatal(err)
		}
		if all, err := s.Healths(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("Healths() = %+v, %v after it was dropped", all, err)
		}
	}
}
