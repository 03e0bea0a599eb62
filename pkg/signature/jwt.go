package signature

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"

	"github.com/tercelhq/tercel/pkg/field"
)

var (
	jwtAlgorithm, _ = field.ParsePath("alg")
	jwtIssuedAt, _  = field.ParsePath("iat")
	jwtKeyID, _     = field.ParsePath("kid")
	jwtCritical, _  = field.ParsePath("crit")
)

// token is a JSON Web Token that was read and not yet verified.
type token struct {
	signed string
	claims []byte
	sum    []byte
}

// verifyJWT checks a JSON Web Token (RFC 7519) whose claims have the time of
// signing and the hash of the body. The token doesn't choose the algorithm.
func (v *Verifier) verifyJWT(m *message, keys []Key) *Error {
	t, err := v.parseJWT(m)
	if err != nil {
		return err
	}
	if !v.jwtSigned(m, keys, t) {
		return &Error{StepMatch, "the token was made with none of the keys", ErrMismatch}
	}
	hash := textAt(t.claims, v.claim)
	if subtle.ConstantTimeCompare([]byte(strings.ToLower(hash)), []byte(sha256Hex(m.request.Body))) != 1 {
		return &Error{StepBody, "the claim " + v.scheme.BodyHashClaim + " isn't the body's hash", ErrMismatch}
	}
	return nil
}

// parseJWT reads the token and, into m, the time that it claims and the key that
// it names.
func (v *Verifier) parseJWT(m *message) (token, *Error) {
	value, err := m.read(StepHeader, v.sources[0])
	if err != nil {
		return token{}, err
	}
	malformed := func(reason string) (token, *Error) { return token{}, &Error{StepFormat, reason, ErrMalformed} }
	compact, ok := strings.CutPrefix(value, v.scheme.Prefix)
	parts := strings.Split(compact, ".")
	if !ok || len(parts) != 3 {
		return malformed("no JSON Web Token after the scheme's prefix")
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil || strings.ContainsAny(part, "\r\n") {
			return malformed("a part of the token is no unpadded base64url")
		}
	}
	head, claims := decoded[0], decoded[1]
	if field.Valid(head) != nil || field.Valid(claims) != nil {
		return malformed("a part of the token is no strict JSON")
	}
	if textAt(head, jwtAlgorithm) != v.jwtName() {
		return malformed("the token names another algorithm than " + v.jwtName())
	}
	if _, err := jwtCritical.One(head); err == nil { // RFC 7515, section 4.1.11
		return malformed("the token has an extension that must be understood")
	}
	if m.at, ok = Seconds.at(textAt(claims, jwtIssuedAt)); !ok {
		return token{}, &Error{StepTimestamp, "the claim iat is no whole number of seconds", ErrMalformed}
	}
	if m.keyName = textAt(head, jwtKeyID); v.FetchesKey() && (m.keyName == "" || len(m.keyName) > maxKeyName) {
		return token{}, &Error{StepKey, fmt.Sprintf("the token's kid is no text of 1 to %d bytes", maxKeyName), ErrMalformed}
	}
	return token{parts[0] + "." + parts[1], claims, decoded[2]}, nil
}

func (v *Verifier) jwtName() string {
	if v.scheme.Algorithm == JWTES256 {
		return "ES256"
	}
	return "HS256"
}

func (v *Verifier) jwtSigned(m *message, keys []Key, t token) bool {
	if v.FetchesKey() {
		key, ok := m.request.Sender.public.(*ecdsa.PublicKey)
		return ok && t.signedBy(key)
	}
	for n, k := range keys {
		if !k.fits(v.scheme.Algorithm) {
			continue
		}
		if key, ok := k.state.public.(*ecdsa.PublicKey); ok {
			if t.signedBy(key) {
				m.matched(n)
			}
			continue
		}
		mac := hmac.New(sha256.New, k.state.secret())
		mac.Write([]byte(t.signed))
		if hmac.Equal(mac.Sum(nil), t.sum) {
			m.matched(n)
		}
	}
	return m.key > 0
}

// signedBy tells whether t's sum is a signature after ES256.
func (t token) signedBy(key *ecdsa.PublicKey) bool {
	digest := sha256.Sum256([]byte(t.signed))
	return len(t.sum) == 64 && ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(t.sum[:32]), new(big.Int).SetBytes(t.sum[32:]))
}

// textAt returns a text or number of a valid JSON document, or "".
func textAt(doc []byte, p field.Path) string {
	found, err := p.One(doc)
	if err != nil {
		return ""
	}
	text, err := field.Text(found)
	if err != nil {
		return ""
	}
	return text
}
