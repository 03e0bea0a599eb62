package control

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/event"
)

// Errors of [Verify].
var (
	// ErrNoIngress means that no ingress is there to answer.
	ErrNoIngress = errors.New("no ingress answers: is one running with this NATS account?")
	// ErrGone means that the trigger, or the request that it came in, is no longer
	// stored, or that another event's trigger is in its place.
	ErrGone = errors.New("no longer stored")
	// ErrUnverifiable means that there is nothing to check: the trigger came in no
	// request, or in one of which too little is stored.
	ErrUnverifiable = errors.New("can't be checked again")
)

// VerifyRequest asks for a stored request to be checked again.
type VerifyRequest struct {
	// Sequence is a trigger's in TERCEL_RAW.
	Sequence uint64 `json:"sequence"`
	// Send has the trigger sent again, as the checks of now make it, if it is
	// accepted, and to Destinations alone, names joined by commas, unless that is
	// "".
	Send         bool   `json:"send,omitzero"`
	Destinations string `json:"destinations,omitzero"`
	// Of is the event that the trigger has to be of, unless it is the zero value.
	Of Expected `json:"of,omitzero"`
}

// Expected is an event whose trigger stood at a sequence of TERCEL_RAW. Another one may
// stand there since: a stream that was made anew gives its sequences out again.
type Expected struct {
	Source     string    `json:"source"`
	Account    string    `json:"account"`
	ID         string    `json:"id"`
	RecordID   string    `json:"record_id,omitzero"`
	Part       string    `json:"part,omitzero"`
	ReceivedAt time.Time `json:"received_at,omitzero"`
}

// Expect returns what tells the trigger of e from others.
func Expect(e event.Event) Expected {
	return Expected{Source: e.Source, Account: e.Account, ID: e.ID, RecordID: e.RecordID, Part: e.Part, ReceivedAt: e.ReceivedAt}
}

// Answers reports whether t is the event's trigger. Its ID and account may be others,
// since its request was checked again, but not when it came.
func (x Expected) Answers(t event.Event) bool {
	e := event.Event{Source: x.Source, Account: x.Account, ID: x.ID, RecordID: x.RecordID}
	return e.Answers(t) || x.Source == t.Source && x.Part == t.Part && !x.ReceivedAt.IsZero() && x.ReceivedAt.Equal(t.ReceivedAt)
}

// Verified is what the checks of now found in a stored request.
type Verified struct {
	// Accepted says that it would be taken.
	Accepted bool `json:"accepted"`
	// Checks are what each check found, in their order.
	Checks []event.Verdict `json:"checks"`
	// Stream to MsgID say where it was sent to, if it was.
	Stream   string `json:"stream,omitzero"`
	Sequence uint64 `json:"sequence,omitzero"`
	Subject  string `json:"subject,omitzero"`
	MsgID    string `json:"msg_id,omitzero"`
}

// NotRepeated reports whether there was a check that could not be made again.
func (v Verified) NotRepeated() bool {
	for _, c := range v.Checks {
		if c.Result == event.NotRepeated {
			return true
		}
	}
	return false
}

// Refusal is the error of a request that is not accepted any more.
type Refusal struct {
	Checks []event.Verdict
}

// Error names the check that failed and says why.
func (r *Refusal) Error() string {
	for _, c := range r.Checks {
		if c.Result == event.Failed {
			return "not accepted: " + c.Check + ": " + c.Detail
		}
	}
	return "not accepted"
}

var verify = kind[VerifyRequest, Verified]{
	subject: "tercel.control.ingress.verify", queue: "ingress", who: "an ingress", nobody: ErrNoIngress,
	bound:  30 * time.Second, // a sender's key may have to be fetched
	atOnce: 4,                // the requests that come in matter more
	asks:   "ask for a trigger to be checked again", wants: "sequence, send, destinations and of",
	codes: map[string]error{"gone": ErrGone, "unverifiable": ErrUnverifiable},
}

// Verify asks an ingress to check a stored request again. Its errors are
// [ErrNoIngress], [ErrGone], [ErrUnverifiable], or what the ingress said; that the
// request isn't accepted is none.
func Verify(ctx context.Context, nc *nats.Conn, req VerifyRequest) (Verified, error) {
	return verify.ask(ctx, nc, req)
}

// AwaitIngress returns [ErrNoIngress] if none is there to check anything.
func AwaitIngress(ctx context.Context, nc *nats.Conn) error {
	_, err := Verify(ctx, nc, VerifyRequest{})
	if errors.Is(err, ErrGone) { // nothing has the sequence 0
		return nil
	}
	return err
}

// ServeVerify answers requests with do, some at once, until ctx ends and the last
// one is answered. The context of do ends while whoever asked still waits. An error of
// do is told to them; wrap [ErrGone] and [ErrUnverifiable] where they apply.
func ServeVerify(ctx context.Context, nc *nats.Conn, do func(context.Context, VerifyRequest) (Verified, error)) error {
	return verify.serve(ctx, nc, do)
}
