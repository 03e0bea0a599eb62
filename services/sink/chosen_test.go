package sink_test

import (
	"testing"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

// What a replay sends again for the sake of one destination is done with at the
// others.
func TestReplayedEventsReachTheChosenDestinationOnly(t *testing.T) {
	t.Parallel()
	crm, lake := kinds["sqlite"].place(t), kinds["sqlite"].place(t)
	_, js := stream(t)
	chosen := update("evt-2", "b", 2, 2)
	chosen.Origin, chosen.Destinations = event.Replay, "crm,other"
	publish(t, js, nil, update("evt-1", "a", 1, 1), chosen)
	svc := start(t, js, quick(), map[string]pipeline.Destination{"crm": crm.destination(t), "lake": lake.destination(t)})
	settled(t, js, "crm")
	settled(t, js, "lake")
	svc.stop()
	if rows := crm.rows(t); len(rows) != 2 {
		t.Errorf("the chosen one has %+v, want both events", rows)
	}
	if rows := lake.rows(t); len(rows) != 1 || rows[0].EventID != "evt-1" {
		t.Errorf("the other has %+v, want evt-1 only", rows)
	}
}
