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

// enrichedPoll is the time between two looks at the enricher's consumer.
const enrichedPoll = 100 * time.Millisecond

// awaitEnriched waits until every trigger of the account that is stored now
// has been enriched or given up, for at most the configured time, and reports
// whether it came to that.
func (r *Runner) awaitEnriched(ctx context.Context) (bool, error) {
	stream, err := r.deps.JetStream.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return false, fmt.Errorf("stream %s: %w", topology.StreamRaw, err)
	}
	filter := event.PrefixRaw + "." + r.cfg.Key.Source + "." + event.AccountToken(r.cfg.Key.Account) + ".>"
	last, err := stream.GetLastMsgForSubject(ctx, filter)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("last trigger of %s: %w", r.cfg.Key, err)
	}
	bound := time.NewTimer(r.cfg.CatchUp)
	defer bound.Stop()
	poll := time.NewTicker(enrichedPoll)
	defer poll.Stop()
	for {
		done, err := r.enriched(ctx, stream, last.Sequence)
		if err != nil || done {
			return done, err
		}
		select {
		case <-poll.C:
		case <-bound.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// enriched reports whether the consumer is through with the trigger at
// sequence. That nothing is pending is no proof by itself: a consumer that has
// lost its place says so too, while it stands far behind the stream.
func (r *Runner) enriched(ctx context.Context, stream jetstream.Stream, sequence uint64) (bool, error) {
	cons, err := stream.Consumer(ctx, topology.EnrichDurable(r.cfg.Key.Source))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return false, nil // no enricher has run yet
	}
	if err != nil {
		return false, fmt.Errorf("consumer %s: %w", topology.EnrichDurable(r.cfg.Key.Source), err)
	}
	i := cons.CachedInfo()
	idle := i.NumPending == 0 && i.NumAckPending == 0 && i.Delivered.Stream >= sequence
	return idle || i.AckFloor.Stream >= sequence, nil
}
