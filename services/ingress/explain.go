package ingress

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/provider"
)

// Result is how a [Step] went.
type Result string

// The results, a closed set.
const (
	Passed     Result = "ok"
	Failed     Result = "failed"
	NotReached Result = "not reached"
	Skipped    Result = "skipped"
)

// Step is one check of an [Explanation].
type Step struct {
	// Name is the check's name.
	Name string `json:"name"`
	// Result is how it went.
	Result Result `json:"result"`
	// Detail is what the request has there, or what is wrong with it. It holds
	// no secret and no signature.
	Detail string `json:"detail,omitempty"`
}

// Explanation is what a [Service] would do with a request, step by step.
type Explanation struct {
	// Source is the source that the request was held against.
	Source string `json:"source"`
	// Accepted says that it would be stored and answered 2xx, or only the latter
	// as a handshake.
	Accepted bool `json:"accepted"`
	// Handshake is the name of the handshake that it is, or "".
	Handshake string `json:"handshake,omitempty"`
	// Status is the HTTP status that it would be answered.
	Status int `json:"status"`
	// EventID, Type, Subject and MessageID are those of the stored message.
	// They are empty unless the request is accepted as an event.
	EventID   string `json:"event_id,omitempty"`
	Type      string `json:"type,omitempty"`
	Subject   string `json:"subject,omitempty"`
	MessageID string `json:"message_id,omitempty"`
	// Request is the subject that the request itself would be stored under, where
	// no event has its bytes, and Events are the messages made of it, where it can
	// hold several. The fields above are empty then.
	Request string             `json:"request,omitempty"`
	Events  []ExplainedMessage `json:"events,omitempty"`
	// Steps are all checks, in their order.
	Steps []Step `json:"steps"`
	// Messages are the triggers as they would be stored, one for each event, but for
	// the headers that say who took them in and by what they were checked.
	Messages []*nats.Msg `json:"-"`
}

// ExplainedMessage is one event of a request that holds several.
type ExplainedMessage struct {
	// Part is its place, such as "3/17".
	Part string `json:"part"`
	// EventID, Type, Subject and MessageID are those of the stored message.
	EventID   string `json:"event_id"`
	Type      string `json:"type"`
	Subject   string `json:"subject"`
	MessageID string `json:"message_id"`
}

// Explain tells what a [Service] whose source of that name is src would do
// with raw, an HTTP/1.1 request as it came over the wire, had it come at that
// time. Lines may end in LF alone. The checks are the service's own, in its
// order; what depends on other requests or on the NATS server, such as rate,
// room and max_payload, isn't looked at.
//
// A sender's key that has to be fetched is fetched, as the service would do it
// now; what a handshake wants visited isn't.
//
// Unlike the service's answers it says why a signature failed: it is for the
// operator. An error means that raw is no HTTP/1.1 request at all, or that src
// has not been validated and has no keys, or that its accounts can't be read:
// their file or folder isn't there, or they are in a bucket, see [Outside].
func Explain(name string, src provider.Source, raw []byte, at time.Time) (Explanation, error) {
	return Outside{}.Explain(name, src, raw, at)
}

// ExplainUnsigned is [Explain] without the check of the signature, for samples
// that have none or whose time has passed. Its step says that it was skipped.
func ExplainUnsigned(name string, src provider.Source, raw []byte, at time.Time) (Explanation, error) {
	return Outside{}.explain(name, src, raw, at, withoutSignature)
}

// withoutSignature is checks without that of the signature. The service has no
// such list (promise 2).
func withoutSignature(checks []check) []check {
	checks = slices.Clone(checks)
	for i := range checks {
		if checks[i].name == checkNameSignature {
			checks[i].name, checks[i].run = checkNameSkipped, func(*inspection) *refusal { return nil }
		}
	}
	return checks
}

// Explain is [Explain] by way of o.
func (o Outside) Explain(name string, src provider.Source, raw []byte, at time.Time) (Explanation, error) {
	return o.explain(name, src, raw, at, func(checks []check) []check { return checks })
}

func (o Outside) explain(
	name string, src provider.Source, raw []byte, at time.Time, choose func([]check) []check,
) (Explanation, error) {
	accounts := o.Accounts
	switch {
	case accounts != nil:
	case src.Accounts.Bucket != "":
		return Explanation{}, fmt.Errorf("source %s: what its accounts are signed with is in bucket %s, which isn't read here", name, src.Accounts.Bucket)
	case !src.Accounts.IsZero():
		var err error
		if accounts, _, err = account.Read(name, src, nil); err != nil {
			return Explanation{}, err
		}
	}
	r, err := newRoute(name, src, accounts)
	if err == nil {
		err = r.reach(o, func() time.Time { return at })
	}
	if err != nil {
		return Explanation{}, err
	}
	defer r.leave()
	rest := bytes.NewReader(raw)
	buffered := bufio.NewReader(rest)
	request, err := http.ReadRequest(buffered)
	if err != nil {
		return Explanation{}, fmt.Errorf("read request: not HTTP/1.1: %w", err)
	}
	in := &inspection{request: request, routes: map[string]*route{name: r}, now: at}
	ex := explainer{Explanation: Explanation{Source: name, Status: okStatus(src.Reply.OK)}, in: in, route: r, inside: choose(in.checksInside())}
	if no := in.inspect(doorChecks, ex.passed); no != nil {
		ex.failed(no)
	} else if no := in.inspect(ex.inside, ex.passed); no != nil {
		ex.failed(no)
	} else if ex.Accepted = true; in.handshake != nil {
		ex.Handshake, ex.Status = in.handshake.Name, in.response.Status
	} else {
		ex.accepted()
	}
	ex.notReached()
	ex.noteRest(buffered.Buffered() + rest.Len())
	return ex.Explanation, nil
}

// explainer turns checks into steps.
type explainer struct {
	Explanation
	in     *inspection
	route  *route
	inside []check // those behind the door
}

// names lists the steps that a check consists of.
func (ex *explainer) names(c check) []string {
	all := ex.route.handshakes[ex.in.request.Method]
	switch {
	case c.name == checkNameSkipped:
		return []string{checkNameSignature}
	case c.name == checkNameSignature:
		return ex.route.source.Verifier().Steps()
	case c.name == checkNameAccount && len(ex.route.source.Event.Account) == 0:
		return nil
	case c.name == checkNameUnsigned && len(all.unsigned) == 0 || c.name == checkNameSigned && len(all.signed) == 0:
		return nil
	case c.name == checkNameSchema && ex.route.source.Request.Schemas.IsZero(),
		c.name == checkNameDecodeFirst && (ex.in.encoding == "" || !ex.in.signsDecoded()),
		c.name == checkNameDecode && (ex.in.encoding == "" || ex.in.signsDecoded()):
		return nil
	case c.name == checkNameSplit && ex.route.source.Event.Split.IsZero():
		return nil
	}
	return []string{c.name}
}

// accepted says what would be stored.
func (ex *explainer) accepted() {
	if ex.in.isKept() {
		ex.Request = ex.in.requestEvent().RequestSubject()
	}
	ex.in.redactStored()
	for _, it := range ex.in.items {
		ex.Messages = append(ex.Messages, it.message(context.Background()))
		m := ExplainedMessage{it.event.Part, it.event.ID, it.event.Type, it.event.RawSubject(), it.msgID}
		if ex.in.isWhole() {
			ex.EventID, ex.Type, ex.Subject, ex.MessageID = m.EventID, m.Type, m.Subject, m.MessageID
			return
		}
		ex.Events = append(ex.Events, m)
	}
}

func (ex *explainer) passed(c check) {
	if c.name == checkNameSkipped {
		ex.Steps = append(ex.Steps, Step{checkNameSignature, Skipped, "not looked at, as was asked"})
		return
	}
	for _, name := range ex.names(c) {
		ex.Steps = append(ex.Steps, Step{name, Passed, c.detail(ex.in)})
	}
}

func (ex *explainer) failed(no *refusal) {
	ex.Status = no.status
	detail := no.reason
	if detail == "" {
		detail = no.text
	}
	if no.step == "" {
		ex.Steps = append(ex.Steps, Step{no.check, Failed, detail})
		return
	}
	for _, name := range ex.route.source.Verifier().Steps() {
		if name == no.step {
			ex.Steps = append(ex.Steps, Step{name, Failed, detail})
			return
		}
		ex.Steps = append(ex.Steps, Step{Name: name, Result: Passed})
	}
}

// notReached adds the steps behind the last one.
func (ex *explainer) notReached() {
	var all []string
	for _, checks := range [][]check{doorChecks, ex.inside} {
		for _, c := range checks {
			all = append(all, ex.names(c)...)
		}
	}
	for _, name := range all[len(ex.Steps):] {
		ex.Steps = append(ex.Steps, Step{Name: name, Result: NotReached})
	}
}

// noteRest says of bytes behind the request that they were not looked at: an
// absent or wrong Content-Length makes the signature fail.
func (ex *explainer) noteRest(n int) {
	if n == 0 {
		return
	}
	for i, step := range ex.Steps {
		if step.Name == checkNameBody && step.Result == Passed {
			ex.Steps[i].Detail += fmt.Sprintf("; %d more follow that no Content-Length covers", n)
		}
	}
}
