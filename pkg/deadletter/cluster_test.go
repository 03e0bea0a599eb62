package deadletter_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// On three nodes, changes of one letter at the same time follow each other, and
// none of them is an error.
func TestChangesAtTheSameTimeFollowEachOtherInACluster(t *testing.T) {
	t.Parallel()
	js, err := jetstream.New(natstest.ConnectAll(t, natstest.Cluster(t, false)), natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	streams := topology.DefaultConfig()
	streams.Replicas = 3
	if err := topology.Ensure(t.Context(), js, streams); err != nil {
		t.Fatal(err)
	}
	seq := publish(t, js, letter(t, js, store(t, js, trigger("orders", "evt_1"), []byte("{}"))))
	var operators sync.WaitGroup
	for name := range 2 {
		operators.Go(func() {
			for i := range 30 {
				d := deadletter.Discarded{At: time.Now(), Reason: fmt.Sprint(name, " ", i)}
				if err := deadletter.Discard(t.Context(), js, seq, d); err != nil {
					t.Errorf("operator %d's discard %d: %v", name, i, err)
				}
			}
		})
	}
	operators.Wait()
}
