package field

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// Tree is a set of paths, to take from a document what lies at them and nothing
// else. Make it with [ParseTree].
type Tree struct {
	members map[string]*Tree // nil where everything is kept
}

// ParseTree reads paths such as id, customer.email or lines[].sku, each at most
// once and none below another. A name alone may stand for an object in one
// document and an array of objects in another; [] behind it says no more.
func ParseTree(paths []string) (*Tree, error) {
	root := &Tree{members: map[string]*Tree{}}
	if len(paths) == 0 {
		return nil, errors.New("no path")
	}
	for _, text := range paths {
		p, err := ParsePath(text)
		if err != nil {
			return nil, err
		}
		if len(p.segments) == 0 {
			return nil, fmt.Errorf("path %q: want a name", text)
		}
		if err := root.add(p.segments); err != nil {
			return nil, fmt.Errorf("path %q: %w", text, err)
		}
	}
	return root, nil
}

func (t *Tree) add(rest []segment) error {
	child, known := t.members[rest[0].name]
	switch {
	case len(rest) == 1 && known, known && child.members == nil:
		return errors.New("it, or one that it is part of, is named already")
	case len(rest) == 1:
		t.members[rest[0].name] = &Tree{}
		return nil
	case !known:
		child = &Tree{members: map[string]*Tree{}}
		t.members[rest[0].name] = child
	}
	return child.add(rest[1:])
}

// Of returns what t has of a document, which [Valid] has seen: spliced from its
// bytes. Objects lose the members that aren't named, arrays nothing but what
// their elements lose, and what is neither is kept.
func (t *Tree) Of(doc []byte) []byte { return t.appendOf(nil, bytes.TrimSpace(doc)) }

func (t *Tree) appendOf(out, doc []byte) []byte {
	if t.members == nil || len(doc) == 0 || doc[0] != '{' && doc[0] != '[' {
		return append(out, doc...)
	}
	dec := newReader(doc)
	if _, err := dec.ReadToken(); err != nil {
		return append(out, doc...)
	}
	out = append(out, doc[0])
	for first := true; dec.PeekKind() != '}' && dec.PeekKind() != ']'; {
		child := t
		if doc[0] == '{' {
			name, err := dec.ReadToken()
			if err != nil {
				break
			}
			if child = t.members[name.String()]; child == nil {
				if dec.SkipValue() != nil {
					break
				}
				continue
			}
			out = appendComma(out, first)
			out = append(appendName(out, name.String()), ':')
		} else {
			out = appendComma(out, first)
		}
		first = false
		value, err := dec.ReadValue()
		if err != nil {
			break
		}
		out = child.appendOf(out, value)
	}
	return append(out, doc[0]+2) // the bracket that ends it
}

func appendComma(out []byte, first bool) []byte {
	if first {
		return out
	}
	return append(out, ',')
}

func appendName(out []byte, name string) []byte {
	out, _ = jsontext.AppendQuote(out, name)
	return out
}
