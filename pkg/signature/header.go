package signature

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	maxCandidates = 16
	maxSum        = 64         // bytes of an HMAC-SHA512
	maxEncoded    = 2 * maxSum // in hex, the longest encoding
	whitespace    = " \t"      // OWS, RFC 9110, section 5.6.3
)

// candidates are the signatures of a request, decoded. An array, so that they
// live on the stack.
type candidates struct {
	n    int
	sums [maxCandidates][maxSum]byte
}

// single returns the only value of a header, without the whitespace around it.
func (r Request) single(step, name string) (string, *Error) {
	values := r.Header[name]
	if len(values) == 0 {
		return "", &Error{step, "no " + name, ErrMissing}
	}
	if len(values) > 1 {
		return "", &Error{step, fmt.Sprintf("%d of %s", len(values), name), ErrRepeated}
	}
	value := values[0]
	if len(value) > maxHeader {
		return "", &Error{step, fmt.Sprintf("%s has %d bytes, limit %d", name, len(value), maxHeader), ErrMalformed}
	}
	if value = trim(value); value == "" {
		return "", &Error{step, name + " is empty", ErrMalformed}
	}
	return value, nil
}

func trim(value string) string { return strings.Trim(value, whitespace) }

// parseRaw reads a header that is one signature after the scheme's prefix.
func (v *Verifier) parseRaw(value string, m *message) *Error {
	encoded, ok := strings.CutPrefix(value, v.scheme.Prefix)
	if !ok {
		return &Error{StepFormat, fmt.Sprintf("%s doesn't begin with %q", v.header, v.scheme.Prefix), ErrMalformed}
	}
	if !v.decode(&m.found, encoded) {
		return v.undecodable()
	}
	return nil
}

// parseList reads a header of named items. A signature that doesn't decode
// can't match; it stands in nobody's way as long as another one decodes.
func (v *Verifier) parseList(value string, m *message) *Error {
	s := &v.scheme
	signatures, times := 0, 0
	for item := range strings.SplitSeq(value, s.ListSeparator) {
		item = trim(item)
		if item == "" && strings.Contains(whitespace, s.ListSeparator) {
			continue
		}
		name, text, ok := strings.Cut(item, s.PairSeparator)
		switch {
		case !ok:
			return &Error{StepFormat, fmt.Sprintf("an item of %s has no %q", v.header, s.PairSeparator), ErrMalformed}
		case name == s.SignatureKey:
			if signatures++; signatures > maxCandidates {
				return &Error{StepFormat, fmt.Sprintf("more than %d signatures", maxCandidates), ErrMalformed}
			}
			v.decode(&m.found, text)
		case name == s.TimestampKey && name != "":
			times++
			m.timestamp = text
		}
	}
	switch {
	case times > 1:
		return &Error{StepFormat, fmt.Sprintf("%d items %q in %s", times, s.TimestampKey, v.header), ErrRepeated}
	case times == 0 && s.TimestampKey != "":
		return &Error{StepFormat, fmt.Sprintf("no item %q in %s", s.TimestampKey, v.header), ErrMissing}
	case signatures == 0:
		return &Error{StepFormat, fmt.Sprintf("no item %q in %s", s.SignatureKey, v.header), ErrMissing}
	case m.found.n == 0:
		return v.undecodable()
	}
	return nil
}

func (v *Verifier) undecodable() *Error {
	return &Error{StepFormat, fmt.Sprintf("no %s of %d bytes in %s", v.scheme.Encoding, v.size, v.header), ErrMalformed}
}

// decode adds one signature to c, if it is written as the scheme demands. The
// length is checked on the text, since Go's base64 skips line ends.
func (v *Verifier) decode(c *candidates, encoded string) bool {
	var text [maxEncoded]byte
	var n int
	var err error
	sum := c.sums[c.n][:]
	switch v.scheme.Encoding {
	case Hex:
		if len(encoded) != hex.EncodedLen(v.size) {
			return false
		}
		n, err = hex.Decode(sum, text[:copy(text[:], encoded)])
	case Base64:
		if len(encoded) != base64.StdEncoding.EncodedLen(v.size) {
			return false
		}
		n, err = strictBase64.Decode(sum, text[:copy(text[:], encoded)])
	}
	if err != nil || n != v.size {
		return false
	}
	c.n++
	return true
}

var strictBase64 = base64.StdEncoding.Strict()
