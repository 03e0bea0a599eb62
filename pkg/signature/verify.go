// Package signature verifies and makes webhook signatures.
//
// A [Scheme] is data: which algorithm, which header, which grammar, which string
// is signed. It covers HMACs, from a bare digest over the body to signed ids,
// timestamps and several signatures at once; Ed25519 and ECDSA; RSA under keys
// that a request names and the caller fetches; JSON Web Tokens over the body's
// hash; and the senders that only show a secret. [Compile] checks it once;
// [Verifier.Verify] is then a pure function of the request's raw bytes, the keys
// and the time.
//
// What holds for every scheme, since forgers pick the weakest:
//
//   - Bytes are verified as received. Nothing is parsed, decoded or normalised
//     in the body unless the signature or what it covers is inside it, and a
//     timestamp is signed as sent.
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
	"bytes"
	"crypto/hmac"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/tercelhq/tercel/pkg/field"
)

// maxHeader is the most bytes of a header value that are looked at. Sixteen
// signatures of 64 bytes in hex, with names, fit.
const maxHeader = 4 << 10

// Request is what a signature can cover of an HTTP request.
type Request struct {
	Header http.Header // with canonical names, as net/http gives it
	Body   []byte      // as received; only read
	Method string      // such as POST; needed where the signed string has it
	// URL is the address that the sender called, with its query as received. It
	// comes from the receiver's configuration: what a request says of its host
	// is the sender's word. Needed where [Verifier.NeedsURL] says so.
	URL string
	// Sender is the key that [Verifier.KeyName] names, where [Verifier.FetchesKey]
	// says so.
	Sender SenderKey
}

// Verifier checks requests against one [Scheme]. It holds no keys, doesn't
// change, and is safe for concurrent use. Use [Compile].
type Verifier struct {
	scheme    Scheme  // with defaults
	sources   []place // of the signature; one at least must be there
	id        place   // nowhere where the scheme has none
	timestamp place
	senderKey place // likewise
	recipient place // likewise
	size      int   // of a signature, in bytes; 0 where it varies
	segments  []segment
	claim     field.Path // of the body's hash, in a token
	steps     []string
}

// message is what Verify has found in a request so far.
type message struct {
	request   Request
	id        string
	timestamp string
	at        time.Time
	found     candidates
	varying   [][]byte // the signatures, where their length varies
	values    []string // of the computed segments
	secret    string   // the one that is being tried, where it is part of the signed string
	keyName   string
	recipient string
	form      url.Values
	validJSON bool
	key       int // one more than the index of the key that matched first
}

// Match is how a request was found to be genuine.
type Match struct {
	// Key is the index of the receiver's key that matched, or -1 where that isn't
	// for the receiver's keys to say: with scheme none, and with JSON Web Tokens
	// under keys that are fetched.
	Key int
	// SignedAt is when the sender says that it signed, or zero where it doesn't.
	SignedAt time.Time
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
	_, err := v.Match(r, keys, now)
	return err
}

// Match is [Verifier.Verify] for those who want to know what was found.
func (v *Verifier) Match(r Request, keys []Key, now time.Time) (Match, error) {
	m := message{request: r} // passed down by direct calls only, so that it stays on the stack
	var err *Error
	switch a := v.scheme.Algorithm; {
	case a == None:
		return Match{Key: -1}, nil
	case a.credential():
		err = v.verifyCredential(&m, keys)
	case a.jwt():
		err = v.verifyJWT(&m, keys)
	default:
		err = v.verifySigned(&m, keys)
	}
	if err == nil {
		err = v.checkWindow(&m, now)
	}
	if err == nil {
		return Match{Key: m.key - 1, SignedAt: m.at}, nil // not err, which would be a typed nil
	}
	return Match{}, err
}

// matched notes that the key of an index matches, and keeps the first one.
func (m *message) matched(key int) {
	if m.key == 0 {
		m.key = key + 1
	}
}

// NeedsKey reports whether requests are genuine only under one of the receiver's
// own keys, as they are with every scheme but none and tokens under a key that
// is fetched.
func (v *Verifier) NeedsKey() bool {
	return v.scheme.Algorithm != None && (!v.scheme.Algorithm.jwt() || !v.FetchesKey())
}

func (v *Verifier) verifySigned(m *message, keys []Key) *Error {
	err := v.readSigned(m, keys)
	if err == nil {
		err = v.match(m, keys)
	}
	return err
}

// readSigned finds all that the signature is checked with.
func (v *Verifier) readSigned(m *message, keys []Key) *Error {
	err := v.readSignatures(m)
	if err == nil {
		err = v.readTimestamp(m)
	}
	if err == nil {
		err = v.readSegments(m)
	}
	if err == nil {
		err = v.readRecipient(m, keys)
	}
	if err == nil {
		err = v.readKeyName(m)
	}
	return err
}

// readSignatures finds the signatures, and the timestamp where it is beside them.
func (v *Verifier) readSignatures(m *message) *Error {
	if len(v.sources) == 1 {
		return v.readSignature(m, v.sources[0])
	}
	present := 0
	for _, p := range v.sources {
		if len(m.request.Header[p.name]) == 0 {
			continue
		}
		present++
		if err := v.readSignature(m, p); err != nil {
			return err
		}
	}
	if present == 0 {
		return &Error{StepHeader, "no " + v.where(), ErrMissing}
	}
	return nil
}

func (v *Verifier) readSignature(m *message, p place) *Error {
	value, err := m.read(StepHeader, p)
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
	if v.timestamp.kind != nowhere {
		if m.timestamp, err = m.read(StepTimestampHeader, v.timestamp); err != nil {
			return err
		}
	}
	var ok bool
	if m.at, ok = v.scheme.TimestampUnit.at(m.timestamp); !ok {
		want := "not a whole number of 1 to 13 digits without a leading zero"
		if v.scheme.TimestampUnit == RFC3339 {
			want = "not a time as RFC 3339 writes it"
		}
		return &Error{StepTimestamp, want, ErrMalformed}
	}
	return nil
}

// match compares every candidate with every key, also after a match.
func (v *Verifier) match(m *message, keys []Key) *Error {
	switch a := v.scheme.Algorithm; {
	case a.public():
		v.matchPublic(m, keys)
	case a.rsa():
		v.matchSender(m, keys)
	default:
		v.matchMAC(m, keys)
	}
	if m.key == 0 {
		return &Error{StepMatch, fmt.Sprintf("none of the signatures (%d) was made with one of the keys (%d)", m.found.n, len(keys)), ErrMismatch}
	}
	return nil
}

func (v *Verifier) matchMAC(m *message, keys []Key) {
	for n, k := range keys {
		if !k.fits(v.scheme.Algorithm) {
			continue
		}
		want := k.sum(v.segments, m)
		for i := range m.found.n {
			if hmac.Equal(m.found.sums[i][:v.size], want.sum) {
				m.matched(n)
			}
		}
		k.release(want)
	}
}

func (v *Verifier) matchPublic(m *message, keys []Key) {
	text := m.signedString(v.segments)
	for n, k := range keys {
		if !k.fits(v.scheme.Algorithm) {
			continue
		}
		for i := range m.found.n {
			var sum []byte
			if v.size == 0 {
				sum = m.varying[i]
			} else {
				sum = bytes.Clone(m.found.sums[i][:v.size]) // a reference would move every message to the heap
			}
			if k.verifyPublic(text, sum) {
				m.matched(n)
			}
		}
	}
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
