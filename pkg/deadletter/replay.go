package deadletter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
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
	// LeaveDiscarded refuses a letter that is discarded: it was chosen before that.
	LeaveDiscarded bool
	// Stage is where the message begins, [topology.StageVerify],
	// [topology.StageEnrich] or [topology.StageDeliver]. Defaults to the stage that
	// gave it up.
	Stage string
	// Verify has the request of a stored trigger checked again, and the trigger sent
	// to those destinations, or all for "", if it is accepted. If it isn't the trigger
	// of that event, since its stream was made anew, it has to refuse it. Required
	// with [topology.StageVerify].
	Verify func(ctx context.Context, trigger uint64, of event.Event, destinations string) (Replayed, error)
	// Destinations are the only ones that get what is sent again. Defaults to the
	// one that could not be served, or for a message that no destination has had
	// yet, to all that subscribe to it.
	Destinations []string
}

// Replay sends the original message of a letter again, or what an edit made of
// it, to its own subject, under the same event id: the stage that gave it up gets
// it anew, and of the destinations only those that opts choose. It goes under a
// fresh Nats-Msg-Id, since inside the dedup window the server would swallow the
// old one. A trigger sent again names the first one's sequence, so that the event
// which answers it answers the first.
//
// That it was replayed is noted only after the message is stored (promise 5):
// a crash in between leaves the letter open, and replaying it again is safe.
// Errors that callers tell apart are [ErrNotFound], [ErrPayloadMissing],
// [ErrStage], without Force [ErrReplayed], and with LeaveDiscarded [ErrDiscarded].
func Replay(ctx context.Context, js jetstream.JetStream, seq uint64, opts ReplayOptions) (Replayed, error) {
	l, err := Get(ctx, js, seq)
	if err != nil {
		return Replayed{}, err
	}
	fail := func(err error) (Replayed, error) {
		return Replayed{}, fmt.Errorf("replay dead letter %d: %w", seq, err)
	}
	if l.Replayed != nil && !opts.Force {
		return fail(fmt.Errorf("%w at %s as %s in %s %d", ErrReplayed,
			l.Replayed.At.UTC().Format(time.RFC3339), l.Replayed.MsgID, l.Replayed.Stream, l.Replayed.Sequence))
	}
	if l.State == StateDiscarded && opts.LeaveDiscarded {
		return fail(ErrDiscarded)
	}
	kv, err := js.KeyValue(ctx, topology.BucketDeadLetters)
	if err != nil {
		return fail(err)
	}
	send := l.send
	if opts.Stage == topology.StageVerify {
		send = l.verify
	}
	done, err := send(ctx, js, opts)
	if err != nil {
		return fail(err)
	}
	if err := change(ctx, kv, l, func(r *record) error {
		r.State, r.Replayed = StateReplayed, done
		return nil
	}); err != nil {
		return done, fmt.Errorf("dead letter %d was replayed as %s, but that could not be noted: %w", seq, done.MsgID, err)
	}
	return done, nil
}

// send sends the message with which the letter's way begins again.
func (l Letter) send(ctx context.Context, js jetstream.JetStream, opts ReplayOptions) (Replayed, error) {
	o, err := l.original(ctx, js, opts.Stage)
	if err != nil {
		return Replayed{}, err
	}
	m := o.again(ctx)
	if only := l.destinations(opts); only != "" {
		m.Header.Set(event.HeaderDestinations, only)
	}
	ack, err := js.PublishMsg(ctx, m, jetstream.WithExpectStream(o.stream))
	if err != nil {
		return Replayed{}, err
	}
	return Replayed{
		At: time.Now().UTC(), MsgID: m.Header.Get(jetstream.MsgIDHeader),
		Stream: ack.Stream, Sequence: ack.Sequence, Subject: m.Subject,
	}, nil
}

// verify has the letter's trigger checked again and sent.
func (l Letter) verify(ctx context.Context, _ jetstream.JetStream, opts ReplayOptions) (Replayed, error) {
	trigger := l.Event.TriggerSequence
	if l.Stream == topology.StreamRaw {
		trigger = l.OriginalSequence
	}
	switch {
	case l.Edited:
		return Replayed{}, fmt.Errorf("%w: nobody signed its edit; take the edit back first", ErrStage)
	case l.Event.Edited && l.Stream != topology.StreamRaw:
		return Replayed{}, fmt.Errorf("%w: nobody signed the edit of its trigger; begin at %s", ErrStage, l.Stage)
	case trigger == 0:
		return Replayed{}, fmt.Errorf("%w: it doesn't say which trigger it answers", ErrStage)
	case l.Event.ID == "":
		return Replayed{}, fmt.Errorf("%w: it doesn't say which event it is of, so that another's trigger could be taken for its own", ErrStage)
	case opts.Verify == nil:
		return Replayed{}, fmt.Errorf("%w: nobody is there to check it again", ErrStage)
	}
	return opts.Verify(ctx, trigger, l.Event, l.destinations(opts))
}

// sent is a stored message that is to be sent once more.
type sent struct {
	stream, subject, msgID string
	sequence               uint64
	header                 nats.Header
	data                   []byte
	edited                 bool
}

// original returns the message with which a letter's way begins again.
func (l Letter) original(ctx context.Context, js jetstream.JetStream, stage string) (sent, error) {
	if stage == "" || stage == l.Stage {
		if l.PayloadMissing {
			return sent{}, ErrPayloadMissing
		}
		patch, err := l.patch(ctx, js)
		if err != nil {
			return sent{}, err
		}
		e, err := l.Apply(patch)
		return sent{l.Stream, l.Subject, l.MsgID, l.OriginalSequence, l.Header, e.After, l.Edited}, err
	}
	switch {
	case stage == topology.StageDeliver:
		return sent{}, fmt.Errorf("%w: the enricher gave it up, so there is nothing to deliver yet", ErrStage)
	case stage != topology.StageEnrich:
		return sent{}, fmt.Errorf("%w: stage %q, want %s, %s or %s", ErrStage, stage, topology.StageVerify, topology.StageEnrich, topology.StageDeliver)
	case l.Edited:
		return sent{}, fmt.Errorf("%w: its edit is of the enriched event, which would be made anew; take the edit back first", ErrStage)
	case l.Event.Edited: // what it names is the trigger as it was before
		return sent{}, fmt.Errorf("%w: its trigger was edited, and what was edited away would be sent; begin at %s", ErrStage, l.Stage)
	case l.Event.TriggerSequence == 0:
		return sent{}, fmt.Errorf("%w: it doesn't say which trigger it answers", ErrStage)
	}
	m, err := message(ctx, js, topology.StreamRaw, l.Event.TriggerSequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return sent{}, fmt.Errorf("%w: its trigger is no longer stored", ErrStage)
	}
	if err != nil {
		return sent{}, err
	}
	if err := l.answers(m); err != nil {
		return sent{}, err
	}
	return sent{
		stream: topology.StreamRaw, subject: m.Subject, msgID: m.Header.Get(jetstream.MsgIDHeader),
		sequence: m.Sequence, header: m.Header, data: m.Data,
	}, nil
}

// answers refuses a message, which stands where the letter's trigger stood, unless it
// is that trigger. Another one's event would be sent, and the letter's noted as if it
// had been (promise 3).
func (l Letter) answers(m *jetstream.RawStreamMsg) error {
	t, err := event.FromHeader(m.Header)
	stands := "no trigger"
	if err == nil && strings.HasPrefix(m.Subject, event.PrefixRaw+".") {
		if l.Event.Answers(t) {
			return nil
		}
		stands = "event " + t.ID + " of " + t.Source
		if t.Account != event.NoAccount {
			stands += ", account " + t.Account
		}
	}
	return fmt.Errorf("%w: sequence %d of %s holds %s and not its trigger, since the stream was made anew or its request was checked again; begin at %s",
		ErrStage, m.Sequence, topology.StreamRaw, stands, l.Stage)
}

// again is the message as it is sent once more.
func (o sent) again(ctx context.Context) *nats.Msg {
	m := event.Again(ctx, "replay", o.subject, o.header, o.data)
	if o.stream == topology.StreamRaw && m.Header.Get(event.HeaderTriggerSequence) == "" {
		m.Header.Set(event.HeaderTriggerSequence, strconv.FormatUint(o.sequence, 10))
	}
	if o.edited {
		m.Header.Set(event.HeaderEdited, "true")
	}
	m.Header.Set(jetstream.MsgIDHeader, event.AgainID(o.msgID, event.Replay))
	return m
}

// destinations are those that a replay is for, as its header has them; "" keeps
// those that the original was for.
func (l Letter) destinations(opts ReplayOptions) string {
	if len(opts.Destinations) > 0 {
		return strings.Join(opts.Destinations, ",")
	}
	return l.Destination()
}
