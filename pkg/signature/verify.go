// Package signature verifies and makes webhook signatures.
//
// A [Scheme] is data: which header, which grammar, which string is signed. It
// covers the HMAC family of providers, from a bare digest over the body to
// signed ids, timestamps and several signatures at once. [Compile] checks it
// once; [Verifier.Verify] is then a pure function of the request's raw bytes,
// the keys and the time.
//
// What holds for every scheme, since forgers pick the weakest:
//
//   - Bytes are verified as received. Nothing is parsed, decoded or normalised
//     in the body, and a timestamp is signed as sent.
//   - Decoded signatures are compared in constant time, each with each key.
//   - The signature is checked before the clock, so that a forger learns
//     nothing about the clock, and who sees [ErrStale] knows that the request
//     was genuine once.
//   - Nothing is optional. A header that is absent, empty or repeated, or a
//     missing key, is an error and never a reason to accept.
//   - The time window has two sides.
//   - Work is bounded: 4 KiB for each header, 16 signatures.
//
// Whether an id was signed is the scheme's affair: without {id} in it, a request
// can be repeated under another id for as long as its timestamp allows.
package signature

import (
	"crypto/hmac"
	"fmt"
	"net/http"
	"time"
)

// maxHeader is the most bytes of a header value that are looked at. Sixteen
// signatures of 64 bytes in hex, with names, fit.
const maxHeader = 4 << 10

// Request is what a signature can cover of an HTTP request.
type Request struct {
	Header http.Header // with canonical names, as net/http gives it
	Body   []byte      // as received; only read
}

// Verifier checks requests against one [Scheme]. It holds no keys, doesn't
// change, and is safe for concurrent use. Use [Compile].
type Verifier struct {
	scheme   Scheme // with defaults
	header   string // canonical names; "" where the scheme has none
	idHeader string
	tsHeader string
	size     int // of a signature, in bytes
	segments []segment
	steps    []string
}

// message is what Verify has found in a request so far.
type message struct {
	request   Request
	id        string
	timestamp string
	at        time.Time
	found     candidates
}

// Verify returns nil if r was signed under one of keys and, where the scheme
// has a timestamp, signed within the tolerance of now. Otherwise it returns an
// [*Error] that names the step that failed and wraps one of [ErrMissing],
// [ErrRepeated], [ErrMalformed], [ErrMismatch], [ErrStale] and [ErrFuture].
// Its text never has a secret, a signature or a part of the body.
//
// Keys that weren't made for the scheme's algorithm match nothing; without
// keys, nothing is genuine. The time that Verify takes depends on r and on the
// number of keys, not on the keys or on which one matches.
func (v *Verifier) Verify(r Request, keys []Key, now time.Time) error {
	m := message{request: r} // passed down by direct calls only, so that it stays on the stack
	err := v.readSignatures(&m)
	if err == nil {
		err = v.readTimestamp(&m)
	}
	if err == nil {
		err = v.readSigned(&m)
	}
	if err == nil {
		err = v.match(&m, keys)
	}
	if err == nil {
		err = v.checkWindow(&m, now)
	}
	if err == nil {
		return nil // not err, which would be a typed nil
	}
	return err
}

// readSignatures finds the signatures, and the timestamp where it is beside them.
func (v *Verifier) readSignatures(m *message) *Error {
	value, err := m.request.single(StepHeader, v.header)
	if err != nil {
		return err
	}
	if v.scheme.Format == Raw {
		return v.parseRaw(value, m)
	}
	return v.parseList(value, m)
}

func (v *Verifier) readTimestamp(m *message) (err *Error) {
	if !v.scheme.timed() {
		return nil
	}
	if v.tsHeader != "" {
		if m.timestamp, err = m.request.single(StepTimestampHeader, v.tsHeader); err != nil {
			return err
		}
	}
	var ok bool
	if m.at, ok = v.scheme.TimestampUnit.at(m.timestamp); !ok {
		return &Error{StepTimestamp, "not a whole number of 1 to 13 digits without a leading zero", ErrMalformed}
	}
	return nil
}

// readSigned finds the id and the other headers that are part of the signed
// string.
func (v *Verifier) readSigned(m *message) (err *Error) {
	for _, s := range v.segments {
		switch s.kind {
		case id:
			m.id, err = m.request.single(StepSigned, v.idHeader)
		case header:
			_, err = m.request.single(StepSigned, s.text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// match compares every candidate with every key, also after a match.
func (v *Verifier) match(m *message, keys []Key) *Error {
	matched := false
	for _, k := range keys {
		if !k.fits(v.scheme.Algorithm) {
			continue
		}
		want := k.sum(v.segments, m)
		for i := range m.found.n {
			if hmac.Equal(m.found.sums[i][:v.size], want.sum) {
				matched = true
			}
		}
		k.release(want)
	}
	if !matched {
		return &Error{StepMatch, fmt.Sprintf("none of the signatures (%d) was made with one of the keys (%d)", m.found.n, len(keys)), ErrMismatch}
	}
	return nil
}

// checkWindow comes after the signature: the timestamp is genuine here.
func (v *Verifier) checkWindow(m *message, now time.Time) *Error {
	if !v.scheme.timed() {
		return nil
	}
	err := ErrStale
	switch {
	case m.at.After(now.Add(v.scheme.Tolerance)):
		err = ErrFuture
	case !m.at.Before(now.Add(-v.scheme.Tolerance)):
		return nil
	}
	return &Error{StepWindow, fmt.Sprintf("signed at %s, checked at %s, tolerance %s",
		m.at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), v.scheme.Tolerance), err}
}
