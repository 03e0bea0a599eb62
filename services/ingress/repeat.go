package ingress

import (
	"context"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/seen"
)

// line is what told a repeat, a closed set.
type line string

const (
	// lineWindow: it came within the stream's dedup window.
	lineWindow line = "window"
	// lineHorizon: it came later, and package seen knew the first.
	lineHorizon line = "horizon"
	// lineBody: it had the first one's body and another delivery id, which
	// nothing signs.
	lineBody line = "body"
	// lineListed: the source's own list of events had it, from which it was sent
	// in meanwhile.
	lineListed line = "listed"
	// lineRequest: the request itself had it twice.
	lineRequest line = "request"
)

var lines = []line{lineWindow, lineHorizon, lineBody, lineListed, lineRequest}

// messageID is the Nats-Msg-Id by which repeats are told (promise 4). Where
// nothing signs the delivery id it is the body's hash: by a captured body under
// a fresh id nobody makes a second event.
func (in *inspection) messageID(it *item) string {
	keyed := it.event
	if in.route.bodyIsKey && it.event.DeliveryID != "" {
		keyed.ID = event.Unsigned("", in.signedHash(it))
	}
	return keyed.MsgID()
}

// late tells a repeat of what was stored within the source's horizon. Beyond the
// dedup window nothing else would, and within it no request is stored beside events
// that are there already.
func (s *Service) late(ctx context.Context, in *inspection, it *item) (result, bool) {
	if in.route.horizon == 0 {
		return result{}, false
	}
	first, ok := s.seen.Find(ctx, it.msgID, in.route.horizon, in.isKept())
	if !ok && in.route.listed {
		if first, ok = s.seen.Find(ctx, it.event.ListedMsgID(), in.route.horizon, true); ok {
			s.meter.absorbed(ctx, in.route.name, lineListed)
			return result{outcome: duplicate, eventID: first.EventID}, true
		}
	}
	if !ok {
		return result{}, false
	}
	l := lineHorizon
	if time.Since(first.StoredAt) < in.route.window {
		l = lineWindow
	}
	return s.absorbed(ctx, in, it, first, l), true
}

// mark notes where the event is stored, for the repeats that come later.
func (s *Service) mark(in *inspection, it *item, ack publish.Ack) {
	switch {
	case in.route.horizon == 0:
	case ack.Duplicate:
		s.seen.Mark(it.msgID, ack.Sequence)
	default:
		s.seen.Stored(it.msgID, seen.Found{
			Sequence: ack.Sequence, StoredAt: time.Now(), EventID: it.event.ID, DeliveryID: it.event.DeliveryID,
		})
	}
}

// repeated is the outcome of what JetStream's window has told to be a repeat.
func (s *Service) repeated(ctx context.Context, in *inspection, it *item, sequence uint64) result {
	var first seen.Found
	if in.route.bodyIsKey && s.seen != nil { // else the id is the same
		first, _ = s.seen.At(ctx, it.msgID, sequence) // without it, only the count is less exact
	}
	return s.absorbed(ctx, in, it, first, lineWindow)
}

// absorbed counts a repeat. first may be the zero value if it isn't known.
func (s *Service) absorbed(ctx context.Context, in *inspection, it *item, first seen.Found, l line) result {
	id := it.event.ID
	if first.EventID != "" && first.EventID != id {
		id, l = first.EventID, lineBody
	}
	s.meter.absorbed(ctx, in.route.name, l)
	return result{outcome: duplicate, eventID: id}
}
