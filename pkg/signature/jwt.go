package signature

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"math/big"
	"strings"

	"github.com/tercelhq/tercel/pkg/field"
)

var (
	jwtAlgorithm, _ = field.ParsePath("alg")
	jwtIssuedAt, _  = field.ParsePath("iat")
)

// verifyJWT checks a JSON Web Token (RFC 7519) whose claims have the time of
// signing and the hash of the body. The token doesn't choose the algorithm.
func (v *Verifier) verifyJWT(m *message, keys []Key) *Error {
	value, err := m.read(StepHeader, v.sources[0])
	if err != nil {
		return err
	}
	malformed := func(reason string) *Error { return &Error{StepFormat, reason, ErrMalformed} }
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
	issued, ok := Seconds.at(textAt(claims, jwtIssuedAt))
	if !ok {
		return &Error{StepTimestamp, "the claim iat is no whole number of seconds", ErrMalformed}
	}
	m.at = issued
	if !v.jwtSigned(keys, parts[0]+"."+parts[1], decoded[2]) {
		return &Error{StepMatch, "the token was made with none of the keys", ErrMismatch}
	}
	hash := textAt(claims, v.claim)
	if subtle.ConstantTimeCompare([]byte(strings.ToLower(hash)), []byte(sha256Hex(m.request.Body))) != 1 {
		return &Error{StepBody, "the claim " + v.scheme.BodyHashClaim + " isn't the body's hash", ErrMismatch}
	}
	return nil
}

func (v *Verifier) jwtName() string {
	if v.scheme.Algorithm == JWTES256 {
		return "ES256"
	}
	return "HS256"
}

func (v *Verifier) jwtSigned(keys []Key, text string, sum []byte) bool {
	matched := false
	for _, k := range keys {
		if !k.fits(v.scheme.Algorithm) {
			continue
		}
		if key, ok := k.state.public.(*ecdsa.PublicKey); ok {
			digest := sha256.Sum256([]byte(text))
			if len(sum) == 64 && ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(sum[:32]), new(big.Int).SetBytes(sum[32:])) {
				matched = true
			}
			continue
		}
		mac := hmac.New(sha256.New, k.state.secret())
		mac.Write([]byte(text))
		if hmac.Equal(mac.Sum(nil), sum) {
			matched = true
		}
	}
	return matched
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
