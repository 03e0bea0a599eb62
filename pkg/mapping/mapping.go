// Package mapping evaluates the jq expressions of a pipeline file: which
// triggers and events go on, and what is made of them. The language is that of
// jq, by github.com/itchyny/gojq.
//
// An expression sees one document:
//
//	{
//	  "trigger": …,  the provider's body, null for a record that was listed
//	  "record": …,   the full record, null before it was fetched and where there is none
//	  "related": …,  an object with the related records, or null
//	  "event": {
//	    "id", "delivery_id", "source", "account", "type", "origin", "part", "resource",
//	    "record_id", "version", "time", "received_at", "observed_at": texts, or null,
//	    "deleted": true for a tombstone, else false
//	  }
//	}
//
// Numbers that an expression leaves alone come out as they were spelled, 1.10
// and 1e400 too. Whole numbers of any length are calculated and compared
// exactly, others as 64-bit floats. Members of objects come out sorted by name.
//
// The same document always gives the same answer: what depends on the clock,
// the zone, the environment or further input is refused when the file is
// loaded. Evaluation is bounded in steps, in time and in the size of its
// answer. The bounds are against documents that an expression was not written
// for; the expression itself is as trusted as the rest of the file.
package mapping

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/itchyny/gojq"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/fault"
)

// Expr is a compiled expression. The zero Expr is none: see [Expr.IsZero]. It is
// safe for concurrent use.
type Expr struct {
	text  string
	place string
	code  *gojq.Code
}

// Parse compiles an expression. The error has jq's own message and, where it
// is about the syntax, the place in text.
func Parse(text string) (Expr, error) {
	query, err := gojq.Parse(text)
	if err != nil {
		return Expr{}, syntaxError(text, err)
	}
	code, err := compile(query)
	if err != nil {
		return Expr{}, fmt.Errorf("jq: %w", err)
	}
	return Expr{text: text, place: "expression", code: code}, nil
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Expr) Forms() []any { return []any{""} }

// DecodeNode reads and compiles an expression, so that a file with a wrong one
// is refused when it is loaded.
func (e *Expr) DecodeNode(n config.Node) { *e = Expr{text: n.Text(), place: n.Place()} }

// Validate reports what is wrong with the expression.
func (e *Expr) Validate(c *config.Check) {
	if strings.TrimSpace(e.text) == "" {
		c.Fault("", "", "a jq expression, in quotes")
		return
	}
	parsed, err := Parse(e.text)
	if err != nil {
		c.Fault("", err.Error(), "a jq expression")
		return
	}
	e.code = parsed.code
}

// String returns the expression as it was written.
func (e Expr) String() string { return e.text }

// IsZero reports whether there is no expression.
func (e Expr) IsZero() bool { return e.code == nil }

// Bool evaluates an expression that answers true or false; any other answer,
// none and several are errors. Errors are those of [Expr.Value].
func (e Expr) Bool(ctx context.Context, d *Document) (bool, error) {
	v, err := e.eval(ctx, d)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, e.permanent(fmt.Errorf("gives %s, want true or false", kind(v)))
	}
	return b, nil
}

// Value evaluates an expression that answers with one JSON value of at most
// 8 MiB. An error is permanent, unless ctx has ended: the same document fails
// again. It names the expression's place and what jq says, and nothing of the
// document.
func (e Expr) Value(ctx context.Context, d *Document) (jsontext.Value, error) {
	v, err := e.eval(ctx, d)
	if err != nil {
		return nil, err
	}
	text, err := appendValue(nil, v, maxDepth)
	if err != nil {
		return nil, e.permanent(err)
	}
	return text, nil
}

// eval returns the one answer of the expression.
func (e Expr) eval(ctx context.Context, d *Document) (any, error) {
	in, err := d.value()
	if err != nil {
		return nil, e.permanent(err)
	}
	b := newBudget(ctx)
	answers := e.code.RunWithContext(b, in)
	v, ok := answers.Next()
	if !ok {
		return nil, e.permanent(errors.New("gives nothing, want one value"))
	}
	if err, failed := v.(error); failed {
		return nil, e.failure(ctx, b, err)
	}
	switch second, ok := answers.Next(); err := second.(type) {
	case nil:
		if ok {
			return nil, e.permanent(errSeveral)
		}
	case error:
		return nil, e.failure(ctx, b, err)
	default:
		return nil, e.permanent(errSeveral)
	}
	return v, nil
}

var errSeveral = errors.New("gives several values, want one: [ ] around it makes a list of them")

// failure is the error for one that jq has ended with.
func (e Expr) failure(ctx context.Context, b *budget, err error) error {
	switch {
	case b.spent != nil:
		return e.permanent(b.spent)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", e.place, ctx.Err()) // the caller's time was up, not the expression's
	default:
		return e.permanent(fmt.Errorf("jq: %s", e.explain(err)))
	}
}

func (e Expr) permanent(err error) error { return fault.Permanent(fmt.Errorf("%s: %w", e.place, err)) }

// operands are the kinds of values in jq's messages. After each comes a
// preview of the value itself.
var operands = regexp.MustCompile(`(?: cannot be applied to:| by:| and|:) (?:null|boolean|number|string|array|object)\b`)

// explain is jq's message without the values that it quotes. A text that an
// expression raises itself is shown if it is written there.
func (e Expr) explain(err error) string {
	var raised gojq.ValueError
	if errors.As(err, &raised) {
		text, ok := raised.Value().(string)
		if quoted, _ := jsontext.AppendQuote(nil, text); ok && strings.Contains(e.text, string(quoted)) {
			return "error: " + text
		}
		return "error, with a message that is not written in the expression"
	}
	text := err.Error()
	head := text
	if i := strings.IndexAny(text, `:("[{`); i >= 0 {
		head = text[:i]
	}
	return strings.TrimSpace(head) + strings.Join(operands.FindAllString(text[len(head):], 2), "")
}

// syntaxError says where in text the parser has stopped.
func syntaxError(text string, err error) error {
	var p *gojq.ParseError
	if !errors.As(err, &p) {
		return fmt.Errorf("jq: %w", err)
	}
	before := text[:max(0, min(p.Offset-len(p.Token), len(text)))]
	line := strings.Count(before, "\n")
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Errorf("jq: %w at line %d, column %d of the expression", err, line+1, column)
}
