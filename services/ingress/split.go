package ingress

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/nats-io/nuid"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
)

// maxItems bounds the events of one request: each becomes a message with
// headers of its own, however small it is. It is more than twice of what is
// known to be sent.
const maxItems = 10_000

// item is one event of a request.
type item struct {
	body  []byte
	event event.Event
	msgID string // the Nats-Msg-Id, see messageID

	stray string // in what it doesn't match its schema, or ""

	sum    [sha256.Size]byte // of the body; see hash
	hashed bool
}

// hash is the body's SHA-256, which is made once.
func (it *item) hash() [sha256.Size]byte {
	if !it.hashed {
		it.sum, it.hashed = sha256.Sum256(it.body), true
	}
	return it.sum
}

// isWhole reports whether the request is one event.
func (in *inspection) isWhole() bool { return in.route.source.Event.Split.IsZero() }

// isKept reports whether the request is stored beside what is made of it,
// because no event has its bytes (promise 8).
func (in *inspection) isKept() bool { return in.requestID != "" }

// split finds the events in the request.
func (in *inspection) split() *refusal {
	src := in.route.source
	in.typ, in.id, in.time = src.Event.Type, src.Event.ID, src.Event.Time
	if in.isWhole() {
		in.single[0] = item{body: in.body, event: event.Event{ContentType: in.contentType}}
		in.items = in.single[:]
		return nil
	}
	bodies, err := src.Event.Split.Items(in.body)
	if err != nil {
		return badAttribute("event.split", err)
	}
	if len(bodies) > maxItems {
		return tooLarge(fmt.Sprintf("%d events in a request, at most %d are taken", len(bodies), maxItems))
	}
	if !in.isKept() {
		in.setRequestID()
	}
	in.items = make([]item, len(bodies))
	for i, body := range bodies {
		in.items[i] = item{body: body, event: event.Event{
			ContentType: mediaTypeJSON, Part: strconv.Itoa(i+1) + "/" + strconv.Itoa(len(bodies)),
		}}
	}
	return in.bind()
}

// setRequestID gives the request an ID to be stored under.
func (in *inspection) setRequestID() {
	id := nuid.Next()
	if in.route.source.Event.Repeats != provider.RepeatsNever {
		id = event.Identity("", false, in.received)
	}
	in.requestID = "request:" + id
}

// bind looks once for what all events have from the request around them.
func (in *inspection) bind() *refusal {
	for _, x := range []struct {
		what string
		expr *provider.TriggerExpr
	}{{"event type", &in.typ}, {"event id", &in.id}, {"event time", &in.time}} {
		if len(*x.expr) == 0 {
			continue
		}
		scope, err := in.scope(*x.expr)
		if err == nil {
			*x.expr, err = x.expr.Bind(scope)
		}
		if x.expr == &in.time && errors.Is(err, field.ErrMissing) {
			continue
		}
		if err != nil {
			return badAttribute(x.what, err)
		}
	}
	return nil
}

func (in *inspection) splitDetail() string { return fmt.Sprintf("%d events", len(in.items)) }

// each lets read look at every event. One that it refuses keeps all of them
// out, and is named.
func (in *inspection) each(what string, read func(*item) error) *refusal {
	for i := range in.items {
		err := read(&in.items[i])
		if err == nil {
			continue
		}
		if !in.isWhole() {
			err = fmt.Errorf("event %d of %d: %w", i+1, len(in.items), err)
		}
		return badAttribute(what, err)
	}
	return nil
}

// maxDetails bounds the events that a step tells of.
const maxDetails = 3

// detailOf says what the first events have.
func (in *inspection) detailOf(what func(*item) string) string {
	text := ""
	for i := range in.items {
		switch {
		case i == maxDetails:
			return text + fmt.Sprintf("; and %d more", len(in.items)-i)
		case i > 0:
			text += "; "
		}
		text += what(&in.items[i])
	}
	return text
}

// requestEvent is what stands in the headers of the stored request.
func (in *inspection) requestEvent() event.Event {
	return event.Event{
		ID: in.requestID, Source: in.route.name, Account: in.account, Type: "request", Origin: event.Webhook,
		ContentType: in.contentType, ReceivedAt: in.now, Received: in.kept,
	}
}

func badAttribute(what string, err error) *refusal {
	text := what + ": " + err.Error()
	return &refusal{status: http.StatusBadRequest, outcome: refusedStructure, text: text, reason: text}
}
