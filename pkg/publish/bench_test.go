package publish_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/topology"
)

// BenchmarkSynced measures messages of 2 KiB on one node that syncs each write,
// by how many are in flight, and with repeats that only the server knows, as
// after a restart of the publisher. "each" is one publish per message.
func BenchmarkSynced(b *testing.B) {
	for _, inFlight := range []int{1, 4, 8, 16, 32, 128, 512} {
		for _, foreign := range []int{0, 2} { // percent
			b.Run(fmt.Sprintf("flight=%d/foreign=%d%%", inFlight, foreign), func(b *testing.B) {
				for _, m := range []struct {
					name string
					cfg  publish.Config
				}{
					{"each", publish.Config{}},
					{"groups", publish.Config{Group: true}},
					{"groups=512", publish.Config{Group: true, MaxBatch: 512}},
				} {
					b.Run(m.name, func(b *testing.B) { benchmark(b, m.cfg, inFlight, foreign) })
				}
			})
		}
	}
}

func benchmark(b *testing.B, cfg publish.Config, inFlight, foreign int) {
	nc := natstest.Start(b, true).Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	if err := topology.Ensure(b.Context(), js, topology.DefaultConfig()); err != nil {
		b.Fatal(err)
	}
	pub, err := publish.New(nc, cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer pub.Close()
	const known = 64
	prefix := nuid.Next()
	for i := range known {
		if _, err := js.PublishMsg(b.Context(), sized(fmt.Sprint(prefix, "-known-", i))); err != nil {
			b.Fatal(err)
		}
	}
	var n, k atomic.Int64
	b.SetParallelism(max(1, inFlight/2)) // two processors at most count
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			id := fmt.Sprint(prefix, "-", i)
			if foreign > 0 && i%int64(100/foreign) == 0 {
				id = fmt.Sprint(prefix, "-known-", k.Add(1)%known)
			}
			if _, err := pub.Publish(b.Context(), sized(id)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

var payload = make([]byte, 2<<10)

func sized(id string) *nats.Msg {
	m := nats.NewMsg("tercel.raw.orders._.order.paid")
	m.Header.Set(jetstream.MsgIDHeader, id)
	m.Data = payload
	return m
}
