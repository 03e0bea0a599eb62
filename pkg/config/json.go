package config

import (
	"encoding/json"
	"strings"
)

// JSON returns the node as a JSON value, and whether it is one: a key given twice
// is none. Numbers stay as they are spelled where JSON has that spelling; a text
// in quotes is a text, whatever is in it.
func (n Node) JSON() ([]byte, bool) {
	before := len(n.d.faults)
	b, ok := n.appendJSON(nil)
	return b, ok && len(n.d.faults) == before
}

func (n Node) appendJSON(b []byte) (_ []byte, ok bool) {
	switch n.Kind() {
	case Null:
		return append(b, "null"...), true
	case Mapping:
		b = append(b, '{')
		for i, e := range n.d.unique(n) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendQuoted(b, e.key), ':')
			if b, ok = e.value.appendJSON(b); !ok {
				return nil, false
			}
		}
		return append(b, '}'), true
	case Sequence:
		b = append(b, '[')
		for i, e := range n.elements() {
			if i > 0 {
				b = append(b, ',')
			}
			if b, ok = e.appendJSON(b); !ok {
				return nil, false
			}
		}
		return append(b, ']'), true
	}
	text := n.Text()
	switch form := n.form(); {
	case form == formText:
		return appendQuoted(b, text), true
	case form == formBool:
		return append(b, strings.ToLower(text)...), true
	case form == formNumber && json.Valid([]byte(text)):
		return append(b, text...), true
	}
	n.Fault("a value that JSON has too")
	return nil, false
}

func appendQuoted(b []byte, text string) []byte {
	quoted, _ := json.Marshal(text) // a text always can be
	return append(b, quoted...)
}
