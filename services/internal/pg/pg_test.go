package pg_test

import (
	"strings"
	"testing"

	"github.com/tercelhq/tercel/services/internal/pg"
)

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "order-7", "a\x00b", "a␀0b", "a␀b", "␀␀0", "\x00␀\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		stored := pg.Text(s)
		if strings.Contains(stored, "\x00") || pg.FromText(stored) != s {
			t.Errorf("%q is stored as %q and read as %q", s, stored, pg.FromText(stored))
		}
	})
}
