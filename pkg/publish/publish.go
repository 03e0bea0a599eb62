// Package publish stores messages in one JetStream stream, many at a time.
//
// A server that syncs every message to disk before it acknowledges it can do
// so a few hundred times a second, however many publishers there are. At the
// synced level on one node a [Publisher] therefore commits in groups: whatever
// has queued up while the last group was on its way becomes one atomic batch,
// which the server syncs once. A lone message waits for nobody. A repeat costs
// its neighbours nothing: one that is known to the publisher goes beside the
// batch; one that only the server knows is found by a single round of
// questions that store nothing. At the relaxed
// level, and on a replicated stream (whose servers group by themselves),
// messages go out one by one without waiting for each other.
package publish

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/metrics"
)

// ErrUnavailable is returned when JetStream did not acknowledge a message in
// time. The message may have been stored all the same: publish it again under
// the same Nats-Msg-Id.
var ErrUnavailable = errors.New("jetstream did not acknowledge")

// ErrBusy is returned when the publisher's queue is full. Nothing was stored.
var ErrBusy = errors.New("publisher queue is full")

// ErrClosed is returned after Close. Nothing was stored.
var ErrClosed = errors.New("publisher is closed")

// Codes of the server's refusals of a message for its size, from nats-server's
// jetstream_errors_generated.go: it passes the stream's max_msg_size, or its headers
// are more than any stream takes.
const (
	codeMessageTooLarge jetstream.ErrorCode = 10054
	codeHeaderTooLarge  jetstream.ErrorCode = 10097
)

// TooLarge reports whether err, of a [Publisher] or of package jetstream, says that a
// message will never be taken for its size: by the server, by the stream, or by the
// client, which knows the server's max_payload.
func TooLarge(err error) bool {
	return errors.Is(err, nats.ErrMaxPayload) || isCode(err, codeMessageTooLarge) || isCode(err, codeHeaderTooLarge)
}

// Config is how a [Publisher] works.
type Config struct {
	// Group makes the publisher commit in groups by atomic batches.
	Group bool
	// Replicated says that the stream has replicas, which decides how its server
	// is asked for the ids that it knows. Defaults to false.
	Replicated bool
	// MaxBatch is the most messages in a group. Defaults to 512; the server's
	// limit is 1000.
	MaxBatch int
	// MinBatch is how many messages make a batch worth it: fewer go one by one,
	// side by side. For a batch the server makes and syncs files of its own,
	// which took as long as 20 single syncs where a sync takes 0.2 ms, and as 7
	// where it takes 2 ms. Defaults to 16.
	MinBatch int
	// MaxBatchBytes is how many bytes of bodies end a group. Defaults to 4 MiB.
	MaxBatchBytes int
	// Queue is how many messages may wait, beside those of one group. Defaults to
	// 4096.
	Queue int
	// Timeout bounds one message's whole way. Defaults to 5s.
	Timeout time.Duration
}

func (c Config) withDefaults() Config {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.MaxBatch, 512)
	c.MaxBatch = min(c.MaxBatch, MaxAll)
	set(&c.MinBatch, 16)
	set(&c.MaxBatchBytes, 4<<20)
	set(&c.Queue, 4096)
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	return c
}

// Ack says where a message is stored.
type Ack struct {
	// Sequence is the message's place in the stream.
	Sequence uint64
	// Duplicate says that the stream held the message's id already; Sequence
	// is then that of the first.
	Duplicate bool
}

// Publisher publishes into one stream. It is safe for concurrent use.
type Publisher struct {
	cfg    Config
	js     jetstream.JetStream
	acks   *acks
	open   chan struct{} // places of PublishAll; never closed
	done   chan struct{} // closed by Close
	ended  chan struct{} // closed when the committer has returned
	closer sync.Once
	closed atomic.Bool
	inHand atomic.Int64            // messages that grouped has
	seed   maphash.Seed            // of the ids' hashes
	wake   chan struct{}           // tells the committer that there are as many in the queue as it wants
	sizes  metric.Float64Histogram // of groups
	times  metric.Float64Histogram // that groups took

	mu     sync.Mutex // guards those below
	queue  []*pending
	wanted int                 // in the queue; 0 while the committer doesn't wait
	flying map[uint64]*pending // what is on its way, by the id's hash
	known  recent
	last   group // that was committed
	over   bool  // the committer has returned
}

type result struct {
	ack   Ack
	err   error
	batch string // of an acknowledged batch, its id
	count int    // and the number of its messages
}

// New returns a publisher on nc, which it borrows. Close it.
func New(nc *nats.Conn, cfg Config) (*Publisher, error) {
	cfg = cfg.withDefaults()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	acks, err := newAcks(nc)
	if err != nil {
		return nil, err
	}
	p := &Publisher{
		cfg: cfg, js: js, acks: acks, flying: map[uint64]*pending{}, seed: maphash.MakeSeed(), wake: make(chan struct{}, 1),
		open: make(chan struct{}, maxOpen), done: make(chan struct{}), ended: make(chan struct{}),
	}
	sizes, errSizes := metrics.GroupsCommitted.Histogram()
	times, errTimes := metrics.GroupsStored.Histogram()
	if err := errors.Join(errSizes, errTimes); err != nil {
		return nil, err
	}
	p.sizes, p.times = sizes, times
	if cfg.Group {
		p.known = newRecent(2 * cfg.Queue)
		go p.commitLoop()
		go p.watch()
	} else {
		close(p.ended)
	}
	return p, nil
}

// Close stops taking messages, lets those that wait be committed and returns.
func (p *Publisher) Close() {
	p.closer.Do(func() {
		p.closed.Store(true)
		close(p.done)
	})
	<-p.ended
	p.acks.close()
}

// Publish stores msg and returns once the server has acknowledged it (promise
// 1), or with [ErrUnavailable], [ErrBusy], [ErrClosed], ctx's error, or the
// server's own refusal. msg must come from nats.NewMsg and carry a
// Nats-Msg-Id. It belongs to the publisher from here on, and is only given
// back, with the body and the headers that it had, when there is no error:
// otherwise it may still be on its way.
func (p *Publisher) Publish(ctx context.Context, msg *nats.Msg) (Ack, error) {
	id := msg.Header.Get(jetstream.MsgIDHeader)
	if id == "" {
		return Ack{}, fmt.Errorf("publish to %s: no %s", msg.Subject, jetstream.MsgIDHeader)
	}
	if p.closed.Load() {
		return Ack{}, ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return Ack{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if !p.cfg.Group {
		if p.acks.inFlight() >= p.cfg.Queue {
			return Ack{}, ErrBusy
		}
		return p.one(ctx, msg)
	}
	return p.grouped(ctx, msg, id)
}

// one publishes a single message and waits for its own acknowledgement, at
// most for Timeout.
func (p *Publisher) one(ctx context.Context, msg *nats.Msg) (Ack, error) {
	deadline, leaderless, fresh := time.Now().Add(p.cfg.Timeout), 0, false
	for {
		d, err := p.acks.send(msg, deadline, fresh)
		if err != nil {
			return Ack{}, storeError(err)
		}
		r := p.acks.await(ctx, d)
		if err = r.err; err == nil {
			return r.ack, nil
		}
		pause := 20 * time.Millisecond
		switch {
		case errors.Is(err, errUnsure):
			pause, fresh = 0, true
		case isCode(err, codeInProcess):
			// The first copy of this id is on its way through the replicas: neither
			// stored nor a duplicate yet.
		case errors.Is(err, nats.ErrNoResponders) && leaderless < maxLeaderless:
			pause = 250 * time.Millisecond // a stream has a new leader by then
			leaderless++
		default:
			return Ack{}, storeError(err)
		}
		select {
		case <-time.After(min(pause, time.Until(deadline))):
		case <-ctx.Done():
			return Ack{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
}

// maxLeaderless is how often a message is sent again that nobody serves.
const maxLeaderless = 2

// codeInProcess is the server's answer to a repeat of what its replicas have
// not agreed on yet, from nats-server's jetstream_errors_generated.go.
const codeInProcess jetstream.ErrorCode = 10158

func isCode(err error, code jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == code
}

// storeError tells a server's refusal of the message from a server that could
// not be reached or has no room.
func storeError(err error) error {
	var api *jetstream.APIError
	if TooLarge(err) || errors.As(err, &api) && api.Code == 400 {
		return fmt.Errorf("jetstream refused the message: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
