// Package relay is the destination that publishes events to another NATS stream,
// of the same cluster or of another.
//
// Events stay as they are, attributes and body. A whole batch is published before
// the first acknowledgement is waited for.
package relay

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// ackTimeout bounds waiting for an acknowledgement: a server that goes away
// doesn't answer any more.
const ackTimeout = 5 * time.Second

// Stream is an open connection to the stream that takes the events. It is safe
// for concurrent use.
type Stream struct {
	cfg  Config
	name string // of the stream
	nc   *nats.Conn
	js   jetstream.JetStream
}

// Config is where a destination publishes to.
type Config struct {
	pipeline.Relay
	// Name is the destination's name, which the server shows with its connection.
	Name string
	// InHand is how many items all calls of [Stream.Write] have at once.
	InHand int
}

// Open connects and finds the stream. A server that is away, and one without a
// stream for the subjects, is an error.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Stream, error) {
	nc, err := boot.Connect(cfg.NATS, "sink-"+cfg.Name, log, nats.RetryOnFailedConnect(false))
	if err != nil {
		return nil, err
	}
	s := &Stream{cfg: cfg, nc: nc}
	if err := s.find(ctx, cfg.InHand); err != nil {
		nc.Close()
		return nil, err
	}
	return s, nil
}

// find finds the stream. Fewer messages in flight than there are in hand would be
// an outage whenever the server takes its time.
func (s *Stream) find(ctx context.Context, inHand int) (err error) {
	if s.js, err = jetstream.New(s.nc, jetstream.WithPublishAsyncMaxPending(inHand),
		jetstream.WithPublishAsyncTimeout(ackTimeout)); err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	subjects := s.cfg.Prefix + ".>"
	if s.name, err = s.js.StreamNameBySubject(ctx, subjects); err != nil {
		return fmt.Errorf("find the stream of %s: %w", subjects, err)
	}
	if s.cfg.Stream != "" && s.name != s.cfg.Stream {
		return fmt.Errorf("stream %s has the subjects %s, want %s", s.name, subjects, s.cfg.Stream)
	}
	if strings.HasPrefix(s.name, "TERCEL_") {
		return fmt.Errorf("stream %s has the subjects %s: its events would come back", s.name, subjects)
	}
	return nil
}

// Close closes the connection.
func (s *Stream) Close() error {
	s.nc.Close()
	return nil
}

// Write publishes items and returns one result for each, in their order, once
// the stream has answered for it or ctx has ended.
func (s *Stream) Write(ctx context.Context, items []delivery.Item) []delivery.Result {
	if !s.nc.IsConnected() { // messages would wait in the client
		return delivery.Out(len(items), s.described(nats.ErrDisconnected))
	}
	results := make([]delivery.Result, len(items))
	acks := make([]jetstream.PubAckFuture, len(items))
	for i, it := range items {
		var err error
		if acks[i], err = s.publish(it); err != nil {
			results[i] = s.meaning(err)
		}
	}
	for i, ack := range acks {
		if ack == nil {
			continue
		}
		select {
		case a := <-ack.Ok():
			results[i].Duplicate = a.Duplicate
		case err := <-ack.Err():
			results[i] = s.meaning(err)
		case <-ctx.Done():
			results[i] = s.meaning(fmt.Errorf("no acknowledgement: %w", ctx.Err()))
		}
	}
	return results
}

func (s *Stream) publish(it delivery.Item) (jetstream.PubAckFuture, error) {
	e := it.Event
	m := nats.NewMsg(s.cfg.Prefix + strings.TrimPrefix(e.EnrichedSubject(), event.PrefixEnriched))
	m.Header, m.Data = e.Header(), it.Body
	// Of the message's other headers none is copied but this: some are orders to
	// the server.
	if parent := it.Header.Get(event.HeaderTraceParent); parent != "" {
		m.Header.Set(event.HeaderTraceParent, parent)
	}
	// What was sent again on purpose has a fresh id, and is to come through. Repeats
	// are those of one destination: others may publish the event to the same stream,
	// which knows ids alone.
	id := s.cfg.Name + "." + s.cfg.Prefix + "." + cmp.Or(it.Header.Get(nats.MsgIdHdr), e.MsgID())
	// Refused by any other stream: an event must not be lost in a wrong one.
	return s.js.PublishMsgAsync(m, jetstream.WithMsgID(id), jetstream.WithExpectStream(s.name))
}

// meaning says whether err is the event's fault. All else is met by any event.
func (s *Stream) meaning(err error) delivery.Result {
	if publish.TooLarge(err) {
		return delivery.Result{Err: fault.Permanent(s.described(err))}
	}
	return delivery.Out(1, s.described(err))[0]
}

func (s *Stream) described(err error) error {
	return fmt.Errorf("publish to stream %s: %w", s.name, err)
}
