package enricher_test

import (
	"testing"

	"github.com/tercelhq/tercel/pkg/event"
)

// What a replay says about its trigger is true of the events that answer it.
func TestEventsAreForWhomTheTriggerIs(t *testing.T) {
	t.Parallel()
	f := setup(t, oneSource, answers(whole()))
	f.start()
	e := trigger("order.paid", "evt_1")
	e.Origin, e.Destinations, e.Edited = event.Replay, "crm", true
	f.send(e, order7)
	f.eventually("the event", func() bool { return len(f.events()) == 1 })
	if got := f.events()[0]; !got.For("crm") || got.For("lake") || !got.Edited {
		t.Errorf("event for %q, edited %t; want crm, true", got.Destinations, got.Edited)
	}
}
