package sink_test

import (
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/topology"
)

// A destination that can be opened and takes nothing, as a full one, costs no
// attempts either: an outage makes no dead letters.
func TestPromise3FullDestinationUsesUpNoAttempts(t *testing.T) {
	t.Parallel()
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := k.place(t)
			if p.fill == nil {
				t.Skip("it is full when a file can't grow, which the process as a whole would notice")
			}
			_, js := stream(t)
			start(t, js, quick(), p.destinations(t))
			publish(t, js, nil, numbered(0, 10)...)
			settled(t, js, "out")
			empty := p.fill(t)
			publish(t, js, nil, numbered(10, 50)...)
			// The outage lasts longer than all attempts of one message would.
			outage := time.NewTimer(4 * time.Second)
			defer outage.Stop()
			<-outage.C
			empty()
			settled(t, js, "out")
			s, err := js.Stream(t.Context(), topology.StreamAdvisories)
			if err != nil {
				t.Fatal(err)
			}
			if n := s.CachedInfo().State.Msgs; n > 0 {
				t.Errorf("%d events became dead letters", n)
			}
			checkRows(t, k.events(t, p), 50)
		})
	}
}
