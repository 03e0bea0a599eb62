package signature

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

func canonical(name string) string { return http.CanonicalHeaderKey(name) }

// NeedsURL reports whether the signed string has the URL that the sender
// called, so that [Request] must have it.
func (v *Verifier) NeedsURL() bool {
	return slices.ContainsFunc(v.segments, func(s segment) bool { return s.kind == publicURL || s.kind == publicPath })
}

// Covers reports whether a valid signature vouches for the whole body, rather
// than for none or a part of it. A signature over a CRC-32 doesn't: whoever has
// seen one request can make other bodies with the same sum.
func (v *Verifier) Covers() bool {
	return v.scheme.Algorithm != None && !v.scheme.PartialBody &&
		!slices.ContainsFunc(v.segments, func(s segment) bool { return s.kind == bodyCRC32 })
}

// CoversJSON reports whether a valid signature vouches for the value at that
// path of a JSON body.
func (v *Verifier) CoversJSON(path string) bool {
	return v.Covers() || slices.ContainsFunc(v.segments, func(s segment) bool {
		return slices.Contains(s.names, path) || s.kind == jsonText && s.value.path.String() == path ||
			s.kind == timestamp && v.scheme.Timestamp == jsonPrefix+path
	})
}

// readSegments finds the id, the other headers and all else that is part of the
// signed string beside body and timestamp.
func (v *Verifier) readSegments(m *message) (err *Error) {
	for i := range v.segments {
		s := &v.segments[i]
		switch s.kind {
		case id:
			m.id, err = m.read(StepSigned, v.id)
		case header:
			_, err = m.request.single(StepSigned, s.text)
		case publicURL, publicPath:
			if m.request.URL == "" {
				err = &Error{StepSigned, "the public URL isn't known", ErrMissing}
			}
		default:
			if s.kind.computed() {
				var text string
				text, err = v.compute(m, s)
				m.values = append(m.values, text)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compute returns the text of a computed segment.
func (v *Verifier) compute(m *message, s *segment) (string, *Error) {
	switch s.kind {
	case bodySHA256:
		return sha256Hex(m.request.Body), nil
	case bodyCRC32:
		return strconv.FormatUint(uint64(crc32.ChecksumIEEE(m.request.Body)), 10), nil
	case jsonText:
		return m.json(StepSigned, s.value)
	case jsonLines:
		return m.jsonLines(s)
	case formField:
		return m.formValue(StepSigned, s.value.name)
	case formSorted:
		return m.sortedForm()
	default:
		return v.signedHeaders(m, s.text)
	}
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (m *message) jsonLines(s *segment) (string, *Error) {
	var b strings.Builder
	for i, p := range s.lines {
		text, there, err := m.line(p)
		if err != nil {
			return "", err
		}
		// A line break would let one member's text stand for two members.
		if i > 0 && strings.Contains(text, "\n") {
			return "", &Error{StepSigned, jsonPrefix + s.names[i] + " has a line break", ErrMalformed}
		}
		if there {
			b.WriteString(s.names[i] + "\n" + text + "\n")
		}
	}
	return b.String(), nil
}

// SignsForm reports whether of a form the fields are signed rather than the body, so
// that it can be spelled in many ways that all have the signature.
func (v *Verifier) SignsForm() bool {
	return slices.ContainsFunc(v.segments, func(s segment) bool { return s.kind == formSorted })
}

// SignedForm returns what is signed of the request's form where [Verifier.SignsForm]
// says so. It reports false where the body is no form.
func (v *Verifier) SignedForm(r Request) (string, bool) {
	m := message{request: r}
	if !m.isForm() {
		return "", false
	}
	text, err := m.sortedForm()
	return text, err == nil
}

// sortedForm follows Twilio: names in order, each with its values in order and
// each value once. What isn't a form has its hash in the query, which the URL in
// the signed string covers.
// https://www.twilio.com/docs/usage/webhooks/webhooks-security
func (m *message) sortedForm() (string, *Error) {
	if !m.isForm() {
		called, err := url.Parse(m.request.URL)
		if err != nil {
			return "", &Error{StepSigned, "the public URL can't be read", ErrMalformed}
		}
		if hashes := called.Query()["bodySHA256"]; len(hashes) != 1 || !strings.EqualFold(hashes[0], sha256Hex(m.request.Body)) {
			return "", &Error{StepSigned, "the query's bodySHA256 isn't the body's", ErrMismatch}
		}
		return "", nil
	}
	if err := m.readForm(StepSigned); err != nil {
		return "", err
	}
	names := make([]string, 0, len(m.form))
	for name := range m.form {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		values := slices.Clone(m.form[name])
		slices.Sort(values)
		for _, value := range slices.Compact(values) {
			b.WriteString(name + value)
		}
	}
	return b.String(), nil
}

// maxSignedHeaders bounds the list of headers that a sender signs.
const maxSignedHeaders = 32

// signedHeaders gives the headers that the list in the header of that name has.
// The list has to have itself, and the timestamp where there is one: without
// them, anyone could take headers off it.
func (v *Verifier) signedHeaders(m *message, list string) (string, *Error) {
	value, err := m.request.single(StepSigned, list)
	if err != nil {
		return "", err
	}
	names := strings.Split(strings.ToLower(value), ",")
	if len(names) > maxSignedHeaders {
		return "", &Error{StepSigned, fmt.Sprintf("more than %d headers in %s", maxSignedHeaders, list), ErrMalformed}
	}
	for _, must := range []string{list, v.timestamp.name} {
		if must != "" && !slices.Contains(names, strings.ToLower(must)) {
			return "", &Error{StepSigned, fmt.Sprintf("%s isn't in %s", must, list), ErrMissing}
		}
	}
	lines := make([]string, len(names))
	for i, name := range names {
		if !validHeader(name) {
			return "", &Error{StepSigned, list + " isn't a list of header names", ErrMalformed}
		}
		text, err := m.request.single(StepSigned, canonical(name))
		if err != nil {
			return "", err
		}
		lines[i] = name + ":" + text
	}
	return strings.Join(lines, ";"), nil
}

// appendSegment appends the text of a segment other than body.
func (m *message) appendSegment(text []byte, s *segment) []byte {
	switch s.kind {
	case literal:
		return append(text, s.text...)
	case timestamp:
		return append(text, m.timestamp...)
	case id:
		return append(text, m.id...)
	case header:
		return append(text, trim(m.request.Header[s.text][0])...)
	case method:
		return append(text, m.request.Method...)
	case publicURL:
		return append(text, m.request.URL...)
	case publicPath:
		return append(text, pathOf(m.request.URL)...)
	case secretText:
		return append(text, m.secret...)
	default:
		return append(text, m.values[s.index]...)
	}
}

// pathOf returns the path of a URL with its query.
func pathOf(called string) string {
	_, rest, _ := strings.Cut(called, "://")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}
	return "/"
}

// signedString returns the whole signed string.
func (m *message) signedString(segments []segment) []byte {
	text := make([]byte, 0, len(m.request.Body)+256)
	for i := range segments {
		if segments[i].kind == body {
			text = append(text, m.request.Body...)
			continue
		}
		text = m.appendSegment(text, &segments[i])
	}
	return text
}
