// Package field reads single values out of JSON documents and HTTP headers by
// short written expressions, such as body.order.id or
// "{header.X-Event}.{body.action}".
//
// It decides which bytes are an event's id, type or version, so it reads JSON
// strictly: names match by exact case, numbers keep their own digits (they
// never pass through a float), and [Valid] refuses duplicate names and broken
// UTF-8. It decodes nothing that the expression does not ask for.
package field

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrMissing is returned when a document has no value at a path, or null.
var ErrMissing = errors.New("no value")

// maxSegments bounds the depth of a path.
const maxSegments = 32

// Path is a dotted way to a value inside a JSON document. The zero Path is
// the document itself. Make others with [ParsePath].
type Path struct{ segments []segment }

type segment struct {
	name  string
	index int  // of an array element when name is all digits, else -1
	every bool // "[]": every element of the array found here
}

// ParsePath reads a path such as order.id, items.0.id (an array element) or
// items[].id (one value for each element). "" and "$" are the whole document.
func ParsePath(text string) (Path, error) {
	if text == "" || text == "$" {
		return Path{}, nil
	}
	parts := strings.Split(text, ".")
	if len(parts) > maxSegments {
		return Path{}, fmt.Errorf("path %q: %d segments, want at most %d", text, len(parts), maxSegments)
	}
	var p Path
	for _, part := range parts {
		name, every := strings.CutSuffix(part, "[]")
		if part == "" || strings.ContainsAny(name, "[]{}$ ") {
			return Path{}, fmt.Errorf("path %q: segment %q, want a name, an index or name[]", text, part)
		}
		s := segment{name: name, index: -1, every: every}
		if n, err := strconv.ParseUint(name, 10, 31); err == nil {
			s.index = int(n)
		}
		p.segments = append(p.segments, s)
	}
	return p, nil
}

// String gives the path as it is written.
func (p Path) String() string {
	var parts []string
	for _, s := range p.segments {
		if s.every {
			parts = append(parts, s.name+"[]")
		} else {
			parts = append(parts, s.name)
		}
	}
	return strings.Join(parts, ".")
}

// Many reports whether the path can find more than one value.
func (p Path) Many() bool {
	for _, s := range p.segments {
		if s.every {
			return true
		}
	}
	return false
}

// All returns every value that p finds in doc, in document order, as slices of
// doc. No match is an empty result; an error means that doc is not JSON as far
// as it had to be read. Of two members with one name the first counts: have
// [Valid] look at what a stranger wrote.
func (p Path) All(doc []byte) ([]jsontext.Value, error) {
	var found []jsontext.Value
	err := walk(doc, p.segments, &found)
	return found, err
}

// One returns the first value that p finds in doc, or [ErrMissing].
func (p Path) One(doc []byte) (jsontext.Value, error) {
	all, err := p.All(doc)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, ErrMissing
	}
	return all[0], nil
}

// Valid reports why doc is not one strict JSON value (RFC 8259 with unique
// names and valid UTF-8, as RFC 7493 asks), or nil. The error gives the byte
// offset and never quotes the document.
func Valid(doc []byte) error {
	if quickly(doc, nil, nil) {
		return nil
	}
	return validSlowly(doc)
}

func validSlowly(doc []byte) error {
	if jsontext.Value(doc).IsValid() { // twice as fast, but it doesn't say where
		return nil
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(doc))
	if err := dec.SkipValue(); err != nil {
		return syntaxError(err)
	}
	if rest := bytes.TrimLeft(doc[dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return fmt.Errorf("invalid JSON: more data after the value at byte %d", len(doc)-len(rest))
	}
	return nil
}

// newReader reads a document that [Valid] has seen, or whose duplicate names
// don't matter: looking for them takes most of the time.
func newReader(doc []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(doc), jsontext.AllowDuplicateNames(true))
}

func walk(doc []byte, rest []segment, found *[]jsontext.Value) error {
	if len(rest) == 0 {
		*found = append(*found, bytes.TrimSpace(doc))
		return nil
	}
	dec := newReader(doc)
	switch dec.PeekKind() {
	case '{':
		return walkObject(doc, dec, rest, found)
	case '[':
		if rest[0].index < 0 {
			return nil
		}
		return walkArray(doc, dec, func(i int, v []byte) (bool, error) {
			if i != rest[0].index {
				return true, nil
			}
			return false, descend(v, rest, found)
		})
	case 0:
		_, err := dec.ReadToken()
		return syntaxError(err)
	default:
		return nil
	}
}

func walkObject(doc []byte, dec *jsontext.Decoder, rest []segment, found *[]jsontext.Value) error {
	if _, err := dec.ReadToken(); err != nil {
		return syntaxError(err)
	}
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return syntaxError(err)
		}
		match := name.String() == rest[0].name
		v, err := readSlice(doc, dec)
		if err != nil {
			return err
		}
		if match {
			return descend(v, rest, found)
		}
	}
	_, err := dec.ReadToken()
	return syntaxError(err)
}

// descend goes on below the value that rest[0] has found.
func descend(v []byte, rest []segment, found *[]jsontext.Value) error {
	if !rest[0].every {
		return walk(v, rest[1:], found)
	}
	dec := newReader(v)
	if dec.PeekKind() != '[' {
		return nil
	}
	return walkArray(v, dec, func(_ int, v []byte) (bool, error) {
		return true, walk(v, rest[1:], found)
	})
}

func walkArray(doc []byte, dec *jsontext.Decoder, each func(int, []byte) (more bool, err error)) error {
	if _, err := dec.ReadToken(); err != nil {
		return syntaxError(err)
	}
	for i := 0; dec.PeekKind() != ']'; i++ {
		v, err := readSlice(doc, dec)
		if err != nil {
			return err
		}
		if more, err := each(i, v); err != nil || !more {
			return err
		}
	}
	return nil
}

// readSlice skips the next value and returns it as a slice of doc, which
// outlives the decoder's own buffer.
func readSlice(doc []byte, dec *jsontext.Decoder) ([]byte, error) {
	v, err := dec.ReadValue()
	if err != nil {
		return nil, syntaxError(err)
	}
	end := int(dec.InputOffset())
	return doc[end-len(v) : end], nil
}

// syntaxError says where JSON is broken without quoting it: payloads stay out
// of error texts.
func syntaxError(err error) error {
	if err == nil {
		return nil
	}
	var syn *jsontext.SyntacticError
	if errors.As(err, &syn) {
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			return fmt.Errorf("invalid JSON: duplicate name at byte %d", syn.ByteOffset)
		default:
			return fmt.Errorf("invalid JSON at byte %d", syn.ByteOffset)
		}
	}
	return errors.New("invalid JSON: unexpected end")
}

// Elements returns the elements of a JSON array as slices of list.
func Elements(list []byte) ([][]byte, error) {
	dec := newReader(list)
	if dec.PeekKind() != '[' {
		return nil, errors.New("not an array")
	}
	var elements [][]byte
	err := walkArray(list, dec, func(_ int, v []byte) (bool, error) {
		elements = append(elements, v)
		return true, nil
	})
	return elements, err
}
