package sink_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// A receiver that wants no more events is paused, for all sinks and over
// restarts, until somebody resumes it; its events wait.
func TestPromise3GoneReceiverIsPausedUntilResumed(t *testing.T) {
	t.Parallel()
	_, js := stream(t)
	h, p := hookPlace(t)
	h.set(func() { h.gone = true })
	publish(t, js, nil, numbered(0, 30)...)
	first := start(t, js, quick(), p.destinations(t))
	info := func() *jetstream.ConsumerInfo {
		c, err := js.Consumer(t.Context(), topology.StreamEnriched, topology.DeliverDurable("out"))
		if err != nil {
			return &jetstream.ConsumerInfo{}
		}
		return c.CachedInfo()
	}
	eventually(t, "the destination is paused until it is resumed", func() bool {
		i := info()
		return i.Paused && i.PauseRemaining > topology.UntilResumed/2
	})
	asked := func() (n int) { h.set(func() { n = h.asked }); return n }
	before := asked()
	eventually(t, "the destination is open again", func() bool { return first.Healthy(t.Context()) == nil })
	first.stop()
	second := start(t, js, quick(), p.destinations(t))
	eventually(t, "the next sink is open", func() bool { return second.Healthy(t.Context()) == nil && info().NumWaiting > 0 })
	if i := info(); asked() != before || i.NumPending+uint64(i.NumAckPending) != 30 {
		t.Errorf("it was asked %d times, then %d; %d events wait and %d are in hand, want 30", before, asked(), i.NumPending, i.NumAckPending)
	}
	h.set(func() { h.gone = false })
	if err := topology.ResumeDestination(t.Context(), js, "out"); err != nil {
		t.Fatal(err)
	}
	settled(t, js, "out")
	checkRows(t, p.rows(t), 30)
}
