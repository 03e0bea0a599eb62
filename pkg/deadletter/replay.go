package deadletter

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// ReplayOptions change how [Replay] works.
type ReplayOptions struct {
	// Force replays a letter that was replayed before.
	Force bool
}

// Replay sends the original message of a letter again, to its own subject: the
// stage that gave it up gets it anew, as does everybody else who reads that
// subject, under the same event id. It goes under a fresh Nats-Msg-Id, since
// inside the dedup window the server would swallow the old one. A trigger sent
// again names the first one's sequence, so that the event which answers it
// answers the first.
//
// That it was replayed is noted only after the message is stored (promise 5):
// a crash in between leaves the letter open, and replaying it again is safe.
// Errors that callers tell apart are [ErrNotFound], [ErrPayloadMissing] and,
// without Force, [ErrReplayed].
func Replay(ctx context.Context, js jetstream.JetStream, seq uint64, opts ReplayOptions) (Replayed, error) {
	l, err := Get(ctx, js, seq)
	if err != nil {
		return Replayed{}, err
	}
	fail := func(err error) (Replayed, error) {
		return Replayed{}, fmt.Errorf("replay dead letter %d: %w", seq, err)
	}
	if l.PayloadMissing {
		return fail(ErrPayloadMissing)
	}
	if l.Replayed != nil && !opts.Force {
		return fail(fmt.Errorf("%w at %s as %s in %s %d", ErrReplayed,
			l.Replayed.At.UTC().Format(time.RFC3339), l.Replayed.MsgID, l.Replayed.Stream, l.Replayed.Sequence))
	}
	kv, err := js.KeyValue(ctx, topology.BucketDeadLetters)
	if err != nil {
		return fail(err)
	}
	m := l.again(ctx)
	ack, err := js.PublishMsg(ctx, m, jetstream.WithExpectStream(l.Stream))
	if err != nil {
		return fail(err)
	}
	done := Replayed{At: time.Now().UTC(), MsgID: m.Header.Get(jetstream.MsgIDHeader), Stream: ack.Stream, Sequence: ack.Sequence}
	value, err := json.Marshal(record{State: StateReplayed, Replayed: done})
	if err != nil {
		return fail(err)
	}
	if _, err := kv.Put(ctx, key(seq), value); err != nil {
		return done, fmt.Errorf("dead letter %d was replayed as %s, but that could not be noted: %w", seq, done.MsgID, err)
	}
	return done, nil
}

// again is l's original as it is sent once more.
func (l Letter) again(ctx context.Context) *nats.Msg {
	m := nats.NewMsg(l.Subject)
	m.Data = l.Payload
	m.Header = original(l.Header)
	m.Header.Set(event.HeaderOrigin, string(event.Replay))
	if l.Stream == topology.StreamRaw && l.Event.TriggerSequence == 0 {
		m.Header.Set(event.HeaderTriggerSequence, strconv.FormatUint(l.OriginalSequence, 10))
	}
	m.Header.Set(jetstream.MsgIDHeader, event.AgainID(l.MsgID, event.Replay))
	event.InjectTrace(ctx, m.Header)
	return m
}
