package provider

import (
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/field"
)

// Identity says where a request has its event's attributes.
type Identity struct {
	// Split says where a request has several events, such as body.events; each
	// is stored as an event of its own whose body is the item, all of them or
	// none. In ID, Type and Time item is then the event, and body still the whole
	// request; elsewhere, such as in resources, body is the event. Defaults to
	// none: a request is one event.
	Split Split `yaml:"split"`
	// SignedItems says that each event of a request has its own signature: verify
	// then looks at the event for a body. Defaults to false.
	SignedItems bool `yaml:"signed_items"`
	// ID finds the provider's id of the event, the same on each repeat. Without
	// it the body's hash serves.
	ID TriggerExpr `yaml:"id"`
	// Type finds the event's type. Required.
	Type TriggerExpr `yaml:"type"`
	// Account finds the account that the body names, such as body.account. A
	// request whose path names another one is refused; one whose path names none
	// is of that account, if the signature is of the source's secrets and the
	// account has none of its own. Defaults to not looking: the path alone
	// counts.
	Account TriggerExpr `yaml:"account"`
	// Time finds when the event happened: RFC 3339, also with a space for the T or
	// an offset such as -0400, or Unix seconds or milliseconds. Defaults to not
	// saying so.
	Time TriggerExpr `yaml:"time"`
	// Repeats is identical where deliveries with the same body and different
	// ids are different events, and never where each request is an event of its
	// own. Defaults to none: where there is a signature and it doesn't cover the
	// id, the same body is the same event.
	Repeats Repeats `yaml:"repeats"`
}

// Repeats is what a delivery is that has the bytes of an earlier one.
type Repeats string

const (
	// RepeatsIdentical says that one with another id is an event of its own: the
	// provider sends distinct events that are the same to the byte, and only
	// their ids tell them apart. Where the signature doesn't cover the id, a
	// captured request can then be sent again as a new event, for as long as its
	// signature is valid.
	RepeatsIdentical Repeats = "identical"
	// RepeatsNever says that there are no repeats, only events: the provider's
	// next message can be the last one to the byte, and nothing tells it from a
	// retry. Whoever has captured a request can then send it again as well.
	RepeatsNever Repeats = "never"
)

// Values lists what can be said, for configuration errors.
func (Repeats) Values() []string { return []string{string(RepeatsIdentical), string(RepeatsNever)} }

// Dedup says for how long repeats are absorbed.
type Dedup struct {
	// Horizon is how late a repeat may come and still be told to be one, 0s to
	// 720h. It reaches no further than streams.raw.max_age, and with 0s no
	// further than streams.dedup_window. Defaults to 72h.
	Horizon time.Duration `yaml:"horizon"`
}

// IDSigned reports whether the signature covers the delivery id: it is in a part
// of the body that is signed, or in a header that is part of the signed string.
func (s *Source) IDSigned() bool {
	for _, e := range s.Event.ID {
		for name := range e.Headers() {
			inTemplate := strings.EqualFold(name, s.Verify.ID) && strings.Contains(s.Verify.Signed, "{id}")
			if !inTemplate && !strings.Contains(strings.ToLower(s.Verify.Signed), "{header:"+strings.ToLower(name)+"}") {
				return false
			}
		}
		if !s.covers(e) {
			return false
		}
	}
	return len(s.Event.ID) > 0
}

// covers tells whether the signature covers the parts of the body that e uses.
func (s *Source) covers(e field.Expr) bool {
	if s.verifier == nil {
		return false
	}
	if s.verifier.Covers() || !e.Uses("body") && !e.Uses("form") && !e.Uses("item") {
		return true
	}
	if e.Uses("item") && !s.Event.SignedItems {
		return false
	}
	for path := range e.Paths("item") {
		if !s.verifier.CoversJSON(path.String()) {
			return false
		}
	}
	for path := range e.Paths("body") {
		if !s.verifier.CoversJSON(path.String()) {
			return false
		}
	}
	return !e.Uses("form")
}

// SameBodySameEvent reports whether a delivery's body alone tells which event
// it is: nothing else that does is signed, so that a captured request could
// come back under any id. Where nothing is signed at all, whoever has a request
// has what it takes to make any other, so the id is as good as the body.
func (s *Source) SameBodySameEvent() bool {
	return s.Verify.Algorithm.Signs() && !s.IDSigned() && s.Event.Repeats == ""
}
