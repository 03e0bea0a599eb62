package ingress

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/control"
)

// storedRequest is what is stored of the request that a trigger came in.
type storedRequest struct {
	sequence uint64 // of the trigger
	event    event.Event
	msgID    string
	trigger  []byte // the trigger's body

	receivedAt  time.Time
	received    event.Received
	body        []byte // of the request
	altered     bool   // it isn't what was received
	contentType string
	encoding    string
}

// readStored reads a trigger and the request that it came in.
func (s *Service) readStored(ctx context.Context, req control.VerifyRequest) (r storedRequest, err error) {
	sequence := req.Sequence
	m, err := s.rawMessage(ctx, sequence)
	if err != nil {
		return r, err
	}
	unverifiable := func(why string) error { return fmt.Errorf("trigger %d %w: %s", sequence, control.ErrUnverifiable, why) }
	if !strings.HasPrefix(m.Subject, event.PrefixRaw+".") {
		return r, unverifiable("it is none")
	}
	e, err := event.FromHeader(m.Header)
	switch {
	case err != nil:
		return r, unverifiable("it is not Tercel's")
	case req.Of != (control.Expected{}) && !req.Of.Answers(e):
		return r, fmt.Errorf("trigger %d is %w: event %s of %s has its place since the stream was made anew", sequence, control.ErrGone, e.ID, e.Source)
	case e.Resource != "" || e.Origin != event.Webhook && e.Origin != event.Replay:
		return r, unverifiable("it came in no request; a run of the reconciler sent it in")
	case e.Edited:
		return r, unverifiable("its body was edited, which nobody signed")
	}
	r = storedRequest{
		sequence: sequence, event: e, msgID: m.Header.Get(jetstream.MsgIDHeader), trigger: m.Data, receivedAt: e.ReceivedAt, body: m.Data,
		altered: e.ReceivedHash != "", contentType: e.ContentType,
	}
	kept := e.Received
	if e.Request != "" {
		if kept, err = s.readWhole(ctx, &r); err != nil {
			return r, err
		}
	}
	if kept == "" {
		return r, unverifiable("it is older than that what requests are checked by is stored")
	}
	if r.received, err = event.ParseReceived(kept); err != nil {
		return r, unverifiable(err.Error())
	}
	if r.received.TooLarge {
		return r, unverifiable(fmt.Sprintf("what its request was checked by was larger than %d bytes, and is not stored", event.MaxReceived))
	}
	return r, nil
}

// readWhole reads the request that is stored beside its triggers, and returns what
// is kept of it beside its body.
func (s *Service) readWhole(ctx context.Context, r *storedRequest) (kept string, err error) {
	at, err := s.findWhole(ctx, r)
	if err != nil {
		return "", err
	}
	m, err := s.rawMessage(ctx, at)
	if err != nil {
		return "", err
	}
	e, err := event.FromHeader(m.Header)
	if err != nil {
		return "", fmt.Errorf("request %d %w: it is not Tercel's", at, control.ErrUnverifiable)
	}
	if m.Header.Get(event.HeaderReceivedHash) != "" {
		return "", fmt.Errorf("trigger %d %w: the request that it came in is not stored (redact.stored)", r.sequence, control.ErrUnverifiable)
	}
	r.receivedAt, r.body, r.altered, r.contentType = e.ReceivedAt, m.Data, r.event.ReceivedHash != "", e.ContentType
	r.encoding = m.Header.Get(event.HeaderContentEncoding)
	return e.Received, nil
}

// slack is how far the clocks of a host and of the server may differ.
const slack = 2 * time.Second

// findWhole finds the request that a trigger names. It is stored just before its
// triggers, or, where they were tried several times, within the dedup window. Single
// messages are read for it: an ingress may make no consumer.
func (s *Service) findWhole(ctx context.Context, r *storedRequest) (uint64, error) {
	stream, err := s.js.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", topology.StreamRaw, err)
	}
	for _, back := range []time.Duration{slack, slack + s.cfg.Streams.DedupWindow} {
		at, err := firstSince(ctx, stream, r.event.ReceivedAt.Add(-back), r.sequence)
		for err == nil {
			var m *jetstream.RawStreamMsg
			m, err = stream.GetMsg(ctx, at, jetstream.WithGetMsgSubject(r.event.RequestSubject()))
			if err != nil || m.Sequence > r.sequence {
				break
			}
			if e, err := event.FromHeader(m.Header); err == nil && e.ID == r.event.Request {
				return m.Sequence, nil
			}
			at = m.Sequence + 1
		}
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return 0, fmt.Errorf("find request %s: %w", r.event.Request, err)
		}
	}
	return 0, fmt.Errorf("the request that trigger %d came in is %w", r.sequence, control.ErrGone)
}

// firstSince is the sequence of the first message that was stored at a time or
// later, or before, the one before which it is looked for.
func firstSince(ctx context.Context, stream jetstream.Stream, at time.Time, before uint64) (uint64, error) {
	low := stream.CachedInfo().State.FirstSeq
	for high := before; low < high; {
		middle := low + (high-low)/2
		m, err := stream.GetMsg(ctx, middle, jetstream.WithGetMsgSubject(">")) // the next one that is there
		switch {
		case err != nil:
			return 0, err
		case m.Sequence >= high || !m.Time.Before(at):
			high = middle
		default:
			low = m.Sequence + 1
		}
	}
	return low, nil
}

// rawMessage reads a message of TERCEL_RAW.
func (s *Service) rawMessage(ctx context.Context, sequence uint64) (*jetstream.RawStreamMsg, error) {
	gone := fmt.Errorf("trigger %d is %w", sequence, control.ErrGone)
	if sequence == 0 {
		return nil, gone
	}
	stream, err := s.js.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", topology.StreamRaw, err)
	}
	m, err := stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, gone
	}
	if err != nil {
		return nil, fmt.Errorf("message %s %d: %w", topology.StreamRaw, sequence, err)
	}
	return m, nil
}
