package api_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tercelhq/tercel/services/console/internal/api"
)

// A text of any bytes is bounded and can be stored.
func TestTextsOfRecordsAreCut(t *testing.T) {
	t.Parallel()
	const limit = 4096
	for name, tt := range map[string]struct{ text, want string }{
		"short":                             {"short", "short"},
		"as long as may be":                 {strings.Repeat("x", limit), strings.Repeat("x", limit)},
		"longer":                            {strings.Repeat("x", limit+1), strings.Repeat("x", limit) + " … (cut)"},
		"with a character across the limit": {strings.Repeat("x", limit-1) + "é", strings.Repeat("x", limit-1) + " … (cut)"},
		"of the rest of characters only":    {strings.Repeat("\x80", limit+1), "\uFFFD"},
		"with such across the limit":        {strings.Repeat("x", limit-1) + "\x80\x80", strings.Repeat("x", limit-1) + " … (cut)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := api.Cut(tt.text); got != tt.want || !utf8.ValidString(got) {
				t.Errorf("%d bytes ending in %q, want %d", len(got), got[max(0, len(got)-20):], len(tt.want))
			}
		})
	}
}
