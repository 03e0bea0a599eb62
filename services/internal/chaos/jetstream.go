package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/process"
)

// leaders kill the node that leads a stream, of those that everything goes
// through.
func leaders() (all []fault) {
	for _, stream := range []string{topology.StreamRaw, topology.StreamEnriched} {
		all = append(all, fault{name: "kill of the leader of " + stream, kind: "kill of a stream's leader", harm: func(ctx context.Context, w *world, r *rand.Rand) error {
			var leader *member
			if err := asking(ctx, func(ctx context.Context) error {
				s, err := w.js.Stream(ctx, stream)
				if err != nil {
					return err
				}
				if c := s.CachedInfo().Cluster; c == nil || w.members[c.Leader] == nil {
					return fmt.Errorf("%s has no leader", stream)
				}
				leader = w.members[s.CachedInfo().Cluster.Leader]
				return nil
			}); err != nil {
				return err
			}
			return w.down(ctx, r, leader)
		}})
	}
	return all
}

// outages kill so many nodes at once that no stream can take anything.
func outages() []fault {
	kill := func(n int) func(context.Context, *world, *rand.Rand) error {
		return func(ctx context.Context, w *world, r *rand.Rand) error {
			var dying []*member
			for _, i := range r.Perm(nodes)[:n] {
				dying = append(dying, w.members[nodeName(i)])
			}
			return w.down(ctx, r, dying...)
		}
	}
	return []fault{{name: "kill of two nodes", harm: kill(2)}, {name: "kill of all nodes", harm: kill(nodes)}}
}

// down kills processes and starts them again after a while.
func (w *world) down(ctx context.Context, r *rand.Rand, dying ...*member) error {
	for _, m := range dying {
		m.Kill()
	}
	err := between(ctx, r, 2*time.Second, 20*time.Second)
	for _, m := range dying {
		err = errors.Join(err, m.Launch())
	}
	return err
}

// fullStreams let a stream reach its limit of bytes.
func fullStreams() (all []fault) {
	for _, stream := range []string{topology.StreamRaw, topology.StreamEnriched, topology.StreamDLQ} {
		all = append(all, fault{name: "limit of " + stream + " reached", kind: "limit of a stream reached", harm: func(ctx context.Context, w *world, r *rand.Rand) error {
			if err := w.limit(ctx, stream, func(s jetstream.StreamState) int64 { return max(int64(s.Bytes), 1) }); err != nil {
				return err
			}
			err := between(ctx, r, 3*time.Second, 15*time.Second)
			return errors.Join(err, w.limit(ctx, stream, func(jetstream.StreamState) int64 { return -1 }))
		}})
	}
	return all
}

// limit sets how many bytes a stream may have.
func (w *world) limit(ctx context.Context, stream string, bytes func(jetstream.StreamState) int64) error {
	return asking(ctx, func(ctx context.Context) error {
		s, err := w.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		c := s.CachedInfo().Config
		c.MaxBytes = bytes(s.CachedInfo().State)
		_, err = w.js.UpdateStream(ctx, c)
		return err
	})
}

// deletions remove each bucket, and each durable consumer. The pipeline has to
// make them again.
func deletions() (all []fault) {
	for _, b := range topology.Buckets(topology.DefaultConfig()) {
		all = append(all, fault{name: "deletion of " + b.Bucket, kind: "deletion of a bucket", harm: func(ctx context.Context, w *world, _ *rand.Rand) error {
			return asking(ctx, func(ctx context.Context) error {
				err := w.js.DeleteKeyValue(ctx, b.Bucket)
				if errors.Is(err, jetstream.ErrBucketNotFound) { // a lost answer
					err = nil
				}
				return err
			})
		}})
	}
	for _, c := range durables {
		all = append(all, fault{name: "deletion of consumer " + c.name, kind: "deletion of a consumer", harm: func(ctx context.Context, w *world, _ *rand.Rand) error {
			return asking(ctx, func(ctx context.Context) error {
				err := w.js.DeleteConsumer(ctx, c.stream, c.name)
				if errors.Is(err, jetstream.ErrConsumerNotFound) {
					err = nil
				}
				return err
			})
		}})
	}
	return all
}

// durables are the consumers of the stages.
var durables = []struct{ stream, name string }{
	{topology.StreamRaw, topology.EnrichDurable(source)},
	{topology.StreamEnriched, topology.DeliverDurable(destination)},
	{topology.StreamAdvisories, topology.CollectConsumer(topology.Delivery{}).Durable},
}

// askFor bounds one try to ask JetStream, whose streams answer nothing while they
// elect a leader.
const askFor = 10 * time.Second

// asking is [process.Await] for what asks JetStream.
func asking(ctx context.Context, ok func(context.Context) error) error {
	return process.Await(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, askFor)
		defer cancel()
		return ok(ctx)
	})
}

// whole is nil if every stream, bucket and consumer is there that the pipeline
// needs.
func (w *world) whole(ctx context.Context) error {
	for _, s := range topology.Streams(topology.DefaultConfig()) {
		if _, err := w.js.Stream(ctx, s.Name); err != nil {
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
	}
	for _, b := range topology.Buckets(topology.DefaultConfig()) {
		if _, err := w.js.KeyValue(ctx, b.Bucket); err != nil {
			return fmt.Errorf("bucket %s: %w", b.Bucket, err)
		}
	}
	for _, c := range durables {
		if _, err := w.js.Consumer(ctx, c.stream, c.name); err != nil {
			return fmt.Errorf("consumer %s: %w", c.name, err)
		}
	}
	return nil
}
