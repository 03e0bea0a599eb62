package mapping

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/itchyny/gojq"
)

// Why a function is refused.
const (
	whyClock  = "an event that is handled again would give another answer"
	whyAlone  = "an expression has one document and nothing else"
	whyOutput = "an expression has one answer and no other output"
)

// refused are the functions of jq whose answer depends on more than the
// document, or that do more than give one.
var refused = map[string]string{
	"now": whyClock, "localtime": whyClock, "strflocaltime": whyClock,
	"$ENV": whyAlone, "env": whyAlone, "input": whyAlone, "inputs": whyAlone, "input_filename": whyAlone,
	"input_line_number": whyAlone, "modulemeta": whyAlone, "get_search_list": whyAlone,
	"debug": whyOutput, "stderr": whyOutput, "halt": whyOutput, "halt_error": whyOutput,
}

// compile compiles a query that uses nothing refused, with multiplication bounded.
func compile(q *gojq.Query) (*gojq.Code, error) {
	if q.Meta != nil || len(q.Imports) > 0 {
		return nil, errors.New("modules are not to be had: " + whyAlone)
	}
	if err := walk(reflect.ValueOf(q)); err != nil {
		return nil, err
	}
	return gojq.Compile(q, gojq.WithFunction(multiplyBounded, 2, 2, func(_ any, args []any) any { return multiplied(args[0], args[1]) }))
}

// walk goes through the syntax tree by reflection: it has thirty types, and
// only two of them matter.
func walk(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		switch node := v.Interface().(type) {
		case *gojq.Func:
			if why := refused[node.Name]; why != "" {
				return fmt.Errorf("%s is not to be had: %s", node.Name, why)
			}
		case *gojq.Query:
			boundMultiplication(node)
		}
		return walk(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			if err := walk(v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if err := walk(v.Field(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// multiplyBounded is the function that stands for the operator * in compiled
// expressions, and factor the variable for what *= multiplies by.
const (
	multiplyBounded = "_multiply_bounded"
	factor          = "$__factor"
)

// boundMultiplication puts a function in the place of the operators * and *=.
// In jq a text times a number is the text repeated: where a price came as text,
// a quantity of a billion would take all memory there is, in one step.
func boundMultiplication(q *gojq.Query) {
	multiply := func(l, r *gojq.Query) *gojq.Query {
		return &gojq.Query{Term: call(multiplyBounded, l, r)}
	}
	switch q.Op {
	case gojq.OpMul:
		*q = *multiply(q.Left, q.Right)
	case gojq.OpUpdateMul:
		this := &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeIdentity}}
		*q = gojq.Query{
			Left: q.Right, Patterns: []*gojq.Pattern{{Name: factor}}, Op: gojq.OpPipe,
			Right: &gojq.Query{Left: q.Left, Op: gojq.OpModify, Right: multiply(this, &gojq.Query{Term: call(factor)})},
		}
	}
}

func call(name string, args ...*gojq.Query) *gojq.Term {
	return &gojq.Term{Type: gojq.TermTypeFunc, Func: &gojq.Func{Name: name, Args: args}}
}

// multiply is jq's own multiplication.
var multiply = func() *gojq.Code {
	q, err := gojq.Parse(".[0] * .[1]")
	if err != nil {
		panic(err) // a constant of this package
	}
	code, err := gojq.Compile(q)
	if err != nil {
		panic(err)
	}
	return code
}()

var errRepeated = fmt.Errorf("text repeated to more than %d MiB", maxBytes>>20)

func multiplied(l, r any) any {
	if text, n, ok := repetition(l, r); ok && n > 0 && float64(len(text))*n > maxBytes {
		return errRepeated
	}
	v, _ := multiply.Run([]any{l, r}).Next()
	return v
}

// repetition returns a text and the number that it is multiplied with, in
// either order.
func repetition(l, r any) (text string, n float64, ok bool) {
	if text, ok = l.(string); !ok {
		l, r = r, l
		if text, ok = l.(string); !ok {
			return "", 0, false
		}
	}
	n, ok = gojq.ToFloat64(r)
	return text, n, ok
}
