package consume

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
)

// work takes from the hand until its feed is closed: one message, and whatever
// else is there without waiting, up to a batch.
func (l *Loop) work(ctx context.Context, h *hand) {
	for first := range h.feed {
		batch := []jetstream.Msg{first}
	gather:
		for len(batch) < l.cfg.Batch {
			select {
			case m, ok := <-h.feed:
				if !ok {
					break gather
				}
				batch = append(batch, m)
			case <-time.After(gatherWait):
				break gather
			}
		}
		l.batch(ctx, h, batch)
		h.drop(batch)
	}
}

// gatherWait is how long a batch waits for its next member: messages that come
// together come within this time of each other.
const gatherWait = 2 * time.Millisecond

// inHand is one message between delivery and answer.
type inHand struct {
	msg     jetstream.Msg
	message Message
	span    trace.Span
}

// batch handles messages and answers each. Handlers get no more than Timeout.
func (l *Loop) batch(ctx context.Context, hand *hand, raw []jetstream.Msg) {
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	var held []inHand
	var msgs []Message
	for _, m := range raw {
		meta, err := m.Metadata()
		if err != nil {
			continue // not a JetStream delivery: there is nobody to answer
		}
		h := inHand{msg: m, message: Message{
			Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Stream: meta.Stream,
			Sequence: meta.Sequence.Stream, StoredAt: meta.Timestamp, Attempt: int(meta.NumDelivered),
		}}
		var sctx context.Context
		sctx, h.span = l.startSpan(ctx, h.message)
		if l.cfg.Batch == 1 {
			ctx = sctx // a handler's own spans belong below its message's
		}
		held, msgs = append(held, h), append(msgs, h.message)
	}
	errs := l.call(ctx, msgs)
	// What the handler was given can be used up; answering takes no longer.
	ctx, cancelAnswers := context.WithTimeout(context.WithoutCancel(ctx), l.cfg.Timeout)
	defer cancelAnswers()
	soonest := hand.soonest(l.cfg.RetryMin)
	for i, h := range held {
		outcome := l.settle(ctx, h, errs[i], soonest)
		l.endSpan(h.span, outcome, errs[i])
		l.metrics.settled(ctx, outcome, time.Since(started))
	}
}

// call shields the loop from a handler's panic, which is a programmer's
// mistake about this message: others must still get their turn.
func (l *Loop) call(ctx context.Context, msgs []Message) (errs []error) {
	defer func() {
		if r := recover(); r != nil {
			l.deps.Log.LogAttrs(ctx, slog.LevelError, "handler panicked", slog.String("stage", l.stage),
				slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
			errs = make([]error, len(msgs))
			for i := range errs {
				errs[i] = fmt.Errorf("handler of stage %s panicked", l.stage)
			}
		}
	}()
	errs = l.handle(ctx, msgs)
	if len(errs) != len(msgs) {
		panic(fmt.Sprintf("handler returned %d errors for %d messages", len(errs), len(msgs)))
	}
	return errs
}

// settle gives JetStream the one answer that err deserves (promise 5: the
// handler has returned, so its result is acknowledged or there is none).
func (l *Loop) settle(ctx context.Context, h inHand, err error, soonest time.Duration) Outcome {
	var ackErr error
	outcome := Acked
	delay, asked := fault.Delay(err)
	switch {
	case err == nil:
		ackErr = h.msg.Ack()
	case fault.IsPermanent(err):
		outcome, ackErr = l.giveUp(ctx, h, fault.Fatal, err)
	case h.message.Attempt >= l.cfg.MaxAttempts:
		outcome, ackErr = l.giveUp(ctx, h, fault.Exhausted, err)
	case asked:
		outcome, ackErr = Delayed, h.msg.NakWithDelay(max(delay, soonest))
	default:
		outcome, ackErr = Delayed, h.msg.NakWithDelay(max(l.delay(h.message.Attempt), soonest))
	}
	if err != nil {
		l.deps.Log.LogAttrs(ctx, slog.LevelWarn, "message not handled", slog.String("stage", l.stage),
			slog.String("event_id", h.message.Header.Get(event.HeaderID)), slog.Uint64("sequence", h.message.Sequence),
			slog.Int("attempt", h.message.Attempt), slog.String("outcome", string(outcome)), slog.Any("err", err))
	}
	if ackErr != nil {
		// The server delivers it again after the ack wait; nothing is lost.
		l.deps.Log.LogAttrs(ctx, slog.LevelWarn, "answer not sent", slog.String("stage", l.stage),
			slog.Uint64("sequence", h.message.Sequence), slog.Any("err", ackErr))
	}
	return outcome
}

// keepTimeout bounds the storing of a dead letter.
const keepTimeout = 5 * time.Second

// giveUp terminates a message once it is kept as a dead letter: the server
// tells of a termination once, and loses the word if it crashes at that moment
// (promise 3). A letter that can't be stored is left to the next attempt; after
// the server's own last one it tells of the message itself.
func (l *Loop) giveUp(ctx context.Context, h inHand, class fault.Class, err error) (Outcome, error) {
	r := Reason{
		Class: class, Message: err.Error(), Detail: fault.Detail(err), Attempts: h.message.Attempt,
		FirstAt: h.message.StoredAt, LastAt: time.Now(),
	}
	if sc := h.span.SpanContext(); sc.HasTraceID() {
		r.TraceID = sc.TraceID().String()
	}
	if l.deps.Keep != nil {
		ctx, cancel := context.WithTimeout(ctx, keepTimeout)
		defer cancel()
		letter, err := l.deps.Keep(ctx, h.message, r)
		if err != nil {
			l.deps.Log.LogAttrs(ctx, slog.LevelWarn, "dead letter not stored", slog.String("stage", l.stage),
				slog.Uint64("sequence", h.message.Sequence), slog.Any("err", err))
			return Delayed, h.msg.NakWithDelay(max(l.delay(h.message.Attempt), pullWait))
		}
		r.Letter = letter
	}
	return Terminated, h.msg.TermWithReason(r.Encode())
}

// delay doubles from RetryMin to RetryMax. It has no jitter: the attempts of
// different messages are spread by their own arrival.
func (l *Loop) delay(attempt int) time.Duration {
	d := l.cfg.RetryMin
	for range min(attempt-1, 30) {
		d = min(2*d, l.cfg.RetryMax)
	}
	return d
}
