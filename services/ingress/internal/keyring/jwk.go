package keyring

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"strconv"
	"time"

	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/signature"
)

// readKey takes a key out of an endpoint's answer, which is strict JSON.
func (r *Ring) readKey(doc []byte, id string) (*held, error) {
	e := r.cfg.Keys.Endpoint
	found, err := e.Key.In(doc)
	if err != nil {
		return nil, unavailable("the answer has no key")
	}
	public, err := parseJWK(found, id)
	if err != nil {
		return nil, unavailable(err.Error())
	}
	key, err := signature.NewSenderKey(r.cfg.Algorithm, public)
	if err != nil {
		return nil, unknown(err.Error())
	}
	now := r.deps.Now()
	until := now.Add(keptFor)
	if ends, ok, err := r.expiry(doc); err != nil {
		return nil, err
	} else if ok {
		until = earlier(until, ends)
	}
	if !now.Before(until) {
		return nil, unknown("the key has expired")
	}
	return &held{key: key, refresh: earlier(until, now.Add(refreshAfter)), until: until}, nil
}

// expiry returns the key's end, if it has one.
func (r *Ring) expiry(doc []byte) (time.Time, bool, error) {
	e := r.cfg.Keys.Endpoint
	if e.Expiry.IsZero() {
		return time.Time{}, false, nil
	}
	found, err := e.Expiry.In(doc)
	if err != nil || found.Kind() == 'n' {
		return time.Time{}, false, nil
	}
	text, err := field.Text(found)
	if err != nil {
		return time.Time{}, false, unavailable("the key's end is no number of seconds")
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, false, unavailable("the key's end is no number of seconds")
	}
	return time.Unix(seconds, 0), true, nil
}

var (
	jwkID, _    = field.ParsePath("kid")
	jwkType, _  = field.ParsePath("kty")
	jwkCurve, _ = field.ParsePath("crv")
	jwkX, _     = field.ParsePath("x")
	jwkY, _     = field.ParsePath("y")
)

// parseJWK reads a public key of P-256 (RFC 7518, section 6.2), of that id if it
// has one.
func parseJWK(doc []byte, id string) (*ecdsa.PublicKey, error) {
	if kid := member(doc, jwkID); kid != "" && kid != id {
		return nil, errors.New("the answer has a key of another id")
	}
	if member(doc, jwkType) != "EC" || member(doc, jwkCurve) != "P-256" {
		return nil, errors.New("the answer has no key of the curve P-256")
	}
	point := []byte{4} // uncompressed (SEC 1, section 2.3.3)
	for _, path := range []field.Path{jwkX, jwkY} {
		coordinate, err := base64.RawURLEncoding.Strict().DecodeString(member(doc, path))
		if err != nil || len(coordinate) != 32 {
			return nil, errors.New("the answer has a key whose coordinates aren't 32 bytes in base64url")
		}
		point = append(point, coordinate...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, errors.New("the answer has a key that isn't on its curve")
	}
	return public, nil
}

// member returns a text of the key, or "".
func member(doc []byte, path field.Path) string {
	found, err := path.One(doc)
	if err != nil || found.Kind() != '"' {
		return ""
	}
	text, err := field.Text(found)
	if err != nil {
		return ""
	}
	return text
}
