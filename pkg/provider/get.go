package provider

import (
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
)

// Get is how one record is asked for: written as a path, with GET, or as a
// GraphQL query.
type Get struct {
	// Path is the path.
	Path Path `yaml:"-"`
	// GraphQL is the query.
	GraphQL *GraphQL `yaml:"graphql"`
}

// GraphQL is a query that is sent as a POST. An answer with errors is never
// taken for a record, see [Failures].
type GraphQL struct {
	// Query is the query, such as "query($id: ID!) {order(id: $id) {id total}}".
	// Required.
	Query string `yaml:"query"`
	// Variables are its variables: expressions over id, account, body, record and
	// related, such as body.order.id or "gid://shop/Order/{id}". A bare reference
	// into a document keeps its type; all else is a string.
	Variables map[string]Variable `yaml:"variables"`
	// Path is where it is sent. Defaults to /graphql.
	Path Path `yaml:"path"`
}

// Variable is one variable of a query.
type Variable struct{ field.Expr }

// Forms lists what DecodeNode takes, for the schema of files.
func (Variable) Forms() []any { return []any{""} }

// DecodeNode reads the expression.
func (v *Variable) DecodeNode(n config.Node) {
	e, err := field.Parse(n.Text(), callRoots...)
	if err != nil {
		n.Fault(`an expression such as id, body.order.id or "gid://shop/Order/{id}"`)
		return
	}
	v.Expr = e
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Get) Forms() []any { return []any{"", Get{}} }

// DecodeNode reads a path or the mapping.
func (g *Get) DecodeNode(n config.Node) {
	*g = Get{}
	if n.Kind() == config.Scalar {
		n.Decode(&g.Path)
		return
	}
	n.Decode(g)
	if g.GraphQL == nil {
		n.Fault("a path such as /orders/{id}, or {graphql: {query: …, variables: …}}")
	}
}

// Validate reports every fault of the query.
func (g *GraphQL) Validate(c *config.Check) {
	if g.Query == "" {
		c.Missing("query", `the query, such as "query($id: ID!) {order(id: $id) {id total}}"`)
	}
	if g.Path.IsZero() {
		g.Path, _ = ParsePath("/graphql")
	}
}

// IsZero reports whether nothing is asked for.
func (g Get) IsZero() bool { return g.Path.IsZero() && g.GraphQL == nil }

// Ask is a request for a record.
type Ask struct {
	// Path is its path, escaped.
	Path string
	// Body is the JSON of a GraphQL query, or nil for a GET.
	Body []byte
}

// Ask returns the request with its references replaced. The error wraps
// [field.ErrMissing] where one has no value.
func (g Get) Ask(s field.Scope) (Ask, error) {
	if g.GraphQL == nil {
		path, err := g.Path.Fill(s)
		return Ask{Path: path}, err
	}
	path, err := g.GraphQL.Path.Fill(s)
	if err != nil {
		return Ask{}, err
	}
	body := append([]byte(nil), `{"query":`...)
	if body, err = jsontext.AppendQuote(body, g.GraphQL.Query); err != nil {
		return Ask{}, fmt.Errorf("query: %w", err)
	}
	for i, name := range slices.Sorted(maps.Keys(g.GraphQL.Variables)) {
		value, err := g.GraphQL.Variables[name].JSON(s)
		if err != nil {
			return Ask{}, fmt.Errorf("variable %s: %w", name, err)
		}
		if i == 0 {
			body = append(body, `,"variables":{`...)
		} else {
			body = append(body, ',')
		}
		body, _ = jsontext.AppendQuote(body, name)
		body = append(append(body, ':'), value...)
	}
	if len(g.GraphQL.Variables) > 0 {
		body = append(body, '}')
	}
	return Ask{Path: path, Body: append(body, '}')}, nil
}

// exprs are all expressions of the request.
func (g Get) exprs() []field.Expr {
	if g.GraphQL == nil {
		return []field.Expr{g.Path.Expr}
	}
	all := []field.Expr{g.GraphQL.Path.Expr}
	for _, v := range g.GraphQL.Variables {
		all = append(all, v.Expr)
	}
	return all
}

func (g Get) uses(root string) bool {
	return slices.ContainsFunc(g.exprs(), func(e field.Expr) bool { return e.Uses(root) })
}
