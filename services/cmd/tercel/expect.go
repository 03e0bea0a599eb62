package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// decodeExact decodes JSON with its numbers as they are spelled.
func decodeExact(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// differences holds a result against what is expected of it, which may leave
// out members of objects, and lists where it differs.
func differences(at string, want, got any) []string {
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			break
		}
		var all []string
		for _, key := range slices.Sorted(maps.Keys(want)) {
			place := strings.TrimPrefix(at+"."+key, ".")
			value, ok := object[key]
			if !ok {
				all = append(all, fmt.Sprintf("%s: want %s, but there is only %s", place, shown(want[key]),
					strings.Join(slices.Sorted(maps.Keys(object)), ", ")))
				continue
			}
			all = append(all, differences(place, want[key], value)...)
		}
		return all
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			break
		}
		var all []string
		for i := range want {
			all = append(all, differences(fmt.Sprintf("%s[%d]", at, i), want[i], list[i])...)
		}
		return all
	case json.Number:
		if n, ok := got.(json.Number); ok && sameNumber(string(want), string(n)) {
			return nil
		}
	default:
		if want == got {
			return nil
		}
	}
	return []string{fmt.Sprintf("%s: want %s, got %s", at, shown(want), shown(got))}
}

// maxExponentText is the longest number that is compared by value: one with a
// huge exponent would take all memory there is.
const maxExponentText = 64

// sameNumber reports whether two numbers are equal, however they are spelled.
func sameNumber(a, b string) bool {
	if a == b {
		return true
	}
	if len(a) > maxExponentText || len(b) > maxExponentText || strings.ContainsAny(a+b, "eE") {
		return false
	}
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
}

// shown is a value as JSON on one line, shortened.
func shown(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err.Error()
	}
	return shorten(strings.TrimSpace(b.String()), 200)
}
