package signature

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Reads returns the names of the request headers that the verifier looks at, as
// net/http spells them, and of each whether its value may be shown to whoever
// looks for a mistake. That of a token, of credentials and of a JSON Web Token may
// not: whoever has one can send in the sender's name. The map is the caller's.
func (v *Verifier) Reads() map[string]bool {
	reads := map[string]bool{}
	add := func(p place, may bool) {
		if p.kind == inHeader {
			reads[p.name] = may
		}
	}
	for _, p := range []place{v.id, v.timestamp, v.senderKey} {
		add(p, true)
	}
	for _, s := range v.segments {
		if s.kind == header || s.kind == signedHeaders {
			reads[s.text] = true
		}
	}
	for _, p := range v.sources { // last, since a token may be asked for its time
		add(p, v.scheme.Algorithm.signs())
	}
	return reads
}

// NamesHeaders reports whether requests say themselves which headers they sign.
func (v *Verifier) NamesHeaders() bool {
	return slices.ContainsFunc(v.segments, func(s segment) bool { return s.kind == signedHeaders })
}

// ReadsMore returns the names of further headers that a request of the scheme says
// it has signed, as net/http spells them: where the signed string has
// {signed_headers:Name}, those that the list in header Name has.
func (v *Verifier) ReadsMore(h http.Header) []string {
	var more []string
	for _, s := range v.segments {
		if s.kind != signedHeaders || len(h[s.text]) == 0 {
			continue
		}
		names := strings.Split(h[s.text][0], ",")
		for _, name := range names[:min(len(names), maxSignedHeaders)] {
			if name = trim(name); validHeader(name) {
				more = append(more, canonical(name))
			}
		}
	}
	return more
}

// Tolerance is how far the time of signing may lie from the receiver's clock, or
// 0 where the scheme has no such time.
func (v *Verifier) Tolerance() time.Duration {
	if !v.scheme.timed() {
		return 0
	}
	return v.scheme.Tolerance
}
