// Package refusal keeps requests that the ingress has refused, for the debugging
// of signatures: which check refused them, what the request had and what was
// wanted, in the bounded stream TERCEL_REFUSED.
//
// A refused request is a stranger's. Of its body the size, the hash and the names
// and types of its fields are kept, or the redacted text where its source says
// refused: body; of its headers those that a check looks at; neither credentials
// nor the values of cookies. It is found by the id that it claims, which proves
// nothing.
//
// Keeping is best effort and never in anybody's way: [Log.Keep] doesn't wait, what
// has no room is counted and left out, and whoever calls it bounds how often: a
// flood of refusals must not push out what happened before it.
package refusal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Headers of a refusal, by which it is found without its body.
const (
	// HeaderClaimed is the event's or delivery's id by the request's own word, as
	// [event.Escape] writes it.
	HeaderClaimed = "tercel-claimed-id"
	// HeaderRequest is the id that the answer had in X-Request-Id.
	HeaderRequest = "tercel-request-id"
)

// Record is one refused request.
type Record struct {
	// Sequence is its place in the stream. It isn't part of what is stored.
	Sequence uint64    `json:"sequence,omitempty"`
	At       time.Time `json:"at"`
	// RequestID is what the sender was told in X-Request-Id.
	RequestID string `json:"request_id"`
	Source    string `json:"source"`
	Account   string `json:"account"`
	// ClaimedID is the id of the event or delivery by the request's own word.
	ClaimedID string `json:"claimed_id,omitempty"`
	// Status is what it was answered, Outcome what the ingress counts it as.
	Status  int    `json:"status"`
	Outcome string `json:"outcome"`
	// Check refused it, at this Step of the signature, for this Reason.
	Check  string `json:"check"`
	Step   string `json:"step,omitempty"`
	Reason string `json:"reason"`
	// Steps are all checks in their order.
	Steps []Step `json:"steps,omitempty"`
	// Keys are what the signature was tried with: references such as env:NAME, or
	// their places.
	Keys []string `json:"keys,omitempty"`
	// Tolerance is how far the time of signing might be from At, or "".
	Tolerance string `json:"tolerance,omitempty"`
	// From is the address that it came from.
	From   string `json:"from,omitempty"`
	Method string `json:"method"`
	Path   string `json:"path"`
	// Header has the headers that checks look at, Others the names of the rest.
	Header map[string]string `json:"header,omitempty"`
	Others []string          `json:"other_headers,omitempty"`
	Body   Body              `json:"body"`
}

// Step is one check. Result is ok, failed or not reached.
type Step struct {
	Name   string `json:"name"`
	Result string `json:"result"`
	Detail string `json:"detail,omitempty"`
}

// Body is what is kept of a body.
type Body struct {
	Size int `json:"size"`
	// SHA256 is its hash in hex, or "" where it wasn't read to its end.
	SHA256 string `json:"sha256,omitempty"`
	// Shape is the body with types in the place of values, see [ShapeOf].
	Shape jsontext.Value `json:"shape,omitempty"`
	// Text is the body itself, redacted, where the source has it kept.
	Text string `json:"text,omitempty"`
}

// ErrNotFound is returned by [Get] for a sequence that holds no refusal (any more).
var ErrNotFound = errors.New("no such refused request")

// Get returns the refusal at a sequence, or [ErrNotFound].
func Get(ctx context.Context, js jetstream.JetStream, seq uint64) (Record, error) {
	fail := func(err error) (Record, error) { return Record{}, fmt.Errorf("refused request %d: %w", seq, err) }
	if seq == 0 {
		return fail(ErrNotFound) // the server takes 0 for "any"
	}
	stream, err := js.Stream(ctx, topology.StreamRefused)
	if err != nil {
		return fail(err)
	}
	m, err := stream.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return fail(ErrNotFound)
	}
	if err != nil {
		return fail(err)
	}
	r, err := Decode(m.Data)
	if err != nil {
		return fail(ErrNotFound)
	}
	r.Sequence = seq
	return r, nil
}

// Decode reads a refusal as it is stored. The error means that something else
// wrote it.
func Decode(data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil || r.Source == "" || r.Outcome == "" {
		return Record{}, errors.New("refusal: not one of the ingress")
	}
	return r, nil
}

// message is r as it is stored.
func (r Record) message() (*nats.Msg, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("refusal: %w", err)
	}
	m := nats.NewMsg(topology.PrefixRefused + "." + event.Escape(r.Source))
	m.Data = data
	m.Header.Set(HeaderRequest, event.Escape(r.RequestID))
	if r.ClaimedID != "" {
		m.Header.Set(HeaderClaimed, event.Escape(r.ClaimedID))
	}
	return m, nil
}
