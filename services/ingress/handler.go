package ingress

import (
	"context"
	"encoding/hex"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/services/internal/lobby"
)

// When a sender that couldn't be served should come again.
const (
	retryCrowded     = time.Second
	retryUnavailable = 5 * time.Second
	retryKey         = 30 * time.Second // after which it is asked for again
)

// publishOverhead is room for what is added to a message on its way: the
// headers of an atomic batch.
const publishOverhead = 256

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	if s.parting.Load() {
		w.Header().Set("Connection", "close")
	}
	if len(r.TransferEncoding) > 0 {
		// Behind a Content-Length beside it, which net/http has removed, another
		// request may be hidden (RFC 9112, section 6.1). It must not be read.
		w.Header().Set("Connection", "close")
	}
	in := inspections.Get().(*inspection) //nolint:forcetypeassert // the pool's New makes nothing else
	in.request, in.writer, in.routes, in.proxies, in.now = r, w, s.routes, s.cfg.TrustedProxies, s.deps.Now()
	in.began = began
	id := nuid.Next()
	res := s.handle(in, id)
	if in.received == nil { // refused before, or a handshake that has no use for a body
		hurry(w)
	}
	res.write(w, id)
	s.meter.answered(in, res, time.Since(began))
	if in.route != nil {
		s.intake.Count(in.route.name, string(res.outcome))
	}
	if in.settled {
		in.reuse()
	}
}

// hurry bounds the wait for what is left of a request, for which net/http waits so that
// the sender hears the answer. Else who sends slowly what isn't read anyway would keep a
// connection for as long as one whose body counts. It makes room meanwhile.
func hurry(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(lobby.Rest)) // a writer without a connection has no wait
}

// handle takes one request through all checks into the stream. A panic is a
// fault of this program, and ends the request and not the process.
func (s *Service) handle(in *inspection, requestID string) (res result) {
	ctx := in.request.Context()
	defer func() {
		if p := recover(); p != nil {
			s.deps.Log.LogAttrs(ctx, slog.LevelError, "panic while handling a request", slog.String("request_id", requestID),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			res = internalError()
		}
	}()
	if no := in.inspect(doorChecks, nil); no != nil {
		s.logRefusal(ctx, in, no, requestID)
		return refuse(no)
	}
	if no := s.room.enter(in); no != nil { // promise 10
		return refuse(no)
	}
	defer in.stay.leave()
	if no := in.route.take(time.Now(), in.account); no != nil {
		return refuse(no)
	}
	return s.receive(in, requestID)
}

// receive reads, checks and stores what handle has let in.
func (s *Service) receive(in *inspection, requestID string) result {
	ctx, span := s.meter.startSpan(in, requestID)
	res := internalError() // unless the end is reached
	defer func() { endSpan(span, res) }()
	no := in.inspect(in.checksInside(), nil)
	if in.strays.n > 0 {
		s.noteStrays(ctx, in, no != nil, requestID)
	}
	if no == nil && in.handshake != nil {
		s.shaken(ctx, in)
		res = result{outcome: shaken, handshake: in.handshake.Name, reply: in.response.Answer, header: in.response.Header}
		return res
	}
	if no == nil {
		in.note(s.host)
		in.redactStored()
		if res, no = s.store(ctx, in); no != nil {
			no.check = "store"
		}
	}
	if no != nil {
		s.logRefusal(ctx, in, no, requestID)
		res = refuse(no)
		return res
	}
	res.reply = in.route.source.Reply.OK
	return res
}

func internalError() result { return refuse(internal) }

var internal = &refusal{status: http.StatusInternalServerError, outcome: failed, text: "internal error"}

func refuse(no *refusal) result { return result{outcome: no.outcome, refused: no} }

// take takes one request from the rates of the account and of the source. The
// account's comes first, so that one above its own takes nothing from others.
func (r *route) take(now time.Time, account string) *refusal {
	if no := r.limits.take(now, account); no != nil {
		return no
	}
	return takeFrom(r.limiter, now)
}

// takeFrom reserves nothing that it would have to give back: of reservations that
// overlap not all can be, so that a flood would leave the sender in debt.
func takeFrom(l *rate.Limiter, now time.Time) *refusal {
	if l == nil || l.AllowN(now, 1) {
		return nil
	}
	wait := time.Duration((1 - l.TokensAt(now)) / float64(l.Limit()) * float64(time.Second))
	return &refusal{
		status: http.StatusTooManyRequests, outcome: refusedRate, text: "too many requests", retryAfter: max(wait, time.Millisecond),
	}
}

// store publishes what the request holds, unless the second line knows it. Only
// JetStream's acknowledgement makes it a success (promise 1).
func (s *Service) store(ctx context.Context, in *inspection) (result, *refusal) {
	if !in.isWhole() || in.isKept() {
		return s.storeAll(ctx, in)
	}
	it := &in.items[0]
	if in.trigger == nil {
		in.trigger = new(trigger)
	}
	msg := in.trigger.fill(ctx, it)
	if !s.fits(msg) {
		return result{}, tooLarge("body and attributes don't fit into the server's max_payload")
	}
	if res, ok := s.late(ctx, in, it); ok {
		in.settled = true
		return res, nil
	}
	ack, err := s.pub.Publish(ctx, msg)
	if err != nil {
		return result{}, storeRefusal(err)
	}
	in.settled = true
	s.mark(in, it, ack)
	if ack.Duplicate {
		return s.repeated(ctx, in, it, ack.Sequence), nil
	}
	s.meter.storedTriggers(in.route.name, 1)
	return result{outcome: accepted, eventID: it.event.ID}, nil
}

// redactStored leaves out of the events what their source doesn't want to be
// stored, once all checks have seen it. The hash of what was there is kept.
func (in *inspection) redactStored() {
	rules := in.route.source.Redact
	if !rules.Stored {
		return
	}
	for i := range in.items {
		it := &in.items[i]
		sum := it.hash() // of what came, for whoever asks for it later
		var replaced bool
		if it.body, replaced = rules.Store("body", it.body); replaced {
			it.event.ReceivedHash = hex.EncodeToString(sum[:])
		}
	}
}

// trigger is an event's message, to be filled in again for the next event.
type trigger struct {
	msg  nats.Msg
	form event.Form
}

func (t *trigger) fill(ctx context.Context, it *item) *nats.Msg {
	t.msg = nats.Msg{
		Subject: it.event.RawSubject(), Header: t.form.Publication(ctx, &it.event, it.msgID), Data: it.body,
	}
	return &t.msg
}

// message is the event's trigger.
func (it *item) message(ctx context.Context) *nats.Msg { return new(trigger).fill(ctx, it) }

// mostHeaders is more than the subject and the headers of a message can be: type, ids
// and content type are bounded, and three times as long if escaped; what is kept of the
// request, the largest, is bounded by event.MaxReceived.
const mostHeaders = 32 << 10

// fits reports whether the server takes a message of this size.
func (s *Service) fits(msg *nats.Msg) bool {
	most := s.deps.Conn.MaxPayload()
	if most <= 0 || int64(len(msg.Data))+mostHeaders <= most {
		return true // counting the headers costs more than all else here
	}
	return int64(msg.Size()+publishOverhead) <= most
}

// storeRefusal tells a message that can't ever be stored from a stream that
// can't take any now. The latter must not lose the event, so the sender is
// asked to come again.
func storeRefusal(err error) *refusal {
	if publish.TooLarge(err) {
		return tooLarge(err.Error())
	}
	return &refusal{
		status: http.StatusServiceUnavailable, outcome: unavailable, text: "events can't be stored now",
		reason: err.Error(), retryAfter: retryUnavailable,
	}
}
