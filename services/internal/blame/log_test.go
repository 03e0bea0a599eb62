package blame_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tercelhq/tercel/services/internal/blame"
)

// Promise 10: however many connections go wrong, few lines tell of them, and one how
// many there were. A fault of ours is never among those that are left out.
func TestStrangersHaveFewLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := blame.Log(slog.New(slog.NewTextHandler(&out, nil)))
		for range 100 {
			log.Printf("http: TLS handshake error from 192.0.2.1:1: EOF")
		}
		log.Print("http: panic serving 192.0.2.1:1: index out of range")
		if got := strings.Count(out.String(), "handshake error"); got != 10 || !strings.Contains(out.String(), "index out of range") {
			t.Errorf("%d lines of a hundred, want 10 and the panic:\n%s", got, &out)
		}
		time.Sleep(time.Minute)
		out.Reset()
		log.Printf("http: TLS handshake error from 192.0.2.2:1: EOF")
		if text := out.String(); !strings.Contains(text, "lines=91") || !strings.Contains(text, "192.0.2.2") {
			t.Errorf("a minute later: %s, want the line and that 91 were left out", text)
		}
	})
}
