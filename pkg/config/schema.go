package config

import (
	"fmt"
	"path"
	"reflect"
	"time"
)

// A Formed type says which forms its DecodeNode takes, for [Schema]: each as a
// value of the type that reads it, such as "" for text. A value of the type
// itself stands for its own fields or entries.
//
//	func (Page) Forms() []any { return []any{"", Page{}} } // text, or a mapping
type Formed interface {
	Forms() []any
}

// Schema returns a JSON Schema (2020-12) of the files that [Decode] takes into a
// value of t: which keys there are, and what kind of value each has. What a
// [Validator] finds is beyond it. Describe returns what is said of a type or,
// with a name, of one of its fields; "" is nothing.
//
// An error means that a type in t is a [NodeDecoder] and not [Formed].
func Schema(t reflect.Type, describe func(t reflect.Type, field string) string) (map[string]any, error) {
	w := &schemaWriter{describe: describe, defs: map[string]any{}}
	s := w.of(t)
	if w.err != nil {
		return nil, fmt.Errorf("schema of %s: %w", t, w.err)
	}
	s["$schema"], s["$defs"] = "https://json-schema.org/draft/2020-12/schema", w.defs
	return s, nil
}

// schemaWriter is the state of one [Schema].
type schemaWriter struct {
	describe func(reflect.Type, string) string
	defs     map[string]any // by type
	err      error          // the first
}

// These say with patterns what ParseDuration, ParseBytes and secretValue take.
const (
	durationPattern = `^(0|([0-9]+d)?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*)$`
	bytesPattern    = `^[0-9]+([KkMmGgTt]?[Bb]|[KkMmGgTt][Ii][Bb])?$`
	secretPattern   = `^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.*)$`
)

// of returns what a value of t looks like: a reference for a type with a name.
func (w *schemaWriter) of(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return anyOf(map[string]any{"type": "string", "pattern": durationPattern, "minLength": 1}, map[string]any{"const": 0})
	case reflect.TypeFor[Bytes]():
		return anyOf(map[string]any{"type": "string", "pattern": bytesPattern}, map[string]any{"type": "integer", "minimum": 0})
	case secretType:
		return map[string]any{"type": "string", "pattern": secretPattern}
	}
	switch {
	case t.Kind() == reflect.Pointer:
		return anyOf(w.of(t.Elem()), map[string]any{"type": "null"})
	case t.PkgPath() == "":
		return w.plain(t)
	}
	name := path.Base(t.PkgPath()) + "." + t.Name()
	if w.defs[name] == nil {
		w.defs[name] = true // for those that have themselves inside
		w.defs[name] = described(w.forms(t), w.describe(t, ""))
	}
	return map[string]any{"$ref": "#/$defs/" + name}
}

// forms returns what t's DecodeNode takes, or the decoder where it has none.
func (w *schemaWriter) forms(t reflect.Type) map[string]any {
	if !reflect.PointerTo(t).Implements(nodeDecoderType) {
		return w.plain(t)
	}
	formed, ok := reflect.Zero(t).Interface().(Formed)
	if !ok {
		w.err = fmt.Errorf("%s: decodes itself and doesn't say which forms it has", t)
		return nil
	}
	var all []map[string]any
	for _, form := range formed.Forms() {
		if own := reflect.TypeOf(form); own == t {
			all = append(all, w.plain(t))
		} else {
			all = append(all, w.of(own))
		}
	}
	if len(all) == 1 {
		return all[0]
	}
	return anyOf(all...)
}

// plain returns what decoder.plain takes for t.
func (w *schemaWriter) plain(t reflect.Type) map[string]any {
	switch t.Kind() {
	case reflect.Struct:
		properties := map[string]any{}
		w.fields(t, properties)
		return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": w.of(t.Elem())}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": w.of(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.String:
		if e, ok := reflect.Zero(t).Interface().(interface{ Values() []string }); ok {
			return map[string]any{"type": "string", "enum": e.Values()}
		}
		return map[string]any{"type": []string{"string", "number", "boolean"}} // all are text as they are written
	}
	whole := map[string]any{"type": "integer"}
	if t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64 {
		whole["minimum"] = 0
	}
	return whole
}

// fields adds those of t, and of the structs inlined in it, to properties.
func (w *schemaWriter) fields(t reflect.Type, properties map[string]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		switch name, inline := fieldName(f); {
		case inline:
			w.fields(f.Type, properties)
		case name != "":
			properties[name] = described(w.of(f.Type), w.describe(t, f.Name))
		}
	}
}

func anyOf(forms ...map[string]any) map[string]any { return map[string]any{"anyOf": forms} }

func described(s map[string]any, text string) map[string]any {
	if text != "" && s != nil {
		s["description"] = text
	}
	return s
}
