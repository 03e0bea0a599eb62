package ingress_test

import (
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/ingress"
)

// flooded is a fixture whose clock a test turns, and whose source "flooded-…"
// is counted apart from other tests.
func flooded(t *testing.T, name string) (f *fixture, turn func(time.Duration)) {
	t.Helper()
	var ahead atomic.Int64
	clock := func() time.Time { return at.Add(time.Duration(ahead.Load())) }
	f = setupWith(t, ingress.Deps{Now: clock}, func(c *ingress.Config) {
		c.Sources = maps.Clone(c.Sources)
		c.Sources[name] = c.Sources["rotating"]
	})
	return f, func(d time.Duration) { ahead.Add(int64(d)) }
}

// forged sends n requests with a signature of something else.
func (f *fixture) forged(name string, n int) {
	f.t.Helper()
	d := f.delivery(name, "", `{"id":"e","kind":"k"}`)
	d.body = `{"id":"f","kind":"k"}`
	for range n {
		if r := f.send(d); r.code != http.StatusUnauthorized {
			f.t.Fatalf("answered %+v, want 401", r)
		}
	}
}

// lines are those of the log that have all the texts.
func (f *fixture) lines(texts ...string) (n int) {
next:
	for line := range strings.Lines(f.log.String()) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue next
			}
		}
		n++
	}
	return n
}

const (
	oneLine  = `"msg":"webhook not taken"`
	moreLine = `"msg":"more webhooks not taken"`
)

// A flood of refusals has ten lines a minute and one that counts the rest, hides
// nothing else that is refused, and is counted whole.
func TestFloodOfRefusalsHasFewLines(t *testing.T) {
	t.Parallel()
	f, turn := flooded(t, "flood")
	before := counted(t)
	f.forged("flood", 35)
	if got := f.lines(oneLine, `"outcome":"refused_signature"`); got != 10 {
		t.Errorf("%d lines, want 10", got)
	}
	if got := f.lines(moreLine); got != 0 {
		t.Errorf("%d lines that count the rest of a minute that isn't over", got)
	}
	f.forged("rotating", 1) // another source
	odd := f.delivery("flood", "", `{"id":"e"}`)
	f.send(odd) // another reason
	if s, o := f.lines(oneLine, `"source":"rotating"`), f.lines(oneLine, `"outcome":"refused_structure"`); s != 1 || o != 1 {
		t.Errorf("%d lines of another source and %d of another reason, want 1 each", s, o)
	}
	turn(time.Minute - time.Nanosecond)
	f.forged("flood", 1)
	if got := f.lines(oneLine, `"source":"flood"`, `"outcome":"refused_signature"`); got != 10 {
		t.Errorf("%d lines within the minute, want 10", got)
	}
	turn(time.Nanosecond)
	f.forged("flood", 1)
	if got := f.lines(moreLine, `"source":"flood","outcome":"refused_signature","check":"signature","step":`, `"requests":26`); got != 1 {
		t.Errorf("%d lines that count the rest, want one with 26 requests:\n%s", got, f.log)
	}
	if got := f.lines(oneLine, `"source":"flood"`, `"outcome":"refused_signature"`); got != 11 {
		t.Errorf("%d lines with the next minute's, want 11", got)
	}
	f.forged("flood", 20)
	turn(-time.Hour) // the clock is set back, which must not silence anything for an hour
	f.forged("flood", 1)
	if got := f.lines(oneLine, `"source":"flood"`, `"outcome":"refused_signature"`); got != 21 {
		t.Errorf("%d lines with one after the clock was set back, want 21", got)
	}
	if got := counted(t)["tercel.requests.answered flood refused_signature"] - before["tercel.requests.answered flood refused_signature"]; got != 58 {
		t.Errorf("%d refusals counted, want 58", got)
	}
}

// When the flood is over, or the service ends, the rest is told all the same.
func TestRestOfAFloodIsTold(t *testing.T) {
	t.Parallel()
	f, turn := flooded(t, "ebb")
	stop := f.run()
	f.forged("ebb", 15)
	turn(time.Minute)
	eventually(t, "the rest is told", func() bool { return f.lines(moreLine, `"source":"ebb"`, `"requests":5`) == 1 })
	f.forged("ebb", 12)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := f.lines(moreLine, `"source":"ebb"`, `"requests":2`); got != 1 {
		t.Errorf("%d lines about the rest at the end, want 1:\n%s", got, f.log)
	}
}
