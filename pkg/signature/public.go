package signature

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// parsePublic reads a sender's public key: the 32 bytes of an Ed25519 key in
// hex or base64 as key.encoding says, and for P-256 a PKIX key, in PEM or as its
// base64 alone.
func parsePublic(s Scheme, secret string) (any, error) {
	if s.Algorithm == Ed25519 {
		key, err := s.Key.decode(secret)
		if err != nil {
			return nil, err
		}
		if len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("public key: %d bytes, want %d; is key.encoding right?", len(key), ed25519.PublicKeySize)
		}
		return ed25519.PublicKey(key), nil
	}
	der, err := base64.StdEncoding.Strict().DecodeString(secret)
	if block, _ := pem.Decode([]byte(secret)); block != nil {
		der, err = block.Bytes, nil
	}
	if err != nil {
		return nil, errors.New("public key: neither PEM nor base64")
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, errors.New("public key: not in PKIX form")
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("public key: not one of the curve P-256")
	}
	return key, nil
}

// verifyPublic tells whether sum is a signature of text under k's public key.
func (k Key) verifyPublic(text, sum []byte) bool {
	switch key := k.state.public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(key, text, sum)
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(text)
		return ecdsa.VerifyASN1(key, digest[:], sum)
	}
	return false
}

// maxDER is the length of the longest signature of P-256 in DER.
const maxDER = 72

// decodeVarying adds a signature of varying length to m.
func (v *Verifier) decodeVarying(m *message, encoded string) bool {
	longest := maxDER
	if v.scheme.Algorithm.rsa() {
		longest = maxRSA
	}
	if len(encoded) > hex.EncodedLen(longest) || strings.ContainsAny(encoded, "\r\n") || m.found.n == maxCandidates {
		return false
	}
	sum, err := v.decodeText(encoded)
	if err != nil || len(sum) == 0 {
		return false
	}
	m.varying = append(m.varying, sum)
	m.found.n++
	return true
}
