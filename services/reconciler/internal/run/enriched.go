package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// enrichedPoll is the time between two looks at a stage's consumer.
const enrichedPoll = 100 * time.Millisecond

// awaitEnriched waits until every trigger of the account that is stored now
// has been enriched or given up, for at most the configured time, and reports
// whether it came to that.
func (r *Runner) awaitEnriched(ctx context.Context) (bool, error) {
	last, found, err := r.lastOf(ctx, topology.StreamRaw, event.PrefixRaw)
	if err != nil || !found {
		return err == nil, err
	}
	return r.poll(ctx, func() (bool, error) {
		return r.passed(ctx, topology.StreamRaw, topology.EnrichDurable(r.cfg.Key.Source), last.Sequence)
	})
}

// lastOf returns the account's last message in a stream, whose subjects begin with
// prefix, if there is one.
func (r *Runner) lastOf(ctx context.Context, name, prefix string) (last *jetstream.RawStreamMsg, found bool, err error) {
	stream, err := r.deps.JetStream.Stream(ctx, name)
	if err != nil {
		return nil, false, fmt.Errorf("stream %s: %w", name, err)
	}
	last, err = stream.GetLastMsgForSubject(ctx, prefix+"."+r.subjects())
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("last message of %s in %s: %w", r.cfg.Key, name, err)
	}
	return last, true, nil
}

// poll asks until done says yes, for at most the configured time.
func (r *Runner) poll(ctx context.Context, done func() (bool, error)) (bool, error) {
	bound := time.NewTimer(r.cfg.CatchUp)
	defer bound.Stop()
	again := time.NewTicker(enrichedPoll)
	defer again.Stop()
	for {
		ok, err := done()
		if err != nil || ok {
			return ok, err
		}
		select {
		case <-again.C:
		case <-bound.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// passed reports whether a stage's consumer is through with the message at
// sequence. That nothing is pending is no proof by itself: a consumer that has
// lost its place says so too, while it stands far behind the stream.
func (r *Runner) passed(ctx context.Context, stream, durable string, sequence uint64) (bool, error) {
	cons, err := r.deps.JetStream.Consumer(ctx, stream, durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return false, nil // its stage has never run
	}
	if err != nil {
		return false, fmt.Errorf("consumer %s: %w", durable, err)
	}
	i := cons.CachedInfo()
	idle := i.NumPending == 0 && i.NumAckPending == 0 && i.Delivered.Stream >= sequence
	return idle || i.AckFloor.Stream >= sequence, nil
}
