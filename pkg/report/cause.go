package report

import "strings"

// Cause is why a record was missed or stale, as far as evidence allows; a
// closed set.
type Cause string

// The causes. Those of a record of which no trigger was stored rest on what the
// ingress noted of the time from the record's change until it was found.
const (
	// NeverSent says that the ingress was there, took other requests of the
	// source and refused none.
	NeverSent Cause = "never_sent"
	// Refused says that requests of the source were refused in that time. Which
	// records they spoke of can't be known: what is refused can't be trusted.
	Refused Cause = "refused"
	// Down says that no replica of the ingress took requests when the record
	// changed.
	Down Cause = "down"
	// Silent says that the ingress was there and nothing at all came from the
	// source.
	Silent Cause = "silent"
	// Late says that its trigger came after the time that the window leaves for
	// it to settle.
	Late Cause = "late"
	// Pending says that its trigger had come and was in work.
	Pending Cause = "pending"
	// GivenUp says that its trigger is a dead letter.
	GivenUp Cause = "given_up"
	// LostInside says that its trigger was accepted and has no outcome. This
	// must not happen (promise 3).
	LostInside Cause = "lost_inside"
	// Unknown says that the evidence doesn't reach back so far, or could not
	// be read.
	Unknown Cause = "unknown"
)

// Text says what a cause means.
func (c Cause) Text() string {
	switch c {
	case NeverSent:
		return "never sent"
	case Refused:
		return "refused by the ingress"
	case Down:
		return "no ingress was there"
	case Silent:
		return "nothing came from the source"
	case Late:
		return "its trigger came late"
	case Pending:
		return "its trigger was in work"
	case GivenUp:
		return "its trigger is a dead letter"
	case LostInside:
		return "accepted but lost inside"
	default:
		return strings.ReplaceAll(string(c), "_", " ")
	}
}

// Evidence is what causes rest on.
type Evidence struct {
	// Causes counts those of all records that were missed or stale in the
	// pipeline.
	Causes map[Cause]int `json:"causes,omitempty"`
	// Accepted is how many requests of the source the ingress took from the
	// first change of a record that the report names until they were found.
	Accepted int64 `json:"accepted,omitzero"`
	// Refused is how many it refused in that time, by outcome.
	Refused map[string]int64 `json:"refused,omitempty"`
	// Error is why the evidence could not be read, or "".
	Error string `json:"error,omitzero"`
}
