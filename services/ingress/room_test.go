package ingress_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/services/ingress"
)

// Promise 10: a flood from one source is held back, and the others are served.
func TestFloodOfOneSourceLeavesRoomForTheOthers(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.MaxInFlight = 4 })
	f.run()
	for range 2 {
		f.dial().inHand(f.delivery("orders", "slow", goodBody))
	}
	if r := f.send(f.delivery("orders", "more", goodBody)); r.code != http.StatusServiceUnavailable {
		t.Errorf("more than half: answered %d, want 503", r.code)
	}
	if r := f.send(f.delivery("rotating", "", `{"id":"e","kind":"k"}`)); r.code != http.StatusOK {
		t.Errorf("another source: answered %d %s, want 200", r.code, r.Error)
	}
}

// Promise 10: bodies in hand take no more memory than they may, and give it back.
func TestBodiesInHandFitTheBudget(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.BodyBudget = 20 << 10 })
	f.run()
	large := `{"kind":"order.paid","x":"` + strings.Repeat("a", 9<<10) + `"}`
	slow := f.dial()
	rest := slow.inHand(f.delivery("orders", "first", large))
	second := f.delivery("orders", "second", large)
	if r := f.send(second); r.code != http.StatusServiceUnavailable {
		t.Errorf("beyond the source's half: answered %d, want 503", r.code)
	}
	if r := f.send(f.delivery("rotating", "", `{"id":"e","kind":"k"}`)); r.code != http.StatusOK {
		t.Errorf("another source: answered %d %s, want 200", r.code, r.Error)
	}
	slow.write(rest)
	if r := slow.answer(); r.StatusCode != http.StatusOK {
		t.Errorf("the one in hand: answered %s, want 200", r.Status)
	}
	eventually(t, "room again", func() bool { return f.send(second).code == http.StatusOK })
}
