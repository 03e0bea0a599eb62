package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/topology"
)

// together is how many triggers are sent again side by side.
const together = 64

// recover sends lost triggers again. An error leaves it to the next pass to
// send the rest; those that were sent are then absorbed as repeats.
func (a *Audit) recover(ctx context.Context, source string, lost []trigger) (recovered int, err error) {
	if len(lost) == 0 {
		return 0, nil
	}
	stream, err := a.js.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", topology.StreamRaw, err)
	}
	pub, err := publish.New(a.js.Conn(), publish.Config{Group: a.cfg.Streams.Grouped(), Queue: 2 * together})
	if err != nil {
		return 0, err
	}
	defer pub.Close()
	var mu sync.Mutex // guards recovered and errs
	var errs []error
	for chunk := range slices.Chunk(lost, together) {
		var wg sync.WaitGroup
		for _, t := range chunk {
			wg.Go(func() {
				sent, err := a.resend(ctx, stream, pub, source, t)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					errs = append(errs, err)
				case sent:
					recovered++
				}
			})
		}
		wg.Wait()
		if len(errs) > 0 {
			break
		}
	}
	a.recovered.Add(ctx, int64(recovered), metrics.TriggersRecovered.With(source))
	return recovered, errors.Join(errs...)
}

// resend publishes one trigger again under an id that a second attempt of the
// same repair shares, so that the stream takes it once even if the audit dies
// before it notes how far it has come.
func (a *Audit) resend(
	ctx context.Context, stream jetstream.Stream, pub *publish.Publisher, source string, t trigger,
) (sent bool, err error) {
	log := func(text, id string) {
		a.deps.Log.LogAttrs(ctx, slog.LevelError, text, slog.String("source", source), slog.String("event_id", id),
			slog.Uint64("sequence", t.sequence), slog.Time("stored_at", t.storedAt))
	}
	original, err := stream.GetMsg(ctx, t.sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		log("trigger was accepted but lost inside, and has just left its stream", "")
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("message %s %d: %w", topology.StreamRaw, t.sequence, err)
	}
	m := event.Again(ctx, "audit", original.Subject, original.Header, original.Data)
	m.Header.Set(event.HeaderTriggerSequence, strconv.FormatUint(t.first, 10))
	m.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("%s:%s:audit-%d", t.msgID, event.Replay, t.sequence))
	ack, err := pub.Publish(ctx, m)
	if err != nil {
		return false, fmt.Errorf("send trigger %d again: %w", t.sequence, err)
	}
	if !ack.Duplicate {
		log("trigger was accepted but lost inside: sent again", original.Header.Get(event.HeaderID))
	}
	return !ack.Duplicate, nil
}
