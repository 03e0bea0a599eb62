package event_test

import (
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
)

func TestTimesOfProviders(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-01-02T03:04:05Z": "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.5+01:00": "2026-01-02T02:04:05.5Z",
		"2026-01-02T03:04:05-0400": "2026-01-02T07:04:05Z", "2026-01-02 03:04:05 +00": "2026-01-02T03:04:05Z",
		"1760000000": "2025-10-09T08:53:20Z", "1760000000123": "2025-10-09T08:53:20.123Z", "0": "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z": "0001-01-01T00:00:00Z",
		"99999999999": "5138-11-16T09:46:39Z", "": "", "now": "", "-1": "", "1760000000123456": "", "2026-01-02": "", "2026-01-02T03:04:05": "", "1.5": "",
	} {
		got, ok := event.ParseTime(text)
		if ok != (want != "") || ok && got.Format(time.RFC3339Nano) != want {
			t.Errorf("ParseTime(%q) = %s, %t, want %s", text, got.Format(time.RFC3339Nano), ok, want)
		}
	}
}
