package main

import (
	"strings"
	"testing"
)

// A paused destination gets nothing and says so, until it is resumed.
func TestDestinationsArePausedAndResumed(t *testing.T) {
	t.Parallel()
	shop := startShop(t)
	shop.put("1", 1)
	p := startLive(t, shop, liveOptions{})
	first := p.send("d-1", `{"type":"order.paid","id":"1"}`)
	isDelivered := func(id string) bool { return p.status(id) == delivered }
	until(t, "the first event is delivered", func() bool { return isDelivered(first) })

	out := tercel(t, "", "destination", "pause", "locale", "--api", p.ConsoleURL)
	if out.code != 1 || !strings.Contains(out.err, "there are: local") {
		t.Errorf("pause of an unknown destination: %+v", out)
	}
	if out := tercel(t, "", "destination", "pause", "local", "--api", p.ConsoleURL); out.code != 0 || out.out != "local is paused\n" {
		t.Fatalf("pause: %+v", out)
	}
	second := p.send("d-2", `{"type":"order.paid","id":"1","again":true}`)
	until(t, "the second event waits", func() bool {
		return strings.Contains(tercel(t, "", "event", "trace", second, "--api", p.ConsoleURL).out, "paused until it is resumed")
	})
	if out := tercel(t, "", "status", "--api", p.ConsoleURL); !strings.Contains(out.out, "paused until it is resumed") {
		t.Errorf("status: %+v", out)
	}
	if out := tercel(t, "", "destination", "resume", "local", "--api", p.ConsoleURL); out.code != 0 || out.out != "local is resumed\n" {
		t.Fatalf("resume: %+v", out)
	}
	until(t, "the second event is delivered", func() bool { return isDelivered(second) })
}
