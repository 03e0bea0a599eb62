package event_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/event"
)

// What is sent again is no order to the server, and the message that it was made of
// stays as it is.
func TestAgainCopiesNoOrders(t *testing.T) {
	t.Parallel()
	h := nats.Header{"Nats-Rollup": {"all"}, "nats-msg-id": {"1"}, event.HeaderID: {"evt_1"}, event.HeaderOrigin: {string(event.Webhook)}}
	m := event.Again(t.Context(), "replay", "tercel.raw.orders._.paid", h, []byte("{}"))
	if len(m.Header) < 2 || m.Header.Get("Nats-Rollup") != "" || len(m.Header["nats-msg-id"]) > 0 || m.Header.Get(event.HeaderID) != "evt_1" ||
		m.Header.Get(event.HeaderOrigin) != string(event.Replay) || m.Subject != "tercel.raw.orders._.paid" || string(m.Data) != "{}" {
		t.Errorf("%s %v %s", m.Subject, m.Header, m.Data)
	}
	if len(h) != 4 || h.Get(event.HeaderOrigin) != string(event.Webhook) {
		t.Errorf("the first one's are %v now", h)
	}
}
