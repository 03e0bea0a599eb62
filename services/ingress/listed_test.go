package ingress_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/seen"
	"github.com/tercelhq/tercel/services/ingress"
)

// Promise 4: an event that was sent in from its source's own list is known by
// its id when its webhook comes late, although nothing signs that id and its
// bytes are others. A source without a list doesn't know such ids.
func TestLateWebhookOfAListedEvent(t *testing.T) {
	t.Parallel()
	f := setup(t, named(map[string]string{"listed": "hub", "unlisted": "hub"}), func(c *ingress.Config) {
		github, _ := provider.LookupPreset("github")
		s := c.Sources["listed"]
		s.Events = github.Events
		c.Sources["listed"] = s
	})
	before := absorbed(t, "listed")
	for _, source := range []string{"listed", "unlisted"} {
		e := event.Event{
			ID: "g1~0011", DeliveryID: "g1", Source: source, Account: event.NoAccount, Type: "issues.opened", Origin: event.Reconcile,
		}
		m := nats.NewMsg(e.RawSubject())
		m.Header, m.Data = e.Header(), []byte(`{"action":"opened","n":1}`)
		m.Header.Set(jetstream.MsgIDHeader, e.ListedMsgID())
		js, err := jetstream.New(f.conn, natstest.Patient())
		if err != nil {
			t.Fatal(err)
		}
		ack, err := js.PublishMsg(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if err := seen.Note(t.Context(), js, map[string]uint64{e.ListedMsgID(): ack.Sequence}); err != nil {
			t.Fatal(err)
		}
	}
	// Its marks are read in the order in which they were written.
	eventually(t, "the marks", func() bool { return f.service.SeenMarks() >= 2 })
	if r := f.send(f.delivery("unlisted", "g1", `{"action":"opened", "n":1}`)); r.Status != "accepted" {
		t.Errorf("of a source without a list the webhook was answered %+v, want it accepted", r)
	}
	if r := f.send(f.delivery("listed", "g1", `{"action":"opened", "n":1}`)); r.Status != "duplicate" || r.ID != "g1~0011" {
		t.Errorf("the late webhook was answered %+v, want a duplicate of g1~0011", r)
	}
	if r := f.send(f.delivery("listed", "g2", `{"action":"opened", "n":2}`)); r.Status != "accepted" {
		t.Errorf("another webhook was answered %+v, want it accepted", r)
	}
	if got := since(before, absorbed(t, "listed")); got["listed"] != 1 {
		t.Errorf("absorbed %v, want 1 by the list", got)
	}
}
