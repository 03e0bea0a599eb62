package provider

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/tercelhq/tercel/pkg/signature"
)

// ErrNotAllowed is returned for a handshake whose [Handshake].Check isn't what
// it has to be.
var ErrNotAllowed = errors.New("not allowed")

// Allow reports why h doesn't let r pass: [ErrNotAllowed], wrapped with the
// reason, where its [Handshake].Check isn't what it has to be. Secrets are
// compared in constant time.
func (h *Handshake) Allow(r *Call) error {
	if h.Check.IsZero() {
		return nil
	}
	if len(h.Secrets)+len(h.Allowed) == 0 {
		return fmt.Errorf("%s: %w: neither secrets nor allowed are configured", h.Check, ErrNotAllowed)
	}
	text, ok := r.text(h.Check)
	if !ok {
		return fmt.Errorf("%s: %w: it isn't there", h.Check, ErrNotAllowed)
	}
	got, equal := sha256.Sum256([]byte(text)), 0
	for _, s := range h.Secrets {
		want := sha256.Sum256([]byte(s.Reveal())) // which hides the length too
		equal |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	if equal == 1 || slices.ContainsFunc(h.Allowed, func(a string) bool { return a == "*" || strings.EqualFold(a, text) }) {
		return nil
	}
	return fmt.Errorf("%s: %w: it is none of those that are configured", h.Check, ErrNotAllowed)
}

// Brought returns the secret that r brings, or "" where there is none, or none
// that could be one.
func (h *Handshake) Brought(r *Call) string {
	if h.Brings.IsZero() {
		return ""
	}
	text, err := r.echo(h.Brings)
	if err != nil {
		return ""
	}
	return text
}

// IsZero reports whether there is nothing to visit.
func (v Visit) IsZero() bool { return v.URL.IsZero() && len(v.Hosts) == 0 }

// Address returns the address that r wants visited, "" where there is none to
// visit, or an error that wraps [ErrNotAllowed] and doesn't quote it.
func (v Visit) Address(r *Call) (string, error) {
	if v.IsZero() {
		return "", nil
	}
	text, err := r.echo(v.URL)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Opaque != "" ||
		!slices.ContainsFunc(v.Hosts, func(h HostPattern) bool { return h.Matches(u.Host) }) {
		return "", fmt.Errorf("%s: %w: no https URL of one of its hosts", v.URL, ErrNotAllowed)
	}
	return u.String(), nil
}

// Response is an answer to a handshake.
type Response struct {
	Answer
	// Header are further headers by name.
	Header map[string]string
}

// Respond returns the answer to r, which was signed with key, or with none. What
// the request says stands in it only as text/plain or in JSON, so that nobody can
// have a page of his own shown under this address. An error says which value
// isn't to be had, and doesn't quote it.
func (h *Handshake) Respond(r *Call, key signature.Key) (Response, error) {
	res := Response{Answer: h.Answer.Answer, Header: make(map[string]string, len(h.Answer.Headers))}
	var err error
	for name, v := range h.Answer.Headers {
		if res.Header[name], err = v.in(r, key); err != nil {
			return Response{}, err
		}
	}
	if !h.Answer.Text.IsZero() {
		res.ContentType = "text/plain; charset=utf-8"
		if res.Body, err = h.Answer.Text.in(r, key); err != nil {
			return Response{}, err
		}
	}
	if len(h.Answer.JSON) == 0 {
		return res, nil
	}
	members := make(map[string]string, len(h.Answer.JSON))
	for name, v := range h.Answer.JSON {
		if members[name], err = v.in(r, key); err != nil {
			return Response{}, err
		}
	}
	body, err := json.Marshal(members) // which escapes < > and & too
	if err != nil {
		return Response{}, err
	}
	res.Body, res.ContentType = string(body), "application/json"
	return res, nil
}
