package signature

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"
)

// verifyCredential checks a request that carries the secret itself.
func (v *Verifier) verifyCredential(m *message, keys []Key) *Error {
	value, err := m.read(StepHeader, v.sources[0])
	if err != nil {
		return err
	}
	given, ok := v.credential(value)
	if !ok {
		return &Error{StepFormat, "the " + v.where() + " doesn't begin as the scheme says", ErrMalformed}
	}
	sum := sha256.Sum256([]byte(given))
	for n, k := range keys {
		if k.fits(v.scheme.Algorithm) {
			want := sha256.Sum256([]byte(v.scheme.credentialText(string(k.state.secret()))))
			if subtle.ConstantTimeCompare(sum[:], want[:]) == 1 {
				m.matched(n)
			}
		}
	}
	if m.key == 0 {
		return &Error{StepMatch, "it is none of the secrets", ErrMismatch}
	}
	return nil
}

// credential cuts off what is in front of the secret. The names of HTTP's own
// schemes are of either case (RFC 9110, section 11.1).
func (v *Verifier) credential(value string) (string, bool) {
	name := ""
	switch v.scheme.Algorithm {
	case Bearer:
		name = "Bearer "
	case Basic:
		name = "Basic "
	default:
		return strings.CutPrefix(value, v.scheme.Prefix)
	}
	if len(value) < len(name) || !strings.EqualFold(value[:len(name)], name) {
		return "", false
	}
	return strings.TrimLeft(value[len(name):], " "), true
}

// credentialText is what a sender that has the secret puts behind the name.
func (s Scheme) credentialText(secret string) string {
	if s.Algorithm == Basic {
		return base64.StdEncoding.EncodeToString([]byte(secret))
	}
	return secret
}
