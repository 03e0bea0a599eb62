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
		through, err := r.through(ctx, topology.StreamRaw, topology.EnrichDurable(r.cfg.Key.Source))
		return through >= last.Sequence, err
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

// through is up to which message a stage's consumer is through with its stream. That
// nothing is pending is no proof by itself: a consumer that has lost its place says
// so too, while it stands far behind the stream.
func (r *Runner) through(ctx context.Context, stream, durable string) (uint64, error) {
	cons, err := r.deps.JetStream.Consumer(ctx, stream, durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return 0, nil // its stage has never run
	}
	if err != nil {
		return 0, fmt.Errorf("consumer %s: %w", durable, err)
	}
	i := cons.CachedInfo()
	if i.NumPending == 0 && i.NumAckPending == 0 {
		return max(i.Delivered.Stream, i.AckFloor.Stream), nil
	}
	return i.AckFloor.Stream, nil
}
