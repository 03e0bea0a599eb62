package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // for RSAEither only
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
)

// Bounds of an RSA key, in bits. Shorter ones can be factored; longer ones make
// every forged request expensive. maxRSA is the bytes of the longest signature.
const (
	minRSABits = 2048
	maxRSABits = 8192
	maxRSA     = maxRSABits / 8
)

// maxKeyName bounds what a request calls the sender's key, in bytes.
const maxKeyName = 512

// SenderKey is a sender's public key that was fetched, made by [NewSenderKey].
// The zero SenderKey is none.
type SenderKey struct{ public crypto.PublicKey }

// NewSenderKey returns public as a key that requests of a scheme with that
// algorithm can be verified with: RSA of 2048 to 8192 bits, or ECDSA over P-256.
// Whether it is the sender's is for the caller to know.
func NewSenderKey(a Algorithm, public crypto.PublicKey) (SenderKey, error) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if !a.rsa() {
			break
		}
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return SenderKey{}, fmt.Errorf("sender's key: RSA of %d bits, want %d to %d", bits, minRSABits, maxRSABits)
		}
		if key.E < 3 || key.E%2 == 0 {
			return SenderKey{}, errors.New("sender's key: RSA with an exponent that nobody uses")
		}
		return SenderKey{key}, nil
	case *ecdsa.PublicKey:
		if a == JWTES256 && key.Curve == elliptic.P256() {
			return SenderKey{key}, nil
		}
	}
	return SenderKey{}, fmt.Errorf("sender's key: not of a kind that %s signs with", a)
}

// FetchesKey reports whether requests are signed under keys of the sender that
// have to be fetched: [Verifier.KeyName] says which, [Request] takes it.
func (v *Verifier) FetchesKey() bool { return v.senderKey.kind != nowhere }

// KeyName returns what r calls the sender's key that it was signed with: a URL,
// or an id. Nothing vouches for it. It is only returned when all is in order
// with r that can be checked without the key, so that junk costs no fetch; else
// the error is the one that Verify would return.
func (v *Verifier) KeyName(r Request, keys []Key) (string, error) {
	m := message{request: r}
	var err *Error
	if v.scheme.Algorithm.jwt() {
		_, err = v.parseJWT(&m)
	} else {
		err = v.readSigned(&m, keys)
	}
	if err != nil {
		return "", err
	}
	return m.keyName, nil
}

// readKeyName finds what the request calls the sender's key.
func (v *Verifier) readKeyName(m *message) (err *Error) {
	if !v.FetchesKey() || v.scheme.Algorithm.jwt() {
		return nil
	}
	m.keyName, err = m.read(StepKey, v.senderKey)
	if err == nil && len(m.keyName) > maxKeyName {
		return &Error{StepKey, fmt.Sprintf("%s has %d bytes, limit %d", v.scheme.SenderKey, len(m.keyName), maxKeyName), ErrMalformed}
	}
	return err
}

// readRecipient finds whom the sender has signed the request for. What a sender
// signs for others under the same key is genuine, and none of ours.
func (v *Verifier) readRecipient(m *message, keys []Key) (err *Error) {
	if v.recipient.kind == nowhere {
		return nil
	}
	if m.recipient, err = m.read(StepRecipient, v.recipient); err != nil {
		return err
	}
	for _, k := range keys {
		if k.fits(v.scheme.Algorithm) && v.meant(m, k) {
			return nil
		}
	}
	return &Error{StepRecipient, v.scheme.Recipient + " is none of the secrets: it is meant for another receiver", ErrMismatch}
}

// meant tells whether m is for the receiver that k names.
func (v *Verifier) meant(m *message, k Key) bool {
	return v.recipient.kind == nowhere || subtle.ConstantTimeCompare([]byte(m.recipient), k.state.secret()) == 1
}

// matchSender compares every candidate under the sender's key.
func (v *Verifier) matchSender(m *message, keys []Key) {
	public, ok := m.request.Sender.public.(*rsa.PublicKey)
	if !ok {
		return
	}
	for n, k := range keys {
		if !k.fits(v.scheme.Algorithm) || !v.meant(m, k) {
			continue
		}
		m.secret = string(k.state.secret())
		text := m.signedString(v.segments)
		for _, sum := range m.varying {
			digest := sha256.Sum256(text)
			if rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sum) == nil {
				m.matched(n)
			}
			if v.scheme.Algorithm != RSAEither {
				continue
			}
			weak := sha1.Sum(text) //nolint:gosec // the sender's users choose it
			if rsa.VerifyPKCS1v15(public, crypto.SHA1, weak[:], sum) == nil {
				m.matched(n)
			}
		}
	}
}

// checkSender looks at the fields around a key that is fetched.
func checkSender(faults *Faults, s Scheme, segments []segment) {
	signsSecret := false
	for _, seg := range segments {
		signsSecret = signsSecret || seg.kind == secretText
	}
	if !s.Algorithm.rsa() {
		if s.Algorithm == JWTES256 && s.SenderKey != "" && s.SenderKey != jwtKeyID.String() {
			faults.add("sender_key", s.SenderKey, "kid, which the header of a token names its key by")
		}
		if signsSecret {
			faults.add("signed", s.Signed, "{secret} with the schemes for rsa only")
		}
		return
	}
	if s.SenderKey == "" {
		faults.add("sender_key", "", "where a request names the sender's key, such as the header X-Cert-Url")
	}
	if s.Recipient == "" && !signsSecret {
		faults.add("recipient", "", "where the body has whom it is for, or {secret} in signed: the sender signs for others with the same key")
	}
	if s.Recipient != "" && !namesMember(segments, s.Recipient) {
		faults.add("recipient", s.Recipient, "body. and a member of {json_lines:…}: what isn't signed proves nothing")
	}
}

// namesMember tells whether a JSON member, as body.path, is among signed lines.
func namesMember(segments []segment, member string) bool {
	for _, seg := range segments {
		for _, name := range seg.names {
			if jsonPrefix+name == member {
				return true
			}
		}
	}
	return false
}
