package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/event"
)

// Errors of [Verify].
var (
	// ErrNoIngress means that no ingress is there to answer.
	ErrNoIngress = errors.New("no ingress answers: is one running with this NATS account?")
	// ErrGone means that the trigger, or the request that it came in, is no longer
	// stored.
	ErrGone = errors.New("no longer stored")
	// ErrUnverifiable means that there is nothing to check: the trigger came in no
	// request, or in one of which too little is stored.
	ErrUnverifiable = errors.New("can't be checked again")
)

const (
	subjectVerify = "tercel.control.ingress.verify"
	queueIngress  = "ingress"
	// maxVerifying bounds the requests that one ingress checks at once: those that
	// come in matter more.
	maxVerifying = 4
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

type verifyAnswer struct {
	Verified
	Error string `json:"error,omitzero"`
	Code  string `json:"code,omitzero"`
}

// Verify asks an ingress to check a stored request again. Its errors are
// [ErrNoIngress], [ErrGone], [ErrUnverifiable], or what the ingress said; that the
// request isn't accepted is none.
func Verify(ctx context.Context, nc *nats.Conn, req VerifyRequest) (Verified, error) {
	data, err := json.Marshal(req)
	if err != nil {
		return Verified{}, fmt.Errorf("check trigger %d again: %w", req.Sequence, err)
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	msg := nats.NewMsg(subjectVerify)
	msg.Data = data
	event.InjectTrace(ctx, msg.Header)
	m, err := nc.RequestMsgWithContext(ctx, msg)
	if errors.Is(err, nats.ErrNoResponders) {
		return Verified{}, ErrNoIngress
	}
	if err != nil {
		return Verified{}, fmt.Errorf("ask for trigger %d to be checked again: %w", req.Sequence, err)
	}
	var a verifyAnswer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return Verified{}, errors.New("ask for a trigger to be checked again: the answer is not an ingress's")
	}
	if a.Error != "" {
		return Verified{}, &remote{a.Error, verifyCodes[a.Code]}
	}
	return a.Verified, nil
}

// AwaitIngress returns [ErrNoIngress] if none is there to check anything.
func AwaitIngress(ctx context.Context, nc *nats.Conn) error {
	_, err := Verify(ctx, nc, VerifyRequest{})
	if errors.Is(err, ErrGone) { // nothing has the sequence 0
		return nil
	}
	return err
}

// verifyTimeout bounds a check. A sender's key may have to be fetched for it.
const verifyTimeout = 30 * time.Second

var verifyCodes = map[string]error{"gone": ErrGone, "unverifiable": ErrUnverifiable}

// ServeVerify answers requests with do, some at once, until ctx ends and the last
// one is answered. An error of do is told to whoever asked; wrap [ErrGone] and
// [ErrUnverifiable] where they apply.
func ServeVerify(ctx context.Context, nc *nats.Conn, do func(context.Context, VerifyRequest) (Verified, error)) error {
	requests := make(chan *nats.Msg, maxWaiting) // never closed; what is over is dropped by the client
	sub, err := nc.ChanQueueSubscribe(subjectVerify, queueIngress, requests)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subjectVerify, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	var all sync.WaitGroup
	for range maxVerifying {
		all.Go(func() {
			for {
				select {
				case m := <-requests:
					_ = m.Respond(answerVerify(ctx, m, do))
				case <-ctx.Done():
					return
				}
			}
		})
	}
	all.Wait()
	return nil
}

func answerVerify(ctx context.Context, m *nats.Msg, do func(context.Context, VerifyRequest) (Verified, error)) []byte {
	var req VerifyRequest
	var a verifyAnswer
	err := json.Unmarshal(m.Data, &req, json.RejectUnknownMembers(true))
	if err != nil {
		err = errors.New("want a JSON object with sequence, send and destinations")
	} else {
		// What has begun is ended, so that whoever asks hears what was sent.
		ctx, cancel := context.WithTimeout(event.ExtractTrace(context.WithoutCancel(ctx), m.Header), verifyTimeout*3/4)
		defer cancel()
		a.Verified, err = do(ctx, req)
	}
	if err != nil {
		a = verifyAnswer{Error: err.Error()}
		for code, kind := range verifyCodes {
			if errors.Is(err, kind) {
				a.Code = code
			}
		}
	}
	answer, err := json.Marshal(a)
	if err != nil { // a text that is not UTF-8
		return []byte(`{"error":"the answer can't be written as JSON"}`)
	}
	return answer
}
