package field

import "bytes"

// Set returns a document, which [Valid] has seen, with value at p: in the place
// of what is there, or as a new member of the object that it would belong to. It
// reports whether there is such an object; p may have names alone.
func (p Path) Set(doc, value []byte) ([]byte, bool) {
	if len(p.segments) == 0 {
		return nil, false
	}
	return appendSet(make([]byte, 0, len(doc)+len(value)), bytes.TrimSpace(doc), p.segments, value)
}

func appendSet(out, doc []byte, rest []segment, value []byte) ([]byte, bool) {
	if len(doc) == 0 || doc[0] != '{' || rest[0].every {
		return nil, false
	}
	dec := newReader(doc)
	if _, err := dec.ReadToken(); err != nil {
		return nil, false
	}
	out = append(out, '{')
	found, first := false, true
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, false
		}
		own := name.String()
		out = append(appendName(appendComma(out, first), own), ':')
		first = false
		old, err := dec.ReadValue()
		if err != nil {
			return nil, false
		}
		switch {
		case own != rest[0].name || found:
			out = append(out, old...)
		case len(rest) == 1:
			out, found = append(out, value...), true
		default:
			if out, found = appendSet(out, old, rest[1:], value); !found {
				return nil, false
			}
		}
	}
	if !found && len(rest) > 1 {
		return nil, false
	}
	if !found {
		out = append(append(appendName(appendComma(out, first), rest[0].name), ':'), value...)
	}
	return append(out, '}'), true
}
