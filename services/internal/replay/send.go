package replay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/control"
)

// ErrGone means that a trigger has left its stream, also if another one has its place.
var ErrGone = errors.New("no longer stored")

// Sent is a message that was sent again.
type Sent struct {
	deadletter.Replayed
	// NotRepeated says that a check of its request could not be made again.
	NotRepeated bool
}

// Letters returns what replays dead letters. With [topology.StageVerify] an ingress
// has to be there.
func Letters(js jetstream.JetStream, opts deadletter.ReplayOptions) func(context.Context, uint64) (Sent, error) {
	return func(ctx context.Context, sequence uint64) (s Sent, err error) {
		with := opts
		with.Verify = func(ctx context.Context, trigger uint64, of event.Event, destinations string) (deadletter.Replayed, error) {
			v, err := verified(ctx, js.Conn(), control.VerifyRequest{Sequence: trigger, Destinations: destinations, Of: control.Expect(of)})
			if errors.Is(err, control.ErrGone) || errors.Is(err, control.ErrUnverifiable) {
				err = fmt.Errorf("%w: %w", deadletter.ErrStage, err)
			}
			s.NotRepeated = v.NotRepeated
			return v.Replayed, err
		}
		s.Replayed, err = deadletter.Replay(ctx, js, sequence, with)
		return s, err
	}
}

// verified has a trigger's request checked again, and the trigger sent if it is
// accepted. Otherwise the error is a [*control.Refusal].
func verified(ctx context.Context, nc *nats.Conn, req control.VerifyRequest) (Sent, error) {
	req.Send = true
	v, err := control.Verify(ctx, nc, req)
	switch {
	case err != nil:
		return Sent{}, err
	case !v.Accepted:
		return Sent{}, &control.Refusal{Checks: v.Checks}
	}
	return Sent{NotRepeated: v.NotRepeated(), Replayed: deadletter.Replayed{
		At: time.Now().UTC(), MsgID: v.MsgID, Stream: v.Stream, Sequence: v.Sequence, Subject: v.Subject,
	}}, nil
}

// Triggers returns what sends stored triggers again, from [topology.StageVerify] or
// [topology.StageEnrich]: those of the events that they were chosen for, by their
// sequences. What another event has in its place is [ErrGone].
func Triggers(js jetstream.JetStream, stage string, of map[uint64]control.Expected) func(context.Context, uint64) (Sent, error) {
	return func(ctx context.Context, sequence uint64) (Sent, error) {
		if stage == topology.StageVerify {
			s, err := verified(ctx, js.Conn(), control.VerifyRequest{Sequence: sequence, Of: of[sequence]})
			if errors.Is(err, control.ErrGone) {
				err = fmt.Errorf("%w: %w", ErrGone, err)
			}
			return s, err
		}
		return trigger(ctx, js, sequence, of[sequence])
	}
}

// trigger publishes a stored trigger under a fresh message id; inside the dedup
// window the server would swallow the old one. It has the event id that it had,
// and names the first trigger's sequence, so that the event which answers it
// answers the first.
func trigger(ctx context.Context, js jetstream.JetStream, sequence uint64, of control.Expected) (Sent, error) {
	stream, err := js.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return Sent{}, fmt.Errorf("stream %s: %w", topology.StreamRaw, err)
	}
	original, err := stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Sent{}, ErrGone
	}
	if err != nil {
		return Sent{}, fmt.Errorf("message %s %d: %w", topology.StreamRaw, sequence, err)
	}
	if !strings.HasPrefix(original.Subject, event.PrefixRaw+".") {
		return Sent{}, ErrGone // of the requests and notes in the stream none is a trigger
	}
	e, err := event.FromHeader(original.Header)
	if err != nil {
		return Sent{}, fmt.Errorf("%w: what has its place is not Tercel's", ErrGone)
	}
	if !of.Answers(e) {
		return Sent{}, fmt.Errorf("%w: event %s of %s has its place since the stream was made anew", ErrGone, e.ID, e.Source)
	}
	m := event.Again(ctx, "replay", original.Subject, original.Header, original.Data)
	if m.Header.Get(event.HeaderTriggerSequence) == "" {
		m.Header.Set(event.HeaderTriggerSequence, strconv.FormatUint(sequence, 10))
	}
	m.Header.Set(jetstream.MsgIDHeader, event.AgainID(original.Header.Get(jetstream.MsgIDHeader), event.Replay))
	ack, err := js.PublishMsg(ctx, m, jetstream.WithExpectStream(topology.StreamRaw))
	if err != nil {
		return Sent{}, fmt.Errorf("send trigger %d again: %w", sequence, err)
	}
	return Sent{Replayed: deadletter.Replayed{
		At: time.Now().UTC(), MsgID: m.Header.Get(jetstream.MsgIDHeader), Stream: ack.Stream, Sequence: ack.Sequence, Subject: m.Subject,
	}}, nil
}
