package ingress

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/seen"
)

// messageBytes is about the memory that a message takes beside its body.
const messageBytes = 2 << 10

// storeAll stores the request and the events that it holds, all or none. The
// request goes first, so that whatever is stored has its evidence (promise 8).
//
// A batch holds publish.MaxAll messages. Of a request with more events the
// batches go one after the other, and it is only accepted with the last: one
// that fails between leaves the first ones stored. Their sender is told to come
// again, and then they are repeats, by their ids.
func (s *Service) storeAll(ctx context.Context, in *inspection) (result, *refusal) {
	whole := in.message(ctx)
	if !s.fits(whole) || !s.fitItems(ctx, in.items) {
		return result{}, tooLarge("body and attributes don't fit into the server's max_payload")
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StoreTimeout) // for all batches together
	defer cancel()
	res := result{outcome: duplicate, events: len(in.items)}
	if len(in.items) == 0 {
		res.outcome = empty
		return res, nil
	}
	fresh := s.fresh(ctx, in)
	if no := in.stay.more(int64(min(len(fresh), publish.MaxAll)) * messageBytes); no != nil {
		return result{}, no
	}
	first := []*nats.Msg{whole}
	for part := range slices.Chunk(fresh, publish.MaxAll-1) {
		stored, err := s.storePart(ctx, in, first, part)
		if err != nil {
			return result{}, storeRefusal(err)
		}
		if stored > 0 {
			res.outcome = accepted
		}
		first = nil
	}
	if in.isWhole() {
		res.events, res.eventID = 0, in.items[0].event.ID
	}
	return res, nil
}

// message is the request as it was received.
func (in *inspection) message(ctx context.Context) *nats.Msg {
	e := in.requestEvent()
	msg := nats.NewMsg(e.RequestSubject())
	msg.Header = e.Header()
	msg.Header.Set(jetstream.MsgIDHeader, e.MsgID())
	if in.encoding != "" {
		msg.Header[event.HeaderContentEncoding] = []string{string(in.encoding)}
	}
	event.InjectTrace(ctx, msg.Header)
	if in.route.source.Redact.Stored { // where in it its events are isn't for the rules to say
		sum := sha256.Sum256(in.received)
		msg.Header[event.HeaderReceivedHash] = []string{hex.EncodeToString(sum[:])}
		return msg
	}
	msg.Data = in.received
	return msg
}

// fitItems reports whether the server takes the triggers of all items. Only
// those that are nearly too large are made for it.
func (s *Service) fitItems(ctx context.Context, items []item) bool {
	near := s.deps.Conn.MaxPayload() - mostHeaders
	for i := range items {
		if int64(len(items[i].body)) > near && !s.fits(items[i].message(ctx)) {
			return false
		}
	}
	return true
}

// storePart publishes messages and the triggers of some events in one batch. It
// returns how many of the events are new.
func (s *Service) storePart(ctx context.Context, in *inspection, msgs []*nats.Msg, part []*item) (stored int, err error) {
	before := len(msgs)
	for _, it := range part {
		msgs = append(msgs, it.message(ctx))
	}
	acks, err := s.pub.PublishAll(ctx, msgs)
	if err != nil {
		return 0, err
	}
	for i, ack := range acks[before:] {
		s.mark(in, part[i], ack)
		if ack.Duplicate {
			s.absorbed(ctx, in, part[i], seen.Found{}, lineWindow)
		} else {
			stored++
		}
	}
	s.meter.storedTriggers(in.route.name, stored)
	return stored, nil
}

// fresh returns the request's events without those that it has twice and
// those that the second line knows.
func (s *Service) fresh(ctx context.Context, in *inspection) []*item {
	known := make(map[string]struct{}, len(in.items))
	var once []*item
	for i := range in.items {
		it := &in.items[i]
		if _, twice := known[it.msgID]; twice {
			s.absorbed(ctx, in, it, seen.Found{}, lineRequest)
			continue
		}
		known[it.msgID] = struct{}{}
		once = append(once, it)
	}
	if in.route.horizon == 0 {
		return once
	}
	return s.withoutLate(ctx, in, once)
}

// maxAsking bounds the questions to the server that one request asks at once.
const maxAsking = 16

// withoutLate leaves out what the second line knows. For what is new it asks
// nobody; a late repeat of many events asks for each.
func (s *Service) withoutLate(ctx context.Context, in *inspection, items []*item) []*item {
	late := make([]bool, len(items))
	var asking sync.WaitGroup
	size := (len(items) + maxAsking - 1) / maxAsking
	for from := 0; from < len(items); from += size {
		asking.Go(func() {
			for i := from; i < min(from+size, len(items)); i++ {
				_, late[i] = s.late(ctx, in, items[i])
			}
		})
	}
	asking.Wait()
	var fresh []*item
	for i, it := range items {
		if !late[i] {
			fresh = append(fresh, it)
		}
	}
	return fresh
}
