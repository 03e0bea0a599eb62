package signature

import "errors"

// What can be wrong with a request. An [*Error] wraps exactly one of them.
var (
	// ErrMissing means that a header, or an item in it, isn't there.
	ErrMissing = errors.New("missing")
	// ErrRepeated means that a header, or the timestamp in it, is there more
	// than once, so that another reader could take the other one.
	ErrRepeated = errors.New("repeated")
	// ErrMalformed means that a header is empty, too long, or not written as
	// the scheme says.
	ErrMalformed = errors.New("malformed")
	// ErrMismatch means that no signature was made with one of the keys: the
	// request is forged, altered, or signed with a secret that isn't known.
	ErrMismatch = errors.New("mismatch")
	// ErrStale means that a genuine request is older than the tolerance.
	ErrStale = errors.New("stale")
	// ErrFuture means that a genuine request is younger than now by more than
	// the tolerance: one of the two clocks is wrong.
	ErrFuture = errors.New("future")
)

// The steps of [Verifier.Verify], as [Verifier.Steps] lists them and an [Error]
// names them.
const (
	StepHeader          = "signature header"
	StepFormat          = "signature format"
	StepTimestampHeader = "timestamp header"
	StepTimestamp       = "timestamp format"
	StepSigned          = "signed headers"
	StepNone            = "no signature" // of scheme none, which can't fail
	StepRecipient       = "recipient"
	StepKey             = "sender's key" // its name; the key itself is the caller's affair
	StepMatch           = "signature match"
	StepBody            = "body hash"
	StepWindow          = "timestamp window"
)

// Error says which step a request failed at, and why.
type Error struct {
	Step   string // one of [Verifier.Steps]: those before it passed, those after it weren't reached
	Reason string // for people; it names headers but quotes none, so it is safe to log
	Err    error  // one of the sentinels, [ErrMissing] to [ErrFuture]
}

// Error reads like "signature header: missing: no X-Signature".
func (e *Error) Error() string { return e.Step + ": " + e.Err.Error() + ": " + e.Reason }

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }

// Steps lists the names of the checks that Verify makes for this scheme, in
// their order. The slice is the caller's.
func (v *Verifier) Steps() []string { return append([]string(nil), v.steps...) }

func (v *Verifier) listSteps() []string {
	switch a := v.scheme.Algorithm; {
	case a == None:
		return []string{StepNone}
	case a.credential():
		return []string{StepHeader, StepFormat, StepMatch}
	case a.jwt() && v.FetchesKey():
		return []string{StepHeader, StepFormat, StepTimestamp, StepKey, StepMatch, StepBody, StepWindow}
	case a.jwt():
		return []string{StepHeader, StepFormat, StepTimestamp, StepMatch, StepBody, StepWindow}
	}
	steps := []string{StepHeader, StepFormat}
	if v.timestamp.kind != nowhere {
		steps = append(steps, StepTimestampHeader)
	}
	if v.scheme.timed() {
		steps = append(steps, StepTimestamp)
	}
	for _, s := range v.segments {
		if s.kind != literal && s.kind != body && s.kind != timestamp && s.kind != method {
			steps = append(steps, StepSigned)
			break
		}
	}
	if v.recipient.kind != nowhere {
		steps = append(steps, StepRecipient)
	}
	if v.FetchesKey() {
		steps = append(steps, StepKey)
	}
	steps = append(steps, StepMatch)
	if v.scheme.timed() {
		steps = append(steps, StepWindow)
	}
	return steps
}
