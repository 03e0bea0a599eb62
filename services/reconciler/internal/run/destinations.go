package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/destination"
)

// withDestinations compares records with every destination that the resource
// names (promise 6). One that a destination lacks goes the whole way again: the
// trigger's own message id makes it pass the windows of the streams, and the
// destination's guard makes a repeat harmless (promises 4 and 7).
func (c *comparison) withDestinations(ctx context.Context, f *found, next *cursor.Window) error {
	sent := make(map[string]bool, len(f.gaps))
	for _, rec := range f.gaps {
		sent[rec.id] = true
	}
	ids := make([]string, len(f.listed))
	for i, rec := range f.listed {
		ids[i] = rec.id
	}
	for _, name := range c.list.Destinations() {
		held, err := c.deps.Destinations[name].Versions(ctx, c.destinationKey(), ids)
		if err != nil {
			return fmt.Errorf("destination %s: %w", name, err)
		}
		d := next.Destinations[name]
		d.Behind = d.Behind || c.behind[name]
		for _, rec := range f.listed {
			h, known := held[rec.id]
			verdict := judge(h, known, rec.version)
			count(&d, verdict)
			if known && !h.Deleted && h.Version != "" {
				d.Held.Add(rec.id, ordinal(h.Version))
			}
			if !isGap(verdict) || sent[rec.id] {
				continue
			}
			sent[rec.id] = true
			c.gap(rec, verdict, name, f, next)
		}
		if next.Destinations == nil {
			next.Destinations = map[string]report.Destination{}
		}
		next.Destinations[name] = d
	}
	return nil
}

func (r *Runner) destinationKey() destination.Key {
	return destination.Key{Source: r.cfg.Key.Source, Account: r.cfg.Key.Account, Resource: r.cfg.Key.Resource}
}

// judge compares what a destination holds with a listed version. It orders
// versions as the destination's own guard does: what that would refuse is
// ahead, and sending it again would change nothing.
func judge(h destination.Held, known bool, listed event.Version) ledger.Verdict {
	switch {
	case !known || h.Version == "" && !h.Deleted:
		return ledger.Missed
	case h.Deleted:
		return ledger.Stale
	case h.Version.Mark() == listed.Mark():
		return ledger.Matched
	case h.Version.Compare(listed) > 0:
		return ledger.Ahead
	default:
		return ledger.Stale
	}
}

func count(d *report.Destination, v ledger.Verdict) {
	switch v {
	case ledger.Matched:
		d.Matched++
	case ledger.Ahead:
		d.Ahead++
	case ledger.Missed:
		d.Missed++
	case ledger.Stale:
		d.Stale++
	}
}

// awaitDelivered waits until the destinations have taken every event that is
// stored now, for at most the configured time, and returns those that have not. One
// that no sink has served yet is not waited for.
func (r *Runner) awaitDelivered(ctx context.Context) (behind map[string]bool, err error) {
	behind = map[string]bool{}
	for _, name := range r.list.Destinations() {
		last, served, err := r.lastFor(ctx, name)
		if err != nil {
			return nil, err
		}
		delivered := false
		if served {
			delivered, err = r.poll(ctx, func() (bool, error) {
				through, err := r.through(ctx, topology.StreamEnriched, topology.DeliverDurable(name))
				return through >= last, err
			})
		}
		if err != nil {
			return nil, err
		}
		behind[name] = !delivered
	}
	return behind, nil
}

// lastFor is the sequence of the last event that a destination is to get, if a sink
// has ever served it.
func (r *Runner) lastFor(ctx context.Context, name string) (last uint64, served bool, err error) {
	stream, err := r.deps.JetStream.Stream(ctx, topology.StreamEnriched)
	if err != nil {
		return 0, false, fmt.Errorf("stream %s: %w", topology.StreamEnriched, err)
	}
	cons, err := stream.Consumer(ctx, topology.DeliverDurable(name))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("consumer of %s: %w", name, err)
	}
	last, err = topology.LastFor(ctx, stream, cons.CachedInfo().Config)
	return last, true, err
}
