// Package collector makes dead letters: it reads the advisories in which the
// server tells that a stage gave a message up, fetches the message that each
// one names, and keeps it with its full context on TERCEL_DLQ. A stage stores
// the letter of what it gives up itself; what is left are the messages whose
// workers crashed or hung.
//
// An advisory can come although the message's work was done: the server counts
// a delivery as failed when its answer is late, and a worker that answers after
// the last one succeeds all the same. Whether it did can't be known here
// cheaply (its event may be under any record's subject), so the letter is made:
// a letter too many is looked at by a person and is safe to replay, a letter
// too few is a lost message. Advisories can also be lost; the audit finds the
// triggers that this leaves without an outcome.
package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Config is how a [Collector] works.
type Config struct {
	// Collect is how advisories are worked through. An advisory that is given
	// up leaves its message without a letter, so MaxAttempts times RetryMax
	// must outlast any time in which TERCEL_DLQ takes nothing.
	Collect consume.Config
}

// Deps are what a [Collector] borrows.
type Deps struct {
	JetStream jetstream.JetStream
	Log       *slog.Logger
}

// Collector turns advisories into dead letters. Any number of them, in one
// process or many, share the work.
type Collector struct {
	deps      Deps
	loop      *consume.Loop
	collected metric.Int64Counter

	mu      sync.Mutex
	strange map[string]bool // consumers of others that were logged; guarded by mu
}

// maxStrange bounds the consumers that are remembered as logged. Beyond it the
// rest goes unlogged: there is nothing to do about them anyway.
const maxStrange = 1000

// New returns a collector. Its error names what is wrong with cfg.
func New(cfg Config, deps Deps) (*Collector, error) {
	c := &Collector{deps: deps, strange: map[string]bool{}}
	var err error
	if c.collected, err = metrics.DeadLettersCollected.Counter(); err != nil {
		return nil, err
	}
	c.loop, err = consume.New(cfg.Collect, topology.StreamAdvisories, topology.CollectConsumer(cfg.Collect.Delivery()),
		consume.Each(c.handle), consume.Deps{JetStream: deps.JetStream, Log: deps.Log})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Run works until ctx ends, then finishes what is in hand and returns nil.
func (c *Collector) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// handle makes the letter of one advisory. It returns only after the letter is
// stored, so that the advisory is acknowledged last (promise 5).
func (c *Collector) handle(ctx context.Context, m consume.Message) error {
	a, err := decode(m.Data)
	if err != nil {
		// What the server tells of this one's end is about the advisories' own
		// stream, of which no letters are made: no circle begins.
		return fault.Permanent(fmt.Errorf("advisory %d: %w", m.Sequence, err))
	}
	stage, name, ok := topology.Stage(a.Consumer)
	if !ok || stageOf[a.Stream] != stage {
		c.ignore(ctx, a)
		return nil
	}
	l, kept, err := c.kept(ctx, a)
	if err != nil {
		return err
	}
	if !kept {
		if l, err = c.letter(ctx, a, m.Attempt); err != nil {
			return err
		}
		ack, err := deadletter.Publish(ctx, c.deps.JetStream, l)
		if err != nil || ack.Duplicate {
			return err
		}
		l.Sequence = ack.Sequence
	}
	c.collected.Add(ctx, 1, metrics.DeadLettersCollected.With(stage, name, string(l.Reason.Class)))
	c.deps.Log.LogAttrs(ctx, slog.LevelWarn, "dead letter collected", slog.String("stage", stage),
		slog.String("name", name), slog.Uint64("letter", l.Sequence), slog.String("event_id", l.Header.Get(event.HeaderID)),
		slog.String("class", string(l.Reason.Class)), slog.Bool("payload_missing", l.PayloadMissing))
	return nil
}

// kept returns the letter that the stage stored itself before it gave the
// message up. The advisory's word is held against the letter: a power cut may
// have taken that, and another may be in its place.
func (c *Collector) kept(ctx context.Context, a advisory) (l deadletter.Letter, ok bool, err error) {
	sequence := a.reason().Letter
	if sequence == 0 {
		return l, false, nil
	}
	l, err = deadletter.Get(ctx, c.deps.JetStream, sequence)
	if errors.Is(err, deadletter.ErrNotFound) {
		return l, false, nil
	}
	return l, err == nil && l.Stream == a.Stream && l.Consumer == a.Consumer && l.OriginalSequence == a.Sequence, err
}

// stageOf tells which stage reads a stream on Tercel's own account.
var stageOf = map[string]string{
	topology.StreamRaw:      topology.StageEnrich,
	topology.StreamEnriched: topology.StageDeliver,
}

// ignore leaves the consumers of other teams to them, and the collector's own
// to the log of its loop.
func (c *Collector) ignore(ctx context.Context, a advisory) {
	id := a.Stream + " " + a.Consumer
	c.mu.Lock()
	first := !c.strange[id] && len(c.strange) < maxStrange
	if first {
		c.strange[id] = true
	}
	c.mu.Unlock()
	if first {
		c.deps.Log.LogAttrs(ctx, slog.LevelWarn, "failed deliveries of a consumer that is no stage are not collected",
			slog.String("stream", a.Stream), slog.String("consumer", a.Consumer))
	}
}

// believeGone is the attempt at which a message that can't be found is taken
// for gone. Reads may be answered by a replica that is a moment behind.
const believeGone = 3

// letter gathers what is known of the message that a is about.
func (c *Collector) letter(ctx context.Context, a advisory, attempt int) (deadletter.Letter, error) {
	l := deadletter.Letter{
		Stream: a.Stream, Consumer: a.Consumer, OriginalSequence: a.Sequence,
		Kind: a.kind(), DeadAt: a.Timestamp, Reason: a.reason(),
	}
	s, err := c.deps.JetStream.Stream(ctx, a.Stream)
	if err != nil {
		return l, fmt.Errorf("stream %s: %w", a.Stream, err)
	}
	m, err := s.GetMsg(ctx, a.Sequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		if a.Sequence >= s.CachedInfo().State.FirstSeq && attempt < believeGone {
			return l, fault.RetryAfter(fmt.Errorf("message %s %d: %w", a.Stream, a.Sequence, err), time.Second)
		}
		l.PayloadMissing = true
		return l, nil
	case err != nil:
		return l, fmt.Errorf("message %s %d: %w", a.Stream, a.Sequence, err)
	}
	l.StoredAt, l.Subject, l.Header, l.Payload = m.Time, m.Subject, m.Header, m.Data
	l.MsgID = m.Header.Get(jetstream.MsgIDHeader)
	if l.Reason.FirstAt.IsZero() {
		l.Reason.FirstAt = m.Time
	}
	if l.Reason.TraceID == "" {
		// Not from ctx: that has the trace of the collecting.
		if sc := trace.SpanContextFromContext(event.ExtractTrace(context.Background(), m.Header)); sc.HasTraceID() {
			l.Reason.TraceID = sc.TraceID().String()
		}
	}
	return l, nil
}
