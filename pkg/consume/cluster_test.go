package consume_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// In a cluster a message is handed out only when the others know of it, while the
// word that a pull is over comes at once. What overtakes is waited for: a message
// that nobody takes comes again after its ack wait, which is long.
func TestAClusterHandsEachMessageOutOnce(t *testing.T) {
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
	f := &fixture{t: t, js: js, log: t.Output(), cfg: consume.Config{
		Workers: 2, Batch: 1, AckWait: 10 * time.Minute, Timeout: 10 * time.Second, MaxAttempts: 3,
		RetryMin: 20 * time.Millisecond, RetryMax: 100 * time.Millisecond,
	}}
	const n = 200
	for i := range n {
		if _, err := js.PublishAsync("tercel.raw.orders._.order.paid", []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		t.Fatal("messages are not stored within a minute")
	}
	var done, again atomic.Int32
	f.start(consume.Each(func(_ context.Context, m consume.Message) error {
		done.Add(1)
		if m.Attempt > 1 {
			again.Add(1)
		}
		return nil
	}))
	deadline := time.After(time.Minute)
	for done.Load() < n {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%d of %d messages within a minute", done.Load(), n)
		}
	}
	if again.Load() > 0 {
		t.Errorf("%d messages came again", again.Load())
	}
}
