package consume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/topology"
)

// work takes from the hand until its feed is closed.
func (l *Loop) work(ctx context.Context, h *hand) {
	for first := range h.feed {
		batch := l.gather(h, first)
		l.batch(ctx, h, batch)
		h.drop(batch)
	}
}

// gatherWait is how long a batch waits for more than what is there, where it
// doesn't linger: messages that come together come within this time. Were it
// counted from each of them, a steady stream would make all wait for a full batch.
const gatherWait = 2 * time.Millisecond

// gather returns the messages of a batch: the first, all that are there, and
// what comes in a moment.
func (l *Loop) gather(h *hand, first *message) []*message {
	batch, bytes := []*message{first}, first.size()
	if l.cfg.Batch == 1 {
		return batch
	}
	// More would leave nothing to be pulled while the handlers work, and a batch
	// that lingers would wait for what there is no room for.
	part := int(l.cfg.MaxBytes) / 2 / l.cfg.Workers
	full := time.NewTimer(max(l.cfg.Linger, gatherWait))
	defer full.Stop()
	for len(batch) < l.cfg.Batch && bytes < part {
		m, ok := h.next(full.C)
		if !ok {
			break
		}
		batch, bytes = append(batch, m), bytes+m.size()
	}
	return batch
}

// inHand is one message between delivery and answer.
type inHand struct {
	msg       *message
	message   Message
	delivered uint64 // times, this one among them
	waits     uint64 // of those, the ones that were no attempts
	kept      bool   // something is kept of its waits
	unread    error  // why waits is not known, or nil
	span      trace.Span
}

// crashes is how many deliveries beyond the last attempt may end without an
// answer before a message is given up unseen: its handler takes the process
// down, or hangs, each time.
const crashes = 2

var (
	errUnanswered = errors.New("delivered again and again without an answer: its workers crashed or hung")
	errUnread     = errors.New("not handed out: how many of its deliveries were attempts can't be read now")
	errNoBucket   = errors.New("not handed out: how many of its deliveries were attempts is not known, since bucket " + topology.BucketWaits + " is gone")
)

// batch handles messages and answers each. Handlers get no more than Timeout.
func (l *Loop) batch(ctx context.Context, hand *hand, raw []*message) {
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	held := l.hold(ctx, raw)
	errs := l.call(ctx, held)
	// What the handler was given can be used up; answering takes no longer. To
	// acknowledge waits for nothing, and needs no such bound.
	ctx = context.WithoutCancel(ctx)
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		var cancelAnswers context.CancelFunc
		ctx, cancelAnswers = context.WithTimeout(ctx, l.cfg.Timeout)
		defer cancelAnswers()
	}
	l.countWaits(ctx, l.postponed(held, errs)) // takes no more than its part: dead letters are kept behind it
	soonest := hand.soonest(l.cfg.RetryMin)
	for i, h := range held {
		outcome := l.settle(ctx, h, errs[i], soonest)
		l.note(h, Attempt{outcome, errs[i], time.Since(started)})
		l.endSpan(h.span, outcome, errs[i])
		l.metrics.settled(ctx, h, outcome, time.Since(started))
	}
}

// hold reads what the server says of messages, and what the loop knows of their
// earlier deliveries.
func (l *Loop) hold(ctx context.Context, raw []*message) []*inHand {
	held := make([]*inHand, 0, len(raw))
	for _, m := range raw {
		meta, err := m.msg.Metadata()
		if err != nil {
			continue // not a JetStream delivery: there is nobody to answer
		}
		held = append(held, &inHand{msg: m, delivered: meta.NumDelivered, message: Message{
			Subject: m.msg.Subject, Header: m.msg.Header, Data: m.msg.Data, Stream: meta.Stream,
			Sequence: meta.Sequence.Stream, StoredAt: meta.Timestamp, Age: l.now().Sub(meta.Timestamp),
		}})
	}
	if err := l.waits.load(ctx, min(readPatience, l.cfg.Timeout/2), held); err != nil {
		l.deps.Log.LogAttrs(ctx, slog.LevelWarn, "earlier waits not known", slog.String("stage", l.stage), slog.Any("err", err))
	}
	for _, h := range held {
		h.message.Attempt = int(h.delivered - h.waits)
	}
	return held
}

// postponed are the deliveries that were no attempts.
func (l *Loop) postponed(held []*inHand, errs []error) (waiting []*inHand) {
	for i, h := range held {
		if !fault.IsPermanent(errs[i]) && l.waitsOn(h, errs[i]) {
			waiting = append(waiting, h)
		}
	}
	return waiting
}

// countWaits keeps that deliveries were no attempts, before they are answered.
func (l *Loop) countWaits(ctx context.Context, waiting []*inHand) {
	if err := l.waits.count(ctx, min(readPatience, l.cfg.Timeout/2), waiting); err != nil {
		l.deps.Log.LogAttrs(ctx, slog.LevelWarn, "wait counts as an attempt", slog.String("stage", l.stage), slog.Any("err", err))
	}
}

// note tells of attempts that failed, and of one that followed such.
func (l *Loop) note(h *inHand, a Attempt) {
	counts := h.unread == nil && (!fault.IsPostponed(a.Err) || fault.IsPermanent(a.Err) || a.Outcome == Terminated)
	if l.deps.Note != nil && counts && (a.Err != nil || h.message.Attempt > 1) {
		l.deps.Note(h.message, a)
	}
}

// waitsOn reports whether a message was not tried and may go on waiting.
func (l *Loop) waitsOn(h *inHand, err error) bool {
	return fault.IsQueued(err) || fault.IsPostponed(err) && !l.overdue(h)
}

// overdue reports whether a message has waited for as long as it may.
func (l *Loop) overdue(h *inHand) bool { return l.now().Sub(h.message.StoredAt) > l.cfg.GiveUpAfter }

// call hands messages to the handler, except those that nobody survives. It
// shields the loop from a handler's panic, which is a programmer's mistake about
// this message: others must still get their turn.
func (l *Loop) call(ctx context.Context, held []*inHand) []error {
	errs := make([]error, len(held))
	var msgs []Message
	var places []int
	for i, h := range held {
		var sctx context.Context
		sctx, h.span = l.startSpan(ctx, h.message)
		if l.cfg.Batch == 1 {
			ctx = sctx // a handler's own spans belong below its message's
		}
		if h.unread != nil {
			errs[i] = h.unread
			continue
		}
		if h.message.Attempt > l.cfg.MaxAttempts+crashes {
			errs[i] = errUnanswered
			continue
		}
		msgs, places = append(msgs, h.message), append(places, i)
	}
	if len(msgs) == 0 {
		return errs
	}
	for i, err := range l.shielded(ctx, msgs) {
		errs[places[i]] = err
	}
	return errs
}

func (l *Loop) shielded(ctx context.Context, msgs []Message) (errs []error) {
	defer func() {
		if r := recover(); r != nil {
			l.deps.Log.LogAttrs(ctx, slog.LevelError, "handler panicked", slog.String("stage", l.stage),
				slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
			errs = []error{fmt.Errorf("handler of stage %s panicked", l.stage)}
			if len(msgs) > 1 { // it is the fault of one of them
				errs = errs[:0]
				for i := range msgs {
					errs = append(errs, l.shielded(ctx, msgs[i:i+1])...)
				}
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
func (l *Loop) settle(ctx context.Context, h *inHand, err error, soonest time.Duration) Outcome {
	var ackErr error
	outcome := Acked
	delay, asked := fault.Delay(err)
	ctx = trace.ContextWithSpan(ctx, h.span) // of a batch each has its own, which is logged
	switch {
	case err == nil:
		ackErr = h.msg.ack()
	case h.unread != nil && (h.unread != errNoBucket || !l.overdue(h)): // which counts as an attempt after all, so there are not to be many
		outcome, ackErr = Delayed, h.msg.delay(max(l.cfg.RetryMax, soonest))
	case fault.IsPermanent(err):
		outcome, ackErr = l.giveUp(ctx, h, fault.Fatal, err)
	case l.waitsOn(h, err): // no attempt was made
		if !fault.IsQueued(err) { // or the server's own limit of deliveries would come before ours of time
			delay = max(delay, h.message.Age/waitShare)
		}
		outcome, ackErr = Delayed, h.msg.delay(max(delay, soonest))
	case h.unread != nil, fault.IsPostponed(err), h.message.Attempt >= l.cfg.MaxAttempts:
		outcome, ackErr = l.giveUp(ctx, h, fault.Exhausted, err)
	case asked:
		outcome, ackErr = Delayed, h.msg.delay(max(delay, soonest))
	default:
		outcome, ackErr = Delayed, h.msg.delay(max(l.delay(h.message.Attempt), soonest))
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

// waitShare is the part of its age that a message which was not tried waits at the least,
// so that its deliveries grow with the logarithm of the time: see topology.Delivery.
const waitShare = 1000

// keepTimeout bounds the storing of a dead letter.
const keepTimeout = 5 * time.Second

// giveUp terminates a message once it is kept as a dead letter: the server
// tells of a termination once, and loses the word if it crashes at that moment
// (promise 3). A letter that can't be stored is left to the next delivery, which is
// none more of the attempts: else it would soon say that nobody has answered, and no
// longer what was wrong. After the server's own last one it tells of the message itself.
func (l *Loop) giveUp(ctx context.Context, h *inHand, class fault.Class, err error) (Outcome, error) {
	r := Reason{
		Class: class, Message: err.Error(), Detail: fault.Detail(err), Attempts: h.message.Attempt,
		FirstAt: h.message.StoredAt, LastAt: l.now(),
	}
	if sc := h.span.SpanContext(); sc.HasTraceID() {
		r.TraceID = sc.TraceID().String()
	}
	if l.deps.Keep != nil {
		keeping, cancel := context.WithTimeout(ctx, keepTimeout)
		defer cancel()
		letter, err := l.deps.Keep(keeping, h.message, r)
		if err != nil {
			l.countWaits(ctx, []*inHand{h})
			l.deps.Log.LogAttrs(ctx, slog.LevelWarn, "dead letter not stored", slog.String("stage", l.stage),
				slog.Uint64("sequence", h.message.Sequence), slog.Any("err", err))
			return Delayed, h.msg.delay(max(l.delay(int(h.delivered)), pullWait))
		}
		r.Letter = letter
	}
	return Terminated, h.msg.terminate(r.Encode())
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
