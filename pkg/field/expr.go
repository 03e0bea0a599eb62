package field

import (
	"errors"
	"fmt"
	"iter"
	"net/textproto"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Scope is what an expression may look into.
type Scope struct {
	// Header gives the value of a request header, or "". Nil means that there
	// are no headers.
	Header func(name string) string
	// Docs are the JSON documents by root name, such as "body" or "record".
	Docs map[string][]byte
	// Scan is what was read of one of them already, or nil.
	Scan *Scan
	// Values are plain values by name, such as "id" or "account".
	Values map[string]string
}

// Expr is one expression: a bare reference such as body.order.id, or a
// template with references in braces such as "{header.X-Event}.{body.action}".
// The zero Expr is empty; see [Expr.IsZero].
type Expr struct {
	text  string
	parts []part
}

type part struct {
	literal string
	root    string // "" for a literal
	header  string // its canonical name when root is "header"
	path    Path
}

// Parse reads an expression. Its references may begin with one of roots
// ("header" among them, if headers are to be had) or be one of roots on their
// own, such as "id".
func Parse(text string, roots ...string) (Expr, error) {
	e := Expr{text: text}
	if text == "" {
		return Expr{}, errors.New("empty expression")
	}
	if strings.ContainsAny(text, "{}") {
		return ParseTemplate(text, roots...)
	}
	p, err := parseRef(text, roots)
	if err != nil {
		return Expr{}, err
	}
	e.parts = []part{p}
	return e, nil
}

// ParseTemplate reads a template: literal text with any number of references
// in braces, none included. The roots are those of [Parse].
func ParseTemplate(text string, roots ...string) (Expr, error) {
	e := Expr{text: text}
	for rest := text; rest != ""; {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			e.parts = append(e.parts, part{literal: rest})
			break
		}
		end := strings.IndexByte(rest, '}')
		if rest[open] == '}' || end < 0 {
			return Expr{}, fmt.Errorf("expression %q: unbalanced braces", text)
		}
		if open > 0 {
			e.parts = append(e.parts, part{literal: rest[:open]})
		}
		p, err := parseRef(rest[open+1:end], roots)
		if err != nil {
			return Expr{}, err
		}
		e.parts = append(e.parts, p)
		rest = rest[end+1:]
	}
	return e, nil
}

func parseRef(ref string, roots []string) (part, error) {
	root, rest, dotted := strings.Cut(ref, ".")
	if !slices.Contains(roots, root) {
		return part{}, fmt.Errorf("reference %q: want one that begins with %s", ref, strings.Join(roots, ", "))
	}
	if root == "header" {
		if !dotted || rest == "" || strings.ContainsAny(rest, " :{}") {
			return part{}, fmt.Errorf("reference %q: want header.NAME", ref)
		}
		return part{root: root, header: textproto.CanonicalMIMEHeaderKey(rest)}, nil
	}
	path, err := ParsePath(rest)
	if err != nil {
		return part{}, err
	}
	return part{root: root, path: path}, nil
}

// String gives the expression as it was written.
func (e Expr) String() string { return e.text }

// IsZero reports whether e is empty.
func (e Expr) IsZero() bool { return len(e.parts) == 0 }

// Uses reports whether e refers to root.
func (e Expr) Uses(root string) bool {
	return slices.ContainsFunc(e.parts, func(p part) bool { return p.root == root })
}

// Repeated returns a header that e refers to and that h has more than once, or
// "". Two readers could take two different values of it.
func (e Expr) Repeated(h map[string][]string) string {
	for i := range e.parts {
		if p := &e.parts[i]; p.root == "header" && len(h[p.header]) > 1 {
			return p.header
		}
	}
	return ""
}

// Headers yields the canonical names of the request headers that e refers to.
func (e Expr) Headers() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, p := range e.parts {
			if p.root == "header" && !yield(p.header) {
				return
			}
		}
	}
}

// Paths yields the paths below root that e refers to.
func (e Expr) Paths(root string) iter.Seq[Path] {
	return func(yield func(Path) bool) {
		for _, p := range e.parts {
			if p.root == root && root != "header" && !yield(p.path) {
				return
			}
		}
	}
}

// Bind returns e with those of its references replaced by their values that s
// has a document or headers for, so that they need not be looked for again. Its
// errors are those of [Expr.Eval].
func (e Expr) Bind(s Scope) (Expr, error) {
	bound := Expr{text: e.text, parts: slices.Clone(e.parts)}
	for i, p := range bound.parts {
		if _, ok := s.Docs[p.root]; !ok && (p.root != "header" || s.Header == nil) {
			continue
		}
		v, err := p.value(s)
		if err != nil {
			return Expr{}, fmt.Errorf("%s: %w", e.text, err)
		}
		bound.parts[i] = part{literal: v}
	}
	return bound, nil
}

// Eval returns the expression's value as text. Strings lose their quotes,
// numbers and booleans keep their spelling. A reference that finds nothing,
// null or an empty string makes it [ErrMissing], wrapped with the reference;
// an object or array is an error too.
func (e Expr) Eval(s Scope) (string, error) {
	return e.eval(s, func(v string) string { return v })
}

// JSON returns the expression's value as JSON: that of a bare reference into a
// document as it is spelled there, and every other as a string. Its errors are
// those of [Expr.Eval].
func (e Expr) JSON(s Scope) (jsontext.Value, error) {
	text, err := e.Eval(s)
	if err != nil {
		return nil, err
	}
	if len(e.parts) == 1 && !strings.ContainsAny(e.text, "{}") {
		if doc, ok := s.Docs[e.parts[0].root]; ok {
			return e.parts[0].path.One(doc)
		}
	}
	return jsontext.AppendQuote(nil, text)
}

// Build is Eval with every referenced value passed through escape first, such
// as url.PathEscape. Literal text stays as it is.
func (e Expr) Build(s Scope, escape func(string) string) (string, error) { return e.eval(s, escape) }

// All returns every value of an expression that is one bare reference with
// [], in document order, and the single value of any other expression.
func (e Expr) All(s Scope) ([]string, error) {
	if len(e.parts) != 1 || !e.parts[0].path.Many() {
		v, err := e.Eval(s)
		if err != nil {
			return nil, err
		}
		return []string{v}, nil
	}
	p := e.parts[0]
	found, err := p.path.All(s.Docs[p.root])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.text, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: %w", e.text, ErrMissing)
	}
	values := make([]string, len(found))
	for i, v := range found {
		if values[i], err = Text(v); err != nil {
			return nil, fmt.Errorf("%s: element %d: %w", e.text, i, err)
		}
	}
	return values, nil
}

func (e Expr) eval(s Scope, escape func(string) string) (string, error) {
	if len(e.parts) == 1 && e.parts[0].root != "" {
		v, err := e.parts[0].value(s)
		if err != nil {
			return "", fmt.Errorf("%s: %w", e.text, err)
		}
		return escape(v), nil
	}
	var b strings.Builder
	for _, p := range e.parts {
		if p.root == "" {
			b.WriteString(p.literal)
			continue
		}
		v, err := p.value(s)
		if err != nil {
			return "", fmt.Errorf("%s: %w", e.text, err)
		}
		b.WriteString(escape(v))
	}
	return b.String(), nil
}

func (p part) value(s Scope) (string, error) {
	if p.root == "header" {
		if s.Header == nil {
			return "", ErrMissing
		}
		if v := s.Header(p.header); v != "" {
			return v, nil
		}
		return "", ErrMissing
	}
	if v, ok := s.Values[p.root]; ok && len(p.path.segments) == 0 {
		if v == "" {
			return "", ErrMissing
		}
		return v, nil
	}
	if v, known := s.Scan.find(p); known {
		if v == nil {
			return "", ErrMissing
		}
		return Text(v)
	}
	doc, ok := s.Docs[p.root]
	if !ok || len(doc) == 0 {
		return "", ErrMissing
	}
	v, err := p.path.One(doc)
	if err != nil {
		return "", err
	}
	return Text(v)
}

// Text returns a scalar JSON value as text: a string without its quotes, a
// number or boolean as it is spelled. Null and the empty string are
// [ErrMissing]; an object or an array is an error.
func Text(v jsontext.Value) (string, error) {
	switch v.Kind() {
	case '"':
		if n := len(v) - 1; n > 1 && plain(v, 1) == n && v[n] == '"' && utf8.Valid(v) {
			return string(v[1:n]), nil // as it is spelled
		}
		b, err := jsontext.AppendUnquote(nil, v)
		if err != nil {
			return "", errors.New("invalid JSON string")
		}
		if len(b) == 0 {
			return "", ErrMissing
		}
		return string(b), nil
	case '0', 't', 'f':
		return string(v), nil
	case 'n':
		return "", ErrMissing
	default:
		return "", errors.New("an object or array, want a string or number")
	}
}

// First evaluates the alternatives in order and returns the first value that
// is there. When none is, the error names every alternative and wraps
// [ErrMissing].
func First(alternatives []Expr, s Scope) (string, error) {
	var errs []string
	for _, e := range alternatives {
		v, err := e.Eval(s)
		if err == nil {
			return v, nil
		}
		if !errors.Is(err, ErrMissing) {
			return "", err
		}
		errs = append(errs, e.text)
	}
	return "", fmt.Errorf("%s: %w", strings.Join(errs, ", "), ErrMissing)
}
