package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
)

var (
	nodeDecoderType = reflect.TypeFor[NodeDecoder]()
	secretType      = reflect.TypeFor[Secret]()
)

// checkTarget reports whether v can be decoded into.
func checkTarget(v reflect.Value) error {
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return errors.New("destination: want a pointer that is not nil")
	}
	return checkType(v.Type(), nil)
}

// checkType reports the first thing in t that no file could fill, so that a
// mistake in a struct shows with every file and not only with some.
func checkType(t reflect.Type, seen []reflect.Type) error {
	if slices.Contains(seen, t) || t == secretType {
		return nil
	}
	if len(seen) > 1 && reflect.PointerTo(t).Implements(nodeDecoderType) {
		return nil // what it decodes into is checked then
	}
	seen = append(seen, t)
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return checkType(t.Elem(), seen)
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return fmt.Errorf("%s: want text keys", t)
		}
		return checkType(t.Elem(), seen)
	case reflect.Struct:
		return checkFields(t, seen)
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return nil
	}
	return fmt.Errorf("%s: a kind that is not supported", t)
}

func checkFields(t reflect.Type, seen []reflect.Type) error {
	for i := range t.NumField() {
		f := t.Field(i)
		name, inline := fieldName(f)
		if inline && f.Type.Kind() != reflect.Struct {
			return fmt.Errorf("%s.%s: inline, want a struct", t, f.Name)
		}
		if name == "" && !inline {
			continue
		}
		if err := checkType(f.Type, seen); err != nil {
			return fmt.Errorf("%s.%s: %w", t, f.Name, err)
		}
	}
	return nil
}

// holdsSecret reports whether a value of t has a [Secret] in it somewhere, so
// that a scalar found in its place may be one.
func holdsSecret(t reflect.Type, seen []reflect.Type) bool {
	if t == secretType {
		return true
	}
	if slices.Contains(seen, t) {
		return false
	}
	seen = append(seen, t)
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return holdsSecret(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if holdsSecret(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}
