package field

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// Replace returns doc with another value in the place of each that p leads to,
// and all else to the byte as it was. With is given the old value and returns the
// new one. An error means that doc is not one JSON value; it may have names twice,
// of which each counts.
//
// Unlike [Path.All] it looks for what should not be left: a name stands for that
// member of each element where there is an array, with or without [].
func (p Path) Replace(doc []byte, with func(jsontext.Value) []byte) ([]byte, error) {
	dec := newReader(doc)
	v, err := dec.ReadValue()
	if err != nil {
		return nil, syntaxError(err)
	}
	end := int(dec.InputOffset())
	if len(bytes.TrimLeft(doc[end:], " \t\r\n")) > 0 {
		return nil, Valid(doc)
	}
	out := append(make([]byte, 0, len(doc)), doc[:end-len(v)]...)
	if out, err = appendReplaced(out, doc[end-len(v):end], p.segments, false, with); err != nil {
		return nil, err
	}
	return append(out, doc[end:]...), nil
}

// appendReplaced appends v with what rest leads to replaced. Each says that the segment
// before it was of each element: where v is an array, rest begins in those, also if it
// begins with a number.
func appendReplaced(out, v []byte, rest []segment, each bool, with func(jsontext.Value) []byte) ([]byte, error) {
	if len(rest) == 0 {
		return append(out, with(v)...), nil
	}
	if v[0] != '{' && v[0] != '[' {
		return append(out, v...), nil
	}
	dec := newReader(v)
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntaxError(err)
	}
	done := 0 // up to where v is in out
	for i := 0; dec.PeekKind() != '}' && dec.PeekKind() != ']'; i++ {
		deeper, every := rest, false // of an element
		switch {
		case v[0] == '{':
			name, err := dec.ReadToken()
			if err != nil {
				return nil, syntaxError(err)
			}
			if deeper, every = rest[1:], rest[0].every; name.String() != rest[0].name {
				deeper = nil
			}
		case rest[0].index >= 0 && !each:
			if deeper, every = rest[1:], rest[0].every; i != rest[0].index {
				deeper = nil
			}
		}
		member, err := readSlice(v, dec)
		if err != nil {
			return nil, err
		}
		if deeper == nil {
			continue
		}
		end := int(dec.InputOffset())
		out = append(out, v[done:end-len(member)]...)
		if out, err = appendReplaced(out, member, deeper, every, with); err != nil {
			return nil, err
		}
		done = end
	}
	return append(out, v[done:]...), nil
}

// Leads reports whether q is p or goes on below it, by the names of members.
func (p Path) Leads(q Path) bool {
	if len(p.segments) > len(q.segments) {
		return false
	}
	for i, s := range p.segments {
		if s.name != q.segments[i].name {
			return false
		}
	}
	return true
}
