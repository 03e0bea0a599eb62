package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// parse returns the root of the only document in data. If it isn't ok, there
// is at least one fault.
func (d *decoder) parse(data []byte) (root ast.Node, ok bool) {
	if len(data) > maxSize {
		d.add(Fault{Line: 1, Column: 1, Found: "a file over 1 MiB", Want: "a smaller one"})
		return nil, false
	}
	text := string(bytes.TrimPrefix(data, []byte("\ufeff")))
	d.measure(text)
	if !d.readable(text) {
		return nil, false
	}
	defer func() {
		// The file comes from outside, so a slip of the YAML library on it is
		// one more fault and not the end of the process.
		if r := recover(); r != nil {
			d.add(Fault{Line: 1, Column: 1, Found: "text that cannot be read as YAML", Want: "simpler YAML"})
			root, ok = nil, false
		}
	}()
	// Without a line break at the end the lexer drops a tag there and folds the
	// last block wrongly.
	tokens := joinColons(lexer.Tokenize(strings.TrimSuffix(text, "\n") + "\n"))
	if len(tokens) > maxTokens {
		d.add(Fault{Line: 1, Column: 1, Found: fmt.Sprintf("%d keys, values and signs", len(tokens)), Want: fmt.Sprintf("at most %d", maxTokens)})
		return nil, false
	}
	if !d.plainTokens(tokens) {
		return nil, false
	}
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // unique keys are checked while decoding
	if err != nil {
		d.syntax(err, text)
		return nil, false
	}
	for _, doc := range f.Docs {
		if doc.Body != nil {
			root = doc.Body
		}
	}
	if root == nil {
		d.add(Fault{Line: 1, Column: 1, Found: "an empty file", Want: "keys and values"})
		return nil, false
	}
	return root, d.complete(root, tokens)
}

// measure notes the length of each line, which bounds the positions of faults.
func (d *decoder) measure(text string) {
	for _, line := range splitLines(text) {
		d.lines = append(d.lines, utf8.RuneCountInString(line))
	}
}

func splitLines(text string) []string {
	return strings.Split(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n"), "\n")
}

// readable faults the first byte that is not UTF-8 text.
func (d *decoder) readable(text string) bool {
	line, column := 1, 1
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		f := Fault{Line: line, Column: column}
		switch {
		case r == utf8.RuneError && size == 1:
			f.Found, f.Want = fmt.Sprintf("byte 0x%02x that is not UTF-8", text[i]), "a file saved as UTF-8"
		case r < ' ' && !strings.ContainsRune("\t\n\r", r) || r == 0x7f:
			f.Found, f.Want = fmt.Sprintf("control character %U", r), "text"
		case r == '\n' || r == '\r' && !strings.HasPrefix(text[i+1:], "\n"):
			line, column = line+1, 1
			continue
		default:
			column++
			continue
		}
		d.add(f)
		return false
	}
	return true
}

// joinColons puts together what the lexer takes apart inside braces: a colon
// without a space after it is part of a plain text, as in {a: [env:B]}.
func joinColons(tokens token.Tokens) token.Tokens {
	var joined token.Tokens
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		for i+2 < len(tokens) && tight(t, tokens[i+1], tokens[i+2]) {
			t = token.String(t.Value+":"+tokens[i+2].Value, t.Origin+":"+tokens[i+2].Origin, t.Position)
			i += 2
		}
		joined.Add(t)
	}
	return joined
}

// tight reports whether a colon stands between two plain texts without space.
func tight(left, colon, right *token.Token) bool {
	return colon.Type == token.MappingValueType && plain(left) && plain(right) &&
		left.Position.Line == colon.Position.Line &&
		left.Position.Column+utf8.RuneCountInString(left.Value) == colon.Position.Column &&
		strings.TrimLeft(right.Origin, " \t\r\n") == right.Origin
}

// plain reports whether t is a scalar without quotes.
func plain(t *token.Token) bool {
	switch t.Type {
	case token.StringType, token.BoolType, token.NullType, token.FloatType, token.InfinityType, token.NanType,
		token.IntegerType, token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType:
		return true
	}
	return false
}

// refused are the parts of YAML that make a file say other than it seems to,
// or that cost the parser more than they give the reader.
var refused = map[token.Type]Fault{
	token.AnchorType:     {Found: "an anchor (&)", Want: "the value written out, in quotes if it is text that begins with &"},
	token.AliasType:      {Found: "an alias (*)", Want: "the value written out, in quotes if it is text that begins with *"},
	token.MergeKeyType:   {Found: "a merge key (<<)", Want: "the keys written out"},
	token.TagType:        {Found: "a tag (!)", Want: "the value alone, in quotes if it is text that begins with !"},
	token.MappingKeyType: {Found: "a complex key (?)", Want: "a key of plain text, in quotes if it begins with ?"},
	token.DirectiveType:  {Found: "a directive (%)", Want: "none, or text that begins with % in quotes"},
}

var tooDeep = Fault{Found: "too deep a nesting", Want: fmt.Sprintf("at most %d levels", maxDepth)}

// plainTokens faults what is refused, further documents and deep nesting. It
// works on tokens because the parser loses some of these silently, and takes
// time and stack in the square of the nesting.
func (d *decoder) plainTokens(tokens token.Tokens) bool {
	before := len(d.faults)
	content, nest := false, nesting{}
	for i, t := range tokens {
		f, at := refused[t.Type], t
		switch {
		case t.Type == token.CommentType:
			continue
		case t.Type == token.DocumentHeaderType || t.Type == token.DocumentEndType:
			if content && i < len(tokens)-1 {
				f = Fault{Found: "a second document", Want: "one document in a file"}
			}
		case t.Type == token.MappingValueType && t.Prev != nil && t.Prev.Position.Line != t.Position.Line:
			f = Fault{Found: "a colon", Want: "its key in the same line"}
		case wrapped(t):
			f = Fault{Found: "text over several lines", Want: "quotes around it, or a block after |"}
			at = cmp.Or(t.Prev, t) // such a token may have the position of its end
		}
		content = true
		deep := nest.add(t) > maxDepth
		if deep {
			f = tooDeep
		}
		if f != (Fault{}) {
			f.Line, f.Column = d.clamp(at.Position)
			d.add(f)
		}
		if deep {
			break
		}
	}
	return len(d.faults) == before
}

// wrapped reports whether t is plain text that goes on in the next line. What
// looks like its next line is more often a key or an element that is indented
// too far.
func wrapped(t *token.Token) bool {
	if t.Type != token.StringType || !strings.ContainsAny(strings.TrimSpace(t.Origin), "\r\n") {
		return false
	}
	before := t.Prev
	for before != nil && before.Type == token.CommentType {
		before = before.Prev
	}
	return before == nil || before.Type != token.LiteralType && before.Type != token.FoldedType
}

// nesting counts, from below, how deep in collections a token is.
type nesting struct {
	flow    int
	columns []int // of the block collections around the token
}

func (n *nesting) add(t *token.Token) int {
	switch {
	case t.Type == token.SequenceStartType || t.Type == token.MappingStartType:
		n.flow++
	case t.Type == token.SequenceEndType || t.Type == token.MappingEndType:
		n.flow--
	case n.flow > 0:
	case t.Type == token.SequenceEntryType, t.Next != nil && t.Next.Type == token.MappingValueType:
		for len(n.columns) > 0 && n.columns[len(n.columns)-1] >= t.Position.Column {
			n.columns = n.columns[:len(n.columns)-1]
		}
		n.columns = append(n.columns, t.Position.Column)
	}
	return n.flow + len(n.columns)
}

// complete faults text that the parser read but put nowhere, so that nothing
// in a file is ever ignored.
func (d *decoder) complete(root ast.Node, tokens token.Tokens) bool {
	seen := map[*token.Token]bool{}
	ast.Walk(visitor(func(n ast.Node) {
		seen[n.GetToken()] = true
		if l, ok := n.(*ast.LiteralNode); ok {
			seen[l.Value.GetToken()] = true
		}
	}), root)
	for _, t := range tokens {
		if (plain(t) || t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType) && !seen[t] {
			f := Fault{Found: "text that belongs to no key", Want: "keys and values"}
			f.Line, f.Column = d.clamp(t.Position)
			d.add(f)
			return false
		}
	}
	return true
}

type visitor func(ast.Node)

func (v visitor) Visit(n ast.Node) ast.Visitor {
	v(n)
	return v
}

// syntax reports an error of the parser, without the excerpt of the file that
// its text would show.
func (d *decoder) syntax(err error, text string) {
	f := Fault{Line: 1, Column: 1, Found: "text that cannot be read as YAML"}
	var ye yaml.Error
	if errors.As(err, &ye) {
		f.Found = "invalid YAML: " + strings.ReplaceAll(ye.GetMessage(), "\t", `\t`)
		if t := ye.GetToken(); t != nil {
			f.Line, f.Column = d.clamp(t.Position)
		}
	}
	line := splitLines(text)[f.Line-1]
	switch indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]; {
	case strings.Contains(indent, "\t"):
		f.Found, f.Want = "a tab", "spaces for indentation"
	case strings.Contains(f.Found, "mapping value is not allowed"):
		f.Want = `keys of one level in one column, and quotes around text with ": " in it`
	}
	d.add(f)
}

// position returns where n begins; for a mapping, where its first key does.
func (d *decoder) position(n ast.Node) (line, column int) {
	for {
		switch m := n.(type) {
		case *ast.MappingNode:
			if m.IsFlowStyle || len(m.Values) == 0 {
				return d.clamp(m.Start.Position)
			}
			n = m.Values[0].Key
		case *ast.MappingValueNode:
			n = m.Key
		default:
			if n == nil || n.GetToken() == nil {
				return 1, 1
			}
			return d.clamp(n.GetToken().Position)
		}
	}
}

// clamp keeps positions within the file, where the library errs.
func (d *decoder) clamp(p *token.Position) (line, column int) {
	if p == nil {
		return 1, 1
	}
	line = min(max(p.Line, 1), len(d.lines))
	return line, min(max(p.Column, 1), d.lines[line-1]+1)
}
