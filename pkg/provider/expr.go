package provider

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
)

// TriggerExpr finds one value in a trigger. It is written as one expression
// over body, item (see [Identity]), form and header, such as body.id,
// form.MessageSid or "{header.X-Event}.{body.action}", or as a list of them of which the first that
// finds something counts. After "=" stands a fixed text, for senders that say
// nothing.
type TriggerExpr []field.Expr

// Forms lists what DecodeNode takes, for the schema of files.
func (TriggerExpr) Forms() []any { return []any{"", []string{}} }

// DecodeNode reads the short and the list form.
func (t *TriggerExpr) DecodeNode(n config.Node) {
	var texts []string
	if n.Kind() == config.Scalar {
		texts = []string{n.Text()}
	} else if !n.Decode(&texts) {
		return
	}
	*t = nil
	for _, text := range texts {
		e, err := parseTrigger(text)
		if err != nil {
			n.Fault("an expression such as body.id or header.X-Delivery (" + err.Error() + ")")
			return
		}
		*t = append(*t, e)
	}
}

func parseTrigger(text string) (field.Expr, error) {
	if fixed, ok := strings.CutPrefix(text, "="); ok && fixed != "" {
		return field.ParseTemplate(fixed)
	}
	return field.Parse(text, "body", "item", "form", "header")
}

// First returns the first value that is there, or an error that names every
// alternative and wraps [field.ErrMissing].
func (t TriggerExpr) First(s field.Scope) (string, error) { return field.First(t, s) }

// All returns every value of the first alternative that finds any: an
// expression with [] names several.
func (t TriggerExpr) All(s field.Scope) ([]string, error) {
	var names []string
	for _, e := range t {
		v, err := e.All(s)
		if err == nil {
			return v, nil
		}
		if !errors.Is(err, field.ErrMissing) {
			return nil, err
		}
		names = append(names, e.String())
	}
	return nil, fmt.Errorf("%s: %w", strings.Join(names, ", "), field.ErrMissing)
}

// Bind is [field.Expr.Bind] for each alternative. Those that lack something are
// left out; if all do, the error wraps [field.ErrMissing].
func (t TriggerExpr) Bind(s field.Scope) (TriggerExpr, error) {
	var bound TriggerExpr
	var missing error
	for _, e := range t {
		b, err := e.Bind(s)
		switch {
		case err == nil:
			bound = append(bound, b)
		case errors.Is(err, field.ErrMissing):
			missing = err
		default:
			return nil, err
		}
	}
	if len(bound) == 0 {
		return nil, missing
	}
	return bound, nil
}

// Uses reports whether any alternative looks into root.
func (t TriggerExpr) Uses(root string) bool {
	for _, e := range t {
		if e.Uses(root) {
			return true
		}
	}
	return false
}

// RecordExpr finds one value in a record, such as record.updated_at.
type RecordExpr struct{ field.Expr }

// Forms lists what DecodeNode takes, for the schema of files.
func (RecordExpr) Forms() []any { return []any{""} }

// DecodeNode reads the expression.
func (r *RecordExpr) DecodeNode(n config.Node) {
	e, err := field.Parse(n.Text(), "record")
	if err != nil {
		n.Fault("an expression such as record.updated_at")
		return
	}
	r.Expr = e
}

// In returns the expression's value in a record.
func (r RecordExpr) In(record []byte) (string, error) {
	return r.Eval(field.Scope{Docs: map[string][]byte{"record": record}})
}

// Path is a path below the API's base URL with references in braces: {id},
// {account}, {record.…}, {body.…} (of the trigger) and, in those of related
// records, {related.NAME.…}. Referenced values are escaped, so they can't leave
// their place.
type Path struct{ field.Expr }

// Forms lists what DecodeNode takes, for the schema of files.
func (Path) Forms() []any { return []any{""} }

// DecodeNode reads the template.
func (p *Path) DecodeNode(n config.Node) {
	e, err := ParsePath(n.Text())
	if err != nil {
		n.Fault("a path such as /orders/{id} (" + err.Error() + ")")
		return
	}
	*p = e
}

// callRoots are what a request for a record may refer to.
var callRoots = []string{"id", "account", "record", "body", "related"}

// ParsePath reads a path template.
func ParsePath(text string) (Path, error) {
	if !strings.HasPrefix(text, "/") {
		return Path{}, errors.New("it must begin with a slash")
	}
	e, err := field.ParseTemplate(text, callRoots...)
	return Path{e}, err
}

// Fill returns the path with every reference replaced and escaped.
func (p Path) Fill(s field.Scope) (string, error) { return p.Build(s, escape) }

// escape keeps a value in its place wherever a template has it: to what
// url.PathEscape does it adds the separators of a query.
func escape(value string) string { return querySeparators.Replace(url.PathEscape(value)) }

var querySeparators = strings.NewReplacer("&", "%26", "=", "%3D", "+", "%2B")
