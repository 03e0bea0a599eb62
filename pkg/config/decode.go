package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// decoder is the state of one [Decode].
type decoder struct {
	file         string
	lines        []int // characters in each line
	lookupEnv    func(string) (string, bool)
	plainSecrets bool
	seen         func(ref string, s Secret) // hears of references, or is nil
	secret       map[ast.Node]bool          // scalars that no fault may show
	faults       Faults
	misuse       error // a mistake of the program
}

// fault completes f with the place of n and keeps it.
func (d *decoder) fault(n Node, f Fault) {
	f.Key = n.key
	f.Line, f.Column = d.position(n.n)
	d.add(f)
}

func (d *decoder) add(f Fault) {
	f.File = d.file
	d.faults = append(d.faults, f)
}

// value decodes n into v, which is addressable, by the interfaces of v's type
// or else by its kind, and validates it.
func (d *decoder) value(n Node, v reflect.Value) {
	if n.Kind() == Scalar && holdsSecret(v.Type(), nil) {
		d.secret[n.n] = true
	}
	if v.Kind() == reflect.Pointer {
		d.pointer(n, v)
		return
	}
	if n.depth > maxDepth {
		d.fault(n, tooDeep)
		return
	}
	self := v.Addr().Interface()
	again := n.within == v.Type() // DecodeNode asks for the fields of its own value
	n.within = nil
	if nd, ok := self.(NodeDecoder); ok && !again {
		inner := n
		inner.within = v.Type()
		nd.DecodeNode(inner)
	} else {
		d.plain(n, v)
	}
	if val, ok := self.(Validator); ok && !again {
		val.Validate(&Check{n})
	}
}

func (d *decoder) pointer(n Node, v reflect.Value) {
	if n.Kind() == Null {
		v.SetZero()
		return
	}
	own := reflect.New(v.Type().Elem())
	if !v.IsNil() { // a default, which others may have too
		own.Elem().Set(v.Elem())
	}
	v.Set(own)
	d.value(n, v.Elem())
}

func (d *decoder) plain(n Node, v reflect.Value) {
	switch p := v.Addr().Interface().(type) {
	case *time.Duration:
		parsed(n, p, ParseDuration, wantDuration)
		return
	case *Bytes:
		parsed(n, p, ParseBytes, wantBytes)
		return
	case *Secret:
		d.secretValue(n, p)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v)
	case reflect.Map:
		d.mapping(n, v)
	case reflect.Slice:
		d.list(n, v)
	default:
		scalarValue(n, v)
	}
}

// parsed sets p to what parse makes of a scalar.
func parsed[T any](n Node, p *T, parse func(string) (T, error), want string) {
	x, err := parse(n.Text())
	if err != nil || n.Kind() != Scalar {
		n.Fault(want)
		return
	}
	*p = x
}

func (d *decoder) structure(n Node, v reflect.Value) {
	if n.Kind() != Mapping {
		n.Fault("a mapping")
		return
	}
	fields, inlined := fieldsOf(v)
	for _, e := range d.unique(n) {
		field, ok := fields[e.key]
		if !ok {
			d.unknown(e, slices.Sorted(maps.Keys(fields)))
			continue
		}
		d.value(e.value, field)
	}
	for _, in := range inlined {
		if val, ok := in.Addr().Interface().(Validator); ok {
			val.Validate(&Check{n})
		}
	}
}

func (d *decoder) unknown(e entry, known []string) {
	f := Fault{Found: "unknown key", Suggestion: suggest(e.key, known)}
	if f.Suggestion == "" {
		f.Want = oneOf(known)
	}
	d.fault(e.at, f)
}

// unique returns the entries of n whose keys are text, new and followed by a
// value, and faults the others.
func (d *decoder) unique(n Node) []entry {
	first := map[string]int{}
	return slices.DeleteFunc(n.entries(), func(e entry) bool {
		if e.bare { // maybe {token:literal}, so the text is not shown
			e.at.key = n.key
			d.fault(e.at, Fault{Found: "a key without a value", Want: "key, colon, space and value"})
			return true
		}
		if f := e.at.form(); f == formNone || f == formNull {
			d.fault(e.at, Fault{Found: "a key that is not text", Want: "text"})
			return true
		}
		line, repeated := first[e.key]
		if repeated {
			d.fault(e.at, Fault{Found: fmt.Sprintf("key given twice, first in line %d", line)})
			return true
		}
		first[e.key], _ = d.position(e.at.n)
		return false
	})
}

// mapping adds the entries of n to a copy of the map in v, so that a default
// map shared between configurations stays as it was.
func (d *decoder) mapping(n Node, v reflect.Value) {
	if n.Kind() != Mapping {
		n.Fault("a mapping")
		return
	}
	filled := reflect.MakeMap(v.Type())
	for it := v.MapRange(); it.Next(); {
		filled.SetMapIndex(it.Key(), it.Value())
	}
	for _, e := range d.unique(n) {
		key := reflect.ValueOf(e.key).Convert(v.Type().Key())
		element := reflect.New(v.Type().Elem()).Elem()
		if old := filled.MapIndex(key); old.IsValid() {
			element.Set(old)
		}
		d.value(e.value, element)
		filled.SetMapIndex(key, element)
	}
	v.Set(filled)
}

func (d *decoder) list(n Node, v reflect.Value) {
	if n.Kind() != Sequence {
		n.Fault("a list")
		return
	}
	elements := n.elements()
	list := reflect.MakeSlice(v.Type(), len(elements), len(elements))
	for i, e := range elements {
		d.value(e, list.Index(i))
	}
	v.Set(list)
}

// fieldsOf returns the settable fields of a struct by key, those of inlined
// structs included, and the inlined structs, innermost first.
func fieldsOf(v reflect.Value) (fields map[string]reflect.Value, inlined []reflect.Value) {
	fields = map[string]reflect.Value{}
	for i := range v.NumField() {
		name, inline := fieldName(v.Type().Field(i))
		switch {
		case inline:
			inner, deeper := fieldsOf(v.Field(i))
			maps.Copy(fields, inner)
			inlined = append(append(inlined, deeper...), v.Field(i))
		case name != "":
			fields[name] = v.Field(i)
		}
	}
	return fields, inlined
}

// fieldName returns the key of a field; "" if it is no part of the file.
func fieldName(f reflect.StructField) (name string, inline bool) {
	name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if !f.IsExported() || name == "-" {
		return "", false
	}
	return name, options == "inline"
}
