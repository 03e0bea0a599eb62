package ingress

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/control"
)

// again is a stored request that is checked once more.
type again struct {
	storedRequest
	in   *inspection
	item *item // the event that the trigger is of
	// unsigned says why the signature can't be checked, or is "".
	unsigned string
}

// verifyAgain holds a stored request against the configuration and the secrets of
// now, as if it had come when it came, and sends it again if it is asked to. What
// can't be made of what is stored is left as it was judged then: the address that
// it came from, a credential, and the signature over bytes that weren't stored.
func (s *Service) verifyAgain(ctx context.Context, req control.VerifyRequest) (out control.Verified, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.deps.Log.LogAttrs(ctx, slog.LevelError, "panic while checking a request again", slog.Uint64("sequence", req.Sequence),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			err = errors.New("the check broke off; the log of the ingress tells more")
		}
	}()
	began := time.Now()
	old, err := s.readStored(ctx, req)
	if err != nil {
		return out, err
	}
	a := &again{storedRequest: old, in: &inspection{routes: s.routes, proxies: s.cfg.TrustedProxies, now: old.receivedAt}}
	a.in.request = old.request(ctx)
	out.Accepted, out.Checks = a.check()
	if !out.Accepted || !req.Send {
		return out, nil
	}
	a.in.began = began
	return out, s.sendAgain(ctx, a, req, &out)
}

// request is the stored request as a server would have read it.
func (r storedRequest) request(ctx context.Context) *http.Request {
	path := "/v1/" + r.event.Source
	if r.received.Account {
		path += "/" + r.event.Account
	}
	header := http.Header{}
	for name, values := range r.received.Header {
		if values != nil {
			header[name] = values
		}
	}
	header["Content-Type"] = []string{r.contentType}
	if r.encoding != "" {
		header["Content-Encoding"] = []string{r.encoding}
	}
	return (&http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: path, RawQuery: r.received.Query}, Header: header,
		Body: io.NopCloser(bytes.NewReader(r.body)), ContentLength: int64(len(r.body)),
	}).WithContext(ctx)
}

// Names of the checks that only a stored request has.
const (
	checkNameStored = "stored request"
	checkNameChosen = "event of the request"
	checkNameMade   = "event"
)

// check makes all checks and says what each found.
func (a *again) check() (accepted bool, found []event.Verdict) {
	in := a.in
	no := in.inspect(doorChecks, nil)
	if no != nil {
		return false, []event.Verdict{{Check: no.check, Result: event.Failed, Detail: no.text}}
	}
	inside := a.inside()
	ex := explainer{in: in, route: in.route, inside: inside}
	for _, c := range doorChecks {
		ex.passed(c)
	}
	if no = in.inspect(inside, ex.passed); no == nil && in.handshake != nil {
		no = &refusal{check: checkNameSigned, reason: "the configuration of now takes it for the handshake " + in.handshake.Name}
	}
	if no != nil {
		ex.failed(no)
	}
	ex.notReached()
	return no == nil, a.verdicts(ex.Steps)
}

// inside are the checks behind the door, with what only a stored request needs.
func (a *again) inside() []check {
	pass := func(*inspection) *refusal { return nil }
	checks := []check{{checkNameStored, a.checkStored, a.storedDetail}}
	for _, c := range a.in.checksInside() {
		if c.name == checkNameSignature {
			if a.unsigned = a.notSigned(); a.unsigned != "" {
				c.name, c.run = checkNameSkipped, pass
			}
		}
		if checks = append(checks, c); c.name == checkNameSplit {
			checks = append(checks, check{checkNameChosen, a.choose, func(in *inspection) string { return fmt.Sprintf("one of %d", len(in.items)) }})
		}
	}
	return append(checks, check{checkNameMade, pass, a.madeDetail})
}

// checkStored refuses a request of which what the checks of now look at isn't
// stored: taken for absent, another value than the sender's could be found.
func (a *again) checkStored(in *inspection) *refusal {
	refused := func(reason string) *refusal {
		return &refusal{status: http.StatusUnprocessableEntity, outcome: refusedStructure, reason: reason}
	}
	reads := in.route.source.Verifier().Reads()
	for _, name := range slices.Concat(in.route.evidence.names, in.route.evidence.withheld) {
		_, signs := reads[name]
		switch withheld := slices.Contains(a.received.Withheld, name); {
		case withheld && !(signs && !in.route.expressed[name]):
			return refused("header " + name + " is not stored, and the event's attributes need it")
		case !withheld && !a.received.Knows(name):
			return refused("the configuration of now looks at header " + name + ", that of then did not: whether it came is not stored")
		}
	}
	return nil
}

func (a *again) storedDetail(*inspection) string {
	return fmt.Sprintf("received %s as trigger %d", a.receivedAt.UTC().Format(time.RFC3339Nano), a.sequence)
}

// notSigned says why the signature can't be checked, or is "".
func (a *again) notSigned() string {
	v := a.in.route.source.Verifier()
	if a.altered {
		return "the bytes that were signed are not stored (redact.stored)"
	}
	reads := v.ReadsMore(a.in.request.Header)
	for name := range v.Reads() {
		reads = append(reads, name)
	}
	for _, name := range reads {
		if slices.Contains(a.received.Withheld, name) {
			return "the credential in header " + name + " is not stored"
		}
	}
	return ""
}

// choose finds the event among those of the request: the one in its place, or
// another with its bytes.
func (a *again) choose(in *inspection) *refusal {
	if a.altered && in.isWhole() {
		sum, err := hex.DecodeString(a.event.ReceivedHash)
		if err == nil && len(sum) == len(in.items[0].sum) {
			in.items[0].hashed = copy(in.items[0].sum[:], sum) > 0
		}
	}
	place, _, _ := strings.Cut(a.event.Part, "/")
	n, _ := strconv.Atoi(place)
	if n--; n >= 0 && n < len(in.items) && bytes.Equal(in.items[n].body, a.trigger) {
		a.item = &in.items[n]
		return nil
	}
	for i := range in.items {
		if bytes.Equal(in.items[i].body, a.trigger) {
			a.item = &in.items[i]
			return nil
		}
	}
	return badAttribute("event.split", fmt.Errorf("the configuration of now makes %d events of the request, and none has this one's body", len(in.items)))
}

// madeDetail says how the event differs from what it was.
func (a *again) madeDetail(in *inspection) string {
	now, was := a.made(in), a.event
	var changes []string
	for _, c := range []struct{ what, was, now string }{
		{"id", was.ID, now.ID}, {"type", was.Type, now.Type}, {"account", was.Account, now.Account}, {"delivery id", was.DeliveryID, now.DeliveryID},
	} {
		if c.was != c.now {
			changes = append(changes, fmt.Sprintf("its %s was %q and is %q", c.what, c.was, c.now))
		}
	}
	if len(changes) == 0 {
		return "as it was"
	}
	return strings.Join(changes, "; ")
}

// made is the event as the checks of now make it.
func (a *again) made(in *inspection) event.Event {
	e, was := a.item.event, a.event
	if in.route.source.Event.Repeats == provider.RepeatsNever {
		e.ID = was.ID // else each check would give it another one
	}
	e.Origin, e.ReceivedAt = event.Replay, was.ReceivedAt
	e.Part, e.Request, e.Received, e.Destinations = was.Part, was.Request, was.Received, was.Destinations
	if e.TriggerSequence = was.TriggerSequence; e.TriggerSequence == 0 {
		e.TriggerSequence = a.sequence
	}
	return e
}

// verdicts are steps for operators.
func (a *again) verdicts(steps []Step) []event.Verdict {
	in := a.in
	k := keeper{in: in, secrets: in.secrets(), shown: in.shown()}
	results := map[Result]event.Result{Passed: event.Passed, Failed: event.Failed, NotReached: event.NotReached, Skipped: event.Skipped}
	found := make([]event.Verdict, len(steps))
	for i, s := range steps {
		v := event.Verdict{Check: s.Name, Result: results[s.Result], Detail: k.text(s.Detail)}
		switch {
		case s.Name == checkNameSignature && s.Result == Skipped:
			v.Result, v.Detail = event.NotRepeated, a.unsigned
		case s.Name == checkNameOrigin && in.route.origin != nil:
			v.Result, v.Detail = event.NotRepeated, "the sender's address is not stored"
		case s.Name == checkNameSchema && s.Result == Passed && in.strays.n > 0:
			v.Result = event.Warned
		}
		found[i] = v
	}
	return found
}

// sendAgain publishes the event under a fresh message id: inside the dedup window
// the server would swallow the old one.
func (s *Service) sendAgain(ctx context.Context, a *again, req control.VerifyRequest, out *control.Verified) error {
	in := a.in
	msgID := a.item.msgID
	if in.route.source.Event.Repeats == provider.RepeatsNever {
		msgID = a.msgID
	}
	in.redactStored()
	e := a.made(in)
	if e.ReceivedHash == "" {
		e.ReceivedHash = a.event.ReceivedHash
	}
	if req.Destinations != "" {
		e.Destinations = req.Destinations
	}
	e.Checked = a.checked(s.host).String()
	again := item{body: a.item.body, event: e, msgID: event.AgainID(msgID, event.Replay)}
	msg := again.message(ctx)
	if !s.fits(msg) {
		return fmt.Errorf("send trigger %d again: it doesn't fit into the server's max_payload", a.sequence)
	}
	ack, err := s.pub.Publish(ctx, msg)
	if err != nil {
		return fmt.Errorf("send trigger %d again: %w", a.sequence, err)
	}
	out.Stream, out.Sequence, out.Subject, out.MsgID = topology.StreamRaw, ack.Sequence, msg.Subject, msg.Header.Get(jetstream.MsgIDHeader)
	return nil
}

// checked is what the trigger says of its checks.
func (a *again) checked(host string) event.Checked {
	in := a.in
	c := in.route.verdict
	c.Again, c.By, c.Took, c.Window, c.Horizon = true, host, time.Since(in.began), 0, 0
	if c.Key = in.keyName(); a.unsigned != "" {
		c.Key, c.Tolerance = event.KeyNotStored, 0
	} else if c.Tolerance > 0 {
		c.Age = in.now.Sub(in.match.SignedAt)
	}
	if in.route.origin != nil {
		c.Origin = event.OriginUnknown
	}
	if a.item.stray != "" {
		c.Schema = a.item.stray
	}
	if c.ID == event.IDUnsigned && a.item.event.DeliveryID == "" {
		c.ID = event.IDBody
	}
	return c
}
