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
		return &Error{StepFormat, fmt.Sprintf("%s doesn't begin with %q", v.where(), v.scheme.Prefix), ErrMalformed}
	}
	if !v.decode(m, encoded) {
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
			return &Error{StepFormat, fmt.Sprintf("an item of %s has no %q", v.where(), s.PairSeparator), ErrMalformed}
		case name == s.TimestampKey && name != "":
			times++
			m.timestamp = text
		case name == s.SignatureKey || s.SignatureKey == anyKey:
			if signatures++; signatures > maxCandidates {
				return &Error{StepFormat, fmt.Sprintf("more than %d signatures", maxCandidates), ErrMalformed}
			}
			v.decode(m, text)
		}
	}
	switch {
	case times > 1:
		return &Error{StepFormat, fmt.Sprintf("%d items %q in %s", times, s.TimestampKey, v.where()), ErrRepeated}
	case times == 0 && s.TimestampKey != "":
		return &Error{StepFormat, fmt.Sprintf("no item %q in %s", s.TimestampKey, v.where()), ErrMissing}
	case signatures == 0:
		return &Error{StepFormat, fmt.Sprintf("no item %q in %s", s.SignatureKey, v.where()), ErrMissing}
	case m.found.n == 0:
		return v.undecodable()
	}
	return nil
}

func (v *Verifier) undecodable() *Error {
	if v.size == 0 {
		return &Error{StepFormat, fmt.Sprintf("no %s of a signature in %s", v.scheme.Encoding, v.where()), ErrMalformed}
	}
	return &Error{StepFormat, fmt.Sprintf("no %s of %d bytes in %s", v.scheme.Encoding, v.size, v.where()), ErrMalformed}
}

// where names the place of the signature for people.
func (v *Verifier) where() string {
	switch s := &v.scheme; {
	case s.Signature != "":
		return s.Signature
	case s.HeaderSeries != "":
		return canonical(s.HeaderSeries) + "…"
	default:
		return canonical(s.Header)
	}
}

// anyKey as SignatureKey takes items of every name.
const anyKey = "*"

// decode adds one signature to m, if it is written as the scheme demands. The
// length is checked on the text, since Go's base64 skips line ends.
func (v *Verifier) decode(m *message, encoded string) bool {
	if v.size == 0 {
		return v.decodeVarying(m, encoded)
	}
	c := &m.found
	if c.n == maxCandidates {
		return false
	}
	var text [maxEncoded]byte
	var n int
	var err error
	sum := c.sums[c.n][:]
	if len(encoded) != v.encodedLen() {
		return false
	}
	switch v.scheme.Encoding {
	case Hex:
		n, err = hex.Decode(sum, text[:copy(text[:], encoded)])
	case Base64:
		n, err = strictBase64.Decode(sum, text[:copy(text[:], encoded)])
	case Base64URL:
		n, err = strictBase64URL.Decode(sum, text[:copy(text[:], encoded)])
	}
	if err != nil || n != v.size {
		return false
	}
	c.n++
	return true
}

// encodedLen is how long the text of a signature of fixed size is.
func (v *Verifier) encodedLen() int {
	switch v.scheme.Encoding {
	case Base64:
		return strictBase64.EncodedLen(v.size)
	case Base64URL:
		return strictBase64URL.EncodedLen(v.size)
	default:
		return hex.EncodedLen(v.size)
	}
}

// decodeText decodes a signature of varying length.
func (v *Verifier) decodeText(encoded string) ([]byte, error) {
	switch v.scheme.Encoding {
	case Base64:
		return strictBase64.DecodeString(encoded)
	case Base64URL:
		return strictBase64URL.DecodeString(encoded)
	default:
		return hex.DecodeString(encoded)
	}
}

// encode is the inverse of decode.
func (v *Verifier) encode(sum []byte) string {
	switch v.scheme.Encoding {
	case Base64:
		return base64.StdEncoding.EncodeToString(sum)
	case Base64URL:
		return base64.RawURLEncoding.EncodeToString(sum)
	default:
		return hex.EncodeToString(sum)
	}
}

var (
	strictBase64    = base64.StdEncoding.Strict()
	strictBase64URL = base64.RawURLEncoding.Strict()
)
