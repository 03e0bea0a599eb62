package watch_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tercelhq/tercel/services/internal/watch"
)

func TestAFileThatChangedIsToldOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, other := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	files := watch.Files{{Path: path}, {Path: other}}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		what string
		do   func() error
		want bool
	}{
		{"nothing is there", func() error { return nil }, false},
		{"one came", func() error { write(other, "1"); return nil }, true},
		{"nothing happened", func() error { return nil }, false},
		{"it was written to", func() error { write(other, "22"); return nil }, true},
		{"both came and changed", func() error { write(path, "1"); write(other, "333"); return nil }, true},
		{"nothing happened since", func() error { return nil }, false},
		{"another one took its place", func() error { write(path+"2", "1"); return os.Rename(path+"2", path) }, true},
		{"it went", func() error { return os.Remove(path) }, true},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatal(err)
		}
		if got := files.Changed(); got != s.want {
			t.Errorf("%s: Changed() = %t, want %t", s.what, got, s.want)
		}
	}
}

func TestEveryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		n := 0
		watch.Every(ctx, watch.Interval, func() { n++ })
		if n != 5 {
			t.Errorf("called %d times in 10s, want 5", n)
		}
	})
}
