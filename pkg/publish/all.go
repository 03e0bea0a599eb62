package publish

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// MaxAll is the most messages that [Publisher.PublishAll] takes, the server's
// limit of an atomic batch.
const MaxAll = 1000

// maxOpen bounds the batches of PublishAll that are on their way at once. A
// server keeps at most 50 of a stream open, and there are other publishers.
const maxOpen = 16

// member is one message of PublishAll.
type member struct {
	msg *nats.Msg
	ack *Ack
}

// PublishAll stores all messages or none of them, whatever ends in between:
// they go in one atomic batch, at every level of durability and with replicas
// too. Those that the stream has already, by their Nats-Msg-Id, are left out
// of it and acknowledged as duplicates. The acknowledgements are in the order
// of msgs.
//
// The errors are those of [Publisher.Publish]. With [ErrUnavailable] all of
// them or none may have been stored: publish them again under the same ids.
// msgs must come from nats.NewMsg and carry Nats-Msg-Ids that differ from each
// other; at most [MaxAll] are taken. They belong to the publisher from here on.
func (p *Publisher) PublishAll(ctx context.Context, msgs []*nats.Msg) ([]Ack, error) {
	if err := checkAll(msgs); err != nil {
		return nil, err
	}
	select {
	case <-p.done:
		return nil, ErrClosed
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	select {
	case p.open <- struct{}{}:
		defer func() { <-p.open }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %d batches on their way", ErrBusy, maxOpen)
	}
	acks := make([]Ack, len(msgs))
	rest := make([]member, len(msgs))
	for i, m := range msgs {
		rest[i] = member{m, &acks[i]}
	}
	if err := p.storeAll(ctx, rest); err != nil {
		return nil, err
	}
	return acks, nil
}

func checkAll(msgs []*nats.Msg) error {
	if len(msgs) > MaxAll {
		return fmt.Errorf("publish: %d messages at once, want at most %d", len(msgs), MaxAll)
	}
	ids := make(map[string]struct{}, len(msgs))
	for _, m := range msgs {
		ids[m.Header.Get(jetstream.MsgIDHeader)] = struct{}{}
	}
	if _, none := ids[""]; none || len(ids) < len(msgs) {
		return fmt.Errorf("publish: want a %s for each message that no other has", jetstream.MsgIDHeader)
	}
	return nil
}

// retryAll is the pause before a batch is tried again.
const retryAll = 20 * time.Millisecond

// storeAll tries until all of rest is stored or ctx ends. A batch that isn't
// acknowledged was stored whole, or not at all, or is refused whole for an id
// that the server knows: which ones it knows decides what is tried next.
func (p *Publisher) storeAll(ctx context.Context, rest []member) error {
	var flow jetstreamext.BatchFlowControl
	for len(rest) > 0 {
		err := p.batch(ctx, rest, flow)
		if err == nil {
			return nil
		}
		if refused(err) && !passing(err) {
			return storeError(err)
		}
		if isCode(err, jetstreamext.JSErrCodeBatchPublishIncomplete) {
			flow = flowEach // which message was refused, and why, is only told to who asks
		}
		before := len(rest)
		if rest = p.unknown(ctx, rest); len(rest) < before {
			continue
		}
		select {
		case <-time.After(retryAll):
		case <-ctx.Done():
			return fmt.Errorf("%w within %s: %w", ErrUnavailable, p.cfg.Timeout, err)
		}
	}
	return nil
}

// passing reports whether a refusal of a batch ends by itself: a repeat is in
// it, known or still on its way through the replicas; too many batches are
// open; or its beginning met another leader than its end.
func passing(err error) bool {
	return isCode(err, jetstreamext.JSErrCodeBatchPublishDuplicateMsgID) || isCode(err, codeInProcess) ||
		isCode(err, jetstreamext.JSErrCodeBatchPublishIncomplete) || isCode(err, jetstreamext.JSErrCodeAtomicPublishTooManyInflight)
}

// flowEach asks for an answer to each message of a batch.
var flowEach = jetstreamext.BatchFlowControl{AckFirst: true, AckEvery: 1, AckTimeout: time.Second}

// batch publishes rest atomically and fills in its acknowledgements.
func (p *Publisher) batch(ctx context.Context, rest []member, flow jetstreamext.BatchFlowControl) error {
	msgs := make([]*nats.Msg, len(rest))
	for i, m := range rest {
		msgs[i] = m.msg
	}
	first, err := p.atomically(ctx, msgs, flow)
	if err != nil {
		return err
	}
	for i, m := range rest {
		*m.ack = Ack{Sequence: first + uint64(i)}
	}
	return nil
}

// unknown asks the server which ids it knows, fills in the acknowledgements of
// those and returns the others.
func (p *Publisher) unknown(ctx context.Context, rest []member) []member {
	var others []member
	asked := make([]*delivery, len(rest))
	for i, m := range rest {
		asked[i] = p.ask(m.msg)
	}
	for i, m := range rest {
		if ack, ok := p.answered(ctx, asked[i]); ok {
			*m.ack = ack
			continue
		}
		others = append(others, m)
	}
	return others
}

// atomically stores messages as one batch and returns the sequence of the
// first. Half of the time is kept for what is done when no answer comes.
func (p *Publisher) atomically(ctx context.Context, msgs []*nats.Msg, flow jetstreamext.BatchFlowControl) (first uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout/2)
	defer cancel()
	ack, err := jetstreamext.PublishMsgBatch(ctx, p.js, msgs, flow)
	for _, m := range msgs {
		m.Reply = ""
		delete(m.Header, jetstreamext.BatchIDHeader)
		delete(m.Header, jetstreamext.BatchSeqHeader)
		delete(m.Header, jetstreamext.BatchCommitHeader)
	}
	if err != nil {
		return 0, err
	}
	return ack.Sequence - uint64(len(msgs)) + 1, nil
}

// Conditions that never hold: an id that no message has, and a sequence that
// no stream reaches.
const (
	noSuchID       = "tercel.probe"
	noSuchSequence = math.MaxInt64
)

// ask asks the server whether it knows the id of msg. The question is a message
// under that id which could only be stored under a condition that never holds.
// The server looks for duplicates first, so it answers with the place of the
// first, or that the condition doesn't hold; it writes nothing. Which condition
// comes behind the search for duplicates depends on the replicas (nats-server's
// processJetStreamMsg without any, checkMsgHeadersPreClusteredProposal with).
// It returns nil if the question can't be asked.
func (p *Publisher) ask(msg *nats.Msg) *delivery {
	probe := nats.NewMsg(msg.Subject)
	probe.Header.Set(jetstream.MsgIDHeader, msg.Header.Get(jetstream.MsgIDHeader))
	if p.cfg.Replicated {
		probe.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatInt(noSuchSequence, 10))
	} else {
		probe.Header.Set(jetstream.ExpectedLastMsgIDHeader, noSuchID)
	}
	d, err := p.acks.send(probe, time.Now().Add(p.cfg.Timeout), true)
	if err != nil {
		return nil
	}
	return d
}

// answered waits for the answer to a question of ask, and reports whether the
// server knows the id.
func (p *Publisher) answered(ctx context.Context, asked *delivery) (Ack, bool) {
	if asked == nil {
		return Ack{}, false
	}
	r := p.acks.await(ctx, asked)
	return r.ack, r.err == nil && r.ack.Duplicate // without an error it always is: nothing else can be answered well
}
