package seen_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/seen"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Promise 4 on three nodes: what is stored, before the leader of the marks goes,
// while it is away and after it has come back, every replica of the service knows.
func TestMarksOutliveTheirLeader(t *testing.T) {
	t.Parallel()
	servers := natstest.Cluster(t, false)
	f := &fixture{t: t, log: &logged{}}
	var err error
	if f.js, err = jetstream.New(natstest.ConnectAll(t, servers), jetstream.WithDefaultTimeout(30*time.Second)); err != nil {
		t.Fatal(err)
	}
	cfg := topology.DefaultConfig()
	cfg.Replicas = 3
	if err := topology.Ensure(t.Context(), f.js, cfg); err != nil {
		t.Fatal(err)
	}
	replicas := []*seen.Index{f.index(), f.index()}
	const each = 50
	ids := func(phase string) (all []string) {
		for i := range each {
			all = append(all, fmt.Sprint("orders:_:", phase, i))
		}
		return all
	}
	store := func(phase string) (sequences []uint64) {
		for _, id := range ids(phase) {
			sequences = append(sequences, f.stored(id))
		}
		return sequences
	}
	mark := func(phase string, sequences []uint64) {
		for i, id := range ids(phase) {
			replicas[i%2].Mark(id, sequences[i])
		}
	}
	known := func(x *seen.Index, phase string) func() bool {
		return func() bool {
			for _, id := range ids(phase) {
				if !f.has(x, id) {
					return false
				}
			}
			return true
		}
	}
	mark("before", store("before"))
	for i, x := range replicas {
		eventually(t, fmt.Sprint("replica ", i, " knows all from before"), known(x, "before"))
	}
	leader, sequences := f.leader(servers), store("while")
	leader.Stop()
	mark("while", sequences) // at once: nobody takes them yet
	for i, x := range replicas {
		eventually(t, fmt.Sprint("replica ", i, " knows all from while a node is away"), known(x, "while"))
	}
	leader.Resume()
	mark("after", store("after"))
	later := f.index()
	for _, phase := range []string{"before", "while", "after"} {
		eventually(t, "a later replica knows all from "+phase, known(later, phase))
	}
	if f.has(later, "orders:_:never") {
		t.Error("an id that nobody stored is known")
	}
}

// leader returns the server that leads the stream of marks.
func (f *fixture) leader(servers []*natstest.Server) *natstest.Server {
	f.t.Helper()
	s, err := f.js.Stream(f.t.Context(), topology.StreamSeen)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, server := range servers {
		if server.Name() == s.CachedInfo().Cluster.Leader {
			return server
		}
	}
	f.t.Fatalf("no leader in %+v", s.CachedInfo().Cluster)
	return nil
}

// stored is store on a cluster, which takes nothing while it looks for a leader.
// The id makes sure that what was taken and not acknowledged is taken once.
func (f *fixture) stored(id string) uint64 {
	f.t.Helper()
	m := nats.NewMsg("tercel.raw.orders._.order.paid")
	m.Header.Set(jetstream.MsgIDHeader, id)
	m.Header.Set(event.HeaderID, "event of "+id)
	var seq uint64
	eventually(f.t, id+" is stored", func() bool {
		ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Second)
		defer cancel()
		ack, err := f.js.PublishMsg(ctx, m)
		if err == nil {
			seq = ack.Sequence
		}
		return err == nil
	})
	return seq
}
