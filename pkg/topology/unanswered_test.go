package topology_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// deaf is a server that leaves the first request of one kind unanswered, as a
// cluster does while another process makes the same stream.
type deaf struct {
	jetstream.JetStream
	to    string
	heard atomic.Bool
}

func (d *deaf) ignore(ctx context.Context, kind string) error {
	if kind != d.to || d.heard.Swap(true) {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (d *deaf) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if err := d.ignore(ctx, "stream"); err != nil {
		return nil, err
	}
	return d.JetStream.Stream(ctx, name)
}

func (d *deaf) KeyValue(ctx context.Context, name string) (jetstream.KeyValue, error) {
	if err := d.ignore(ctx, "bucket"); err != nil {
		return nil, err
	}
	return d.JetStream.KeyValue(ctx, name)
}

func (d *deaf) CreateOrUpdateStream(ctx context.Context, c jetstream.StreamConfig) (jetstream.Stream, error) {
	if err := d.ignore(ctx, "make a stream"); err != nil {
		return nil, err
	}
	return d.JetStream.CreateOrUpdateStream(ctx, c)
}

func (d *deaf) CreateOrUpdateKeyValue(ctx context.Context, c jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	if err := d.ignore(ctx, "make a bucket"); err != nil {
		return nil, err
	}
	return d.JetStream.CreateOrUpdateKeyValue(ctx, c)
}

// One answer that never comes must not use up the time for all of them.
func TestEnsureAsksAgainWhatIsNotAnswered(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"stream", "bucket", "make a stream", "make a bucket"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			d := &deaf{JetStream: natstest.Run(t), to: kind}
			if err := topology.Ensure(t.Context(), d, topology.DefaultConfig()); err != nil || !d.heard.Load() {
				t.Errorf("Ensure() = %v, unanswered %t; want nil after a request without an answer", err, d.heard.Load())
			}
		})
	}
}

// lonely is a cluster of which one node alone is there at first: it can be asked,
// and finds no peers to keep a stream with.
type lonely struct {
	jetstream.JetStream
	joined atomic.Bool
}

func (l *lonely) CreateOrUpdateStream(ctx context.Context, c jetstream.StreamConfig) (jetstream.Stream, error) {
	if !l.joined.Swap(true) {
		return nil, &jetstream.APIError{Code: 400, ErrorCode: 10005, Description: "no suitable peers for placement, peer offline"}
	}
	return l.JetStream.CreateOrUpdateStream(ctx, c)
}

// Services that start with their cluster don't end because its nodes don't all
// know each other yet.
func TestEnsureWaitsForTheNodesOfACluster(t *testing.T) {
	t.Parallel()
	l := &lonely{JetStream: natstest.Run(t)}
	if err := topology.Ensure(t.Context(), l, topology.DefaultConfig()); err != nil || !l.joined.Load() {
		t.Errorf("Ensure() = %v, asked %t; want nil once the node has peers", err, l.joined.Load())
	}
}

// poor is an account that may have fewer consumers than a stream asks for.
type poor struct{ jetstream.JetStream }

func (p poor) CreateOrUpdateStream(ctx context.Context, c jetstream.StreamConfig) (jetstream.Stream, error) {
	if c.MaxConsumers > 0 {
		return nil, &jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeMaximumConsumersLimit, Description: "maximum consumers limit reached"}
	}
	return p.JetStream.CreateOrUpdateStream(ctx, c)
}

func (p poor) CreateStream(ctx context.Context, c jetstream.StreamConfig) (jetstream.Stream, error) {
	return p.CreateOrUpdateStream(ctx, c)
}

// An account's own bound of consumers is no reason not to start.
func TestAnAccountWithFewConsumersGetsItsStreams(t *testing.T) {
	t.Parallel()
	js := poor{natstest.Run(t)}
	c := topology.DefaultConfig()
	for range 2 { // to make them, and to start with them again
		if err := topology.Ensure(t.Context(), js, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := js.DeleteStream(t.Context(), topology.StreamDLQ); err != nil {
		t.Fatal(err)
	}
	if all, err := topology.Restore(t.Context(), js, c); err != nil || len(all) != 1 || all[0].Err != nil {
		t.Errorf("Restore() = %+v, %v, want the one that was missing", all, err)
	}
}
