package run

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/pkg/topology"
)

// arrivalPoll is the time between two looks for webhooks that were asked for.
const arrivalPoll = 500 * time.Millisecond

// redeliver asks the source for missed events again, where it is to be asked
// first, and waits for their webhooks. It marks those that came. All others are
// left to be sent from here: those that the source refuses to send, and all once
// the run has waited its time (promise 10).
func (c *comparison) redeliver(ctx context.Context, gaps []record, fates []fate) error {
	e := c.cfg.Source.Events
	if e.Prefer != provider.PreferRedelivery || c.waited >= e.Redeliver.Wait || len(gaps) == 0 {
		return nil
	}
	since, err := c.end(ctx)
	if err != nil {
		return err
	}
	waiting := map[string]int{} // places in gaps by the event's id
	rest := e.Redeliver.Wait - c.waited
	for i, rec := range gaps {
		asked, err := c.askAgain(ctx, rec)
		if asked {
			waiting[rec.id] = i
		}
		if ctx.Err() != nil || fault.IsPermanent(err) {
			return err
		}
		if err != nil { // it has had enough
			break
		}
	}
	began := time.Now()
	defer func() { c.waited += time.Since(began) }()
	bound := time.NewTimer(rest)
	defer bound.Stop()
	again := time.NewTicker(arrivalPoll)
	defer again.Stop()
	for over := false; len(waiting) > 0 && !over; {
		select {
		case <-again.C:
		case <-bound.C:
			over = true
		case <-ctx.Done():
			return ctx.Err()
		}
		if since, err = c.arrivals(ctx, since, waiting, fates); err != nil {
			return err
		}
	}
	return nil
}

// end is the last sequence of TERCEL_RAW.
func (r *Run) end(ctx context.Context) (uint64, error) {
	stream, err := r.deps.JetStream.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", topology.StreamRaw, err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// askAgain asks the source to send an event's webhook again, at the rate of
// repairs, and reports whether it is going to. What it refuses for this event
// alone is no fault of the run.
func (c *comparison) askAgain(ctx context.Context, rec record) (bool, error) {
	if err := c.deps.Repairs.Wait(ctx); err != nil {
		return false, err
	}
	path, err := c.cfg.Source.Events.Redeliver.Path.Fill(c.path, c.listedScope(rec))
	if err != nil {
		return false, fault.Permanent(fmt.Errorf("redeliver event %s: %w", rec.id, err))
	}
	_, err = c.call(ctx, sourceapi.Request{Method: http.MethodPost, Path: path, Empty: true})
	if errors.Is(err, sourceapi.ErrNotFound) || fault.IsPermanent(err) {
		return false, nil
	}
	return err == nil, err
}

// arrivals looks for webhooks among the triggers behind since, takes those that
// came out of waiting, and returns how far it has looked.
func (c *comparison) arrivals(ctx context.Context, since uint64, waiting map[string]int, fates []fate) (uint64, error) {
	for m, err := range consume.Scan(ctx, c.deps.JetStream, consume.ScanOptions{
		Stream: topology.StreamRaw, HeadersOnly: true, FromSequence: since + 1,
		Subjects: []string{event.PrefixRaw + "." + c.subjects()},
	}) {
		if err != nil {
			return since, err
		}
		since = m.Sequence
		id := event.DeliveryIDOf(m.Header)
		if i, ok := waiting[id]; ok {
			delete(waiting, id)
			if fates[i] = redelivered; m.Header.Get(event.HeaderOrigin) != string(event.Webhook) {
				fates[i] = arrived // another run has stored it
			}
		}
	}
	return since, nil
}
