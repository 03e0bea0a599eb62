package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// A NodeDecoder decodes its own node, for types with more than one form:
//
//	func (p *Page) DecodeNode(n config.Node) {
//		if n.Kind() == config.Scalar { // next: cursor
//			p.Cursor = n.Text()
//			return
//		}
//		n.Decode(p) // next: {cursor: …, param: …}
//	}
//
// It is also the place for defaults of elements of a map or slice: set them,
// then call n.Decode. DecodeNode is called on a pointer to the value.
type NodeDecoder interface {
	DecodeNode(n Node)
}

// Kind is the shape of a [Node].
type Kind int

// The kinds of nodes. A key with nothing after it holds a Null.
const (
	Null Kind = iota
	Scalar
	Mapping
	Sequence
)

// A Node is one place in a file being decoded. It is valid only during the
// DecodeNode call that it was given to.
type Node struct {
	d      *decoder
	n      ast.Node
	key    string       // path from the root
	depth  int          // collections around it
	within reflect.Type // the type whose DecodeNode has the node in hand
	absent bool         // n is an ancestor of the place that key names
}

// Kind returns the shape of the node.
func (n Node) Kind() Kind {
	switch n.n.(type) {
	case ast.MapNode:
		return Mapping
	case ast.ArrayNode:
		return Sequence
	}
	if n.form() == formNull {
		return Null
	}
	return Scalar
}

// Text returns the text of a scalar, without quotes and otherwise as written;
// "" for other kinds.
func (n Node) Text() string {
	text, _ := scalar(n.n)
	return text
}

// Decode decodes the node into the value that into points to, as [Decode]
// does, and reports whether that added no fault. Into may be the value whose
// DecodeNode is running: its fields are then decoded without calling it again.
func (n Node) Decode(into any) bool {
	target := reflect.ValueOf(into)
	before := len(n.d.faults)
	if err := checkTarget(target); err != nil {
		n.d.misuse = err
		return false
	}
	n.d.value(n, target.Elem())
	return len(n.d.faults) == before
}

// Fault reports that want, a phrase, was wanted here.
func (n Node) Fault(want string) { n.d.fault(n, Fault{Found: n.found(), Want: want}) }

// Place returns where the node is, as faults begin: file:line:column and key.
// Values that can fail long after they were read name it then.
func (n Node) Place() string {
	line, column := n.d.position(n.n)
	return fmt.Sprintf("%s:%d:%d: %s", n.d.file, line, column, n.key)
}

// Dir returns the folder of the file that is being decoded, where relative
// paths in it begin.
func (n Node) Dir() string { return filepath.Dir(n.d.file) }

// Keys returns the keys of a mapping in the order of the file, repeated ones
// too: only Decode faults those.
func (n Node) Keys() []string {
	var keys []string
	for _, e := range n.entries() {
		keys = append(keys, e.key)
	}
	return keys
}

// Child returns the value of key in a mapping.
func (n Node) Child(key string) (Node, bool) {
	for _, e := range n.entries() {
		if e.key == key {
			return e.value, true
		}
	}
	return Node{}, false
}

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	at    Node // the key's position and path
	value Node
	bare  bool // {key} without a colon
}

func (n Node) entries() []entry {
	m, ok := n.n.(ast.MapNode)
	if !ok {
		return nil
	}
	var entries []entry
	for it := m.MapRange(); it.Next(); {
		key, _ := scalar(it.Key())
		child := Node{d: n.d, n: it.Value(), key: joinKey(n.key, key), depth: n.depth + 1}
		at := child
		at.n = it.Key()
		bare := it.KeyValue().GetToken().Type != token.MappingValueType
		entries = append(entries, entry{key: key, at: at, value: child, bare: bare})
	}
	return entries
}

func (n Node) elements() []Node {
	s, ok := n.n.(ast.ArrayNode)
	if !ok {
		return nil
	}
	var elements []Node
	for it := s.ArrayRange(); it.Next(); {
		key := n.key + "[" + strconv.Itoa(len(elements)) + "]"
		elements = append(elements, Node{d: n.d, n: it.Value(), key: key, depth: n.depth + 1})
	}
	return elements
}

// at follows a relative path as far as it goes. A key may itself hold dots,
// so the longest one that exists is taken.
func (n Node) at(path string) Node {
	if path == "" {
		return n
	}
	for _, e := range n.entries() {
		if e.key == path {
			return e.value
		}
	}
	for cut := len(path) - 1; cut > 0; cut-- {
		if path[cut] != '.' && path[cut] != '[' {
			continue
		}
		if child, ok := n.Child(path[:cut]); ok {
			return child.at(strings.TrimPrefix(path[cut:], "."))
		}
	}
	if index, rest, ok := strings.Cut(strings.TrimPrefix(path, "["), "]"); ok {
		elements := n.elements()
		if i, err := strconv.Atoi(index); err == nil && i >= 0 && i < len(elements) {
			return elements[i].at(strings.TrimPrefix(rest, "."))
		}
	}
	n.absent = true
	if n.key != "" && path[0] != '[' {
		n.key += "."
	}
	n.key += path
	return n
}

// found describes what the file has at n.
func (n Node) found() string {
	text, form := scalar(n.n)
	switch n.Kind() {
	case Mapping:
		return "a mapping"
	case Sequence:
		return "a list"
	case Null:
		return "nothing"
	}
	if n.d.secret[n.n] {
		return redacted
	}
	if form == formText {
		return quote(text)
	}
	return text
}

// form is how a scalar was written.
type form int

const (
	formNone form = iota // no scalar
	formNull
	formText
	formNumber
	formBool
)

func (n Node) form() form {
	_, f := scalar(n.n)
	return f
}

func scalar(n ast.Node) (text string, f form) {
	switch s := n.(type) {
	case nil, *ast.NullNode:
		return "", formNull
	case *ast.StringNode:
		return s.Value, formText
	case *ast.LiteralNode:
		return s.Value.Value, formText
	case *ast.BoolNode:
		return s.Token.Value, formBool
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, formNumber
	}
	return "", formNone
}

// quote quotes text for a fault and shortens what would fill the screen.
func quote(text string) string {
	const most = 80
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return strconv.Quote(text)
}

// joinKey appends a key to a path, in quotes if it would be misread there.
func joinKey(path, key string) string {
	odd := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-/*", r)
	}
	if key == "" || strings.ContainsFunc(key, odd) {
		key = quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
