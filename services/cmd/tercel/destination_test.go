package main

import (
	"strings"
	"testing"

	"github.com/tercelhq/tercel/services/internal/timeline"
)

// A paused destination gets nothing and says so, until it is resumed.
func TestDestinationsArePausedAndResumed(t *testing.T) {
	t.Parallel()
	shop := startShop(t)
	shop.put("1", 1)
	p := startLive(t, shop, liveOptions{})
	first := p.send("d-1", `{"type":"order.paid","id":"1"}`)
	delivered := func(id string) bool {
		return decode[timeline.Timeline](t, "event", "trace", id, "--data", p.data).State == "done"
	}
	until(t, "the first event is delivered", func() bool { return delivered(first) })

	out := tercel(t, "", "destination", "pause", "locale", "--data", p.data)
	if out.code != 1 || !strings.Contains(out.err, "there are: local") {
		t.Errorf("pause of an unknown destination: %+v", out)
	}
	if out := tercel(t, "", "destination", "pause", "local", "--data", p.data); out.code != 0 || out.out != "local is paused\n" {
		t.Fatalf("pause: %+v", out)
	}
	second := p.send("d-2", `{"type":"order.paid","id":"1","again":true}`)
	until(t, "the second event waits", func() bool {
		return strings.Contains(tercel(t, "", "event", "trace", second, "--data", p.data).out, "paused until it is resumed")
	})
	if out := tercel(t, "", "status", "--data", p.data); !strings.Contains(out.out, "paused until it is resumed") {
		t.Errorf("status: %+v", out)
	}
	if out := tercel(t, "", "destination", "resume", "local", "--data", p.data); out.code != 0 || out.out != "local is resumed\n" {
		t.Fatalf("resume: %+v", out)
	}
	until(t, "the second event is delivered", func() bool { return delivered(second) })
}
