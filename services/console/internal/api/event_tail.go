package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

const (
	// lifeEvery is the time between two signs of life of a tail, so that proxies
	// and callers know that it is there.
	lifeEvery = 15 * time.Second
	maxAge    = 7 * 24 * time.Hour
	// ageSlack is what is added to an age between a caller's reckoning it from a time
	// and its coming here.
	ageSlack = time.Minute
)

// TailEvents sends events as they are stored.
func (s events) TailEvents(ctx context.Context, req *connect.Request[adminv1.TailEventsRequest], out *connect.ServerStream[adminv1.TailEventsResponse]) error {
	f, err := newEventFilter(req.Msg.GetFilter())
	if err != nil {
		return err
	}
	if len(f.GetStatus()) > 0 || f.GetSince() != nil || f.GetUntil() != nil {
		return invalid("filter", "no status, since or until: a tail is of what comes")
	}
	limit := req.Msg.GetMaxPayloadBytes()
	if limit > maxTailPayload {
		return invalid("max_payload_bytes", "at most 1 MiB")
	}
	cfg := jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverNewPolicy, HeadersOnly: limit == 0, InactiveThreshold: time.Minute,
		MaxResetAttempts: 3, // else the client would try to read on for ever where the stream is gone, and heed no context
	}
	if age := req.Msg.GetAge(); age != nil {
		if d := age.AsDuration(); !age.IsValid() || d < 0 || d > maxAge+ageSlack {
			return invalid("age", "0s to 7 days")
		}
		from := s.deps.Now().Add(-age.AsDuration())
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	stream, prefix := topology.StreamEnriched, event.PrefixEnriched
	switch req.Msg.GetStream() {
	case adminv1.TailStream_TAIL_STREAM_UNSPECIFIED, adminv1.TailStream_TAIL_STREAM_ENRICHED:
	case adminv1.TailStream_TAIL_STREAM_RAW:
		if stream, prefix = topology.StreamRaw, event.PrefixRaw; f.byRecord() {
			return invalid("filter.resource", "a tail of enriched events: few triggers say what record they speak of")
		}
	default:
		return invalid("stream", "one of the streams of the contract")
	}
	cfg.FilterSubjects = f.subjects(prefix)
	var sent time.Time
	return s.tail(ctx, stream, cfg, func(m jetstream.Msg) error {
		alive := func() error {
			sent = time.Now()
			return out.Send(&adminv1.TailEventsResponse{})
		}
		if m == nil {
			return alive()
		}
		e, err := event.FromHeader(m.Headers())
		meta, metaErr := m.Metadata()
		if err != nil || metaErr != nil || !f.chooses(e) {
			if time.Since(sent) > lifeEvery {
				return alive()
			}
			return nil
		}
		sent = time.Now()
		return out.Send(&adminv1.TailEventsResponse{Message: s.stored(timeline.Message{
			Stream: meta.Stream, Sequence: meta.Sequence.Stream, StoredAt: meta.Timestamp, Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Event: e,
		}, int(limit))})
	})
}

// tail hands messages to send as they come, and nil when none has come for a
// while, until ctx ends. Nothing is read ahead of a slow caller but one pull.
func (s events) tail(ctx context.Context, name string, cfg jetstream.OrderedConsumerConfig, send func(jetstream.Msg) error) error {
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return err
	}
	cons, err := stream.OrderedConsumer(ctx, cfg)
	if err != nil {
		return err
	}
	messages, err := cons.Messages(jetstream.PullMaxMessages(tailAhead))
	if err != nil {
		return err
	}
	defer func() {
		messages.Stop()
		if info := cons.CachedInfo(); info != nil { // it would stay for a minute, and a stream has a thousand at most
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = stream.DeleteConsumer(bounded, info.Name)
		}
	}()
	if err := send(nil); err != nil { // the caller knows now that from here on all comes
		return err
	}
	for {
		waiting, cancel := context.WithTimeout(ctx, lifeEvery)
		m, err := messages.Next(jetstream.NextContext(waiting))
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			m = nil
		case err != nil:
			return fmt.Errorf("read %s: %w", name, err)
		}
		if err := send(m); err != nil {
			return err
		}
	}
}

// tailAhead is how many messages are pulled at once.
const tailAhead = 32
