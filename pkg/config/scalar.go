package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	day          = 24 * time.Hour
	wantDuration = "a duration such as 30s, 5m or 7d"
	wantBytes    = "a size such as 512KB, 1MiB or a plain number of bytes"
)

// ParseDuration parses a duration as [time.ParseDuration] does, and days of
// 24 hours in front: "7d", "1d12h". Negative durations are errors.
func ParseDuration(s string) (time.Duration, error) {
	fault := fmt.Errorf("duration %q: want %s", s, wantDuration)
	if strings.ContainsAny(s, "+-") {
		return 0, fault
	}
	rest, total := s, time.Duration(0)
	if days, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 63)
		if err != nil || n > uint64(math.MaxInt64/day) {
			return 0, fault
		}
		total, rest = time.Duration(n)*day, after
		if rest == "" {
			return total, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d > math.MaxInt64-total {
		return 0, fault
	}
	return total + d, nil
}

// Bytes is a size in bytes, written in a file as a plain number or with a
// unit: B, KB, MB, GB, TB in thousands, KiB, MiB, GiB, TiB in steps of 1024.
type Bytes int64

// byteUnits are the units of [Bytes], largest first for String.
var byteUnits = []struct {
	name string
	size Bytes
}{
	{"TiB", 1 << 40},
	{"TB", 1e12},
	{"GiB", 1 << 30},
	{"GB", 1e9},
	{"MiB", 1 << 20},
	{"MB", 1e6},
	{"KiB", 1 << 10},
	{"KB", 1e3},
	{"B", 1},
}

// ParseBytes parses a size such as "512KB", "1MiB" or "4096"; fractions, signs
// and sizes over 8 EiB are errors.
func ParseBytes(s string) (Bytes, error) {
	digits := strings.TrimRight(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
	unit := Bytes(1)
	if name := s[len(digits):]; name != "" {
		unit = 0
		for _, u := range byteUnits {
			if strings.EqualFold(u.name, name) {
				unit = u.size
			}
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || unit == 0 || n > uint64(math.MaxInt64/unit) {
		return 0, fmt.Errorf("size %q: want %s", s, wantBytes)
	}
	return Bytes(n) * unit, nil
}

// String writes b exactly, in the largest unit that divides it.
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return "0B"
}

// scalarValue sets v, of a basic kind, and faults n if it can't.
func scalarValue(n Node, v reflect.Value) {
	want := ""
	switch form := n.form(); v.Kind() {
	case reflect.String:
		setText(n, v)
		return
	case reflect.Bool:
		want = "true or false"
		if form == formBool {
			v.SetBool(strings.EqualFold(n.Text(), "true"))
			return
		}
	case reflect.Float32, reflect.Float64:
		want = "a number"
		if x, err := strconv.ParseFloat(n.Text(), v.Type().Bits()); err == nil && form == formNumber && !math.IsInf(x, 0) && !math.IsNaN(x) {
			v.SetFloat(x)
			return
		}
	default:
		want = setWhole(n.Text(), form == formNumber, v)
	}
	if want != "" {
		n.Fault(want)
	}
}

// setText sets a string. Numbers and booleans count as the text they were
// written as: the field says what is wanted, so there is nothing to guess.
func setText(n Node, v reflect.Value) {
	if n.Kind() != Scalar {
		n.Fault("text")
		return
	}
	if e, ok := v.Addr().Interface().(interface{ Values() []string }); ok && !slices.Contains(e.Values(), n.Text()) {
		n.d.fault(n, Fault{Found: n.found(), Want: oneOf(e.Values()), Suggestion: suggest(n.Text(), e.Values())})
		return
	}
	v.SetString(n.Text())
}

// setWhole sets an integer from decimal digits and returns "", or what it
// wants. A leading zero is refused: some readers of YAML take it for octal.
func setWhole(text string, number bool, v reflect.Value) (want string) {
	digits := strings.TrimLeft(text, "+-")
	number = number && (digits == "0" || !strings.HasPrefix(digits, "0"))
	bits := v.Type().Bits()
	if v.CanInt() {
		x, err := strconv.ParseInt(text, 10, bits)
		if number && err == nil {
			v.SetInt(x)
			return ""
		}
		if bits == 64 {
			return "a whole number"
		}
		return fmt.Sprintf("a whole number from %d to %d", -1<<(bits-1), 1<<(bits-1)-1)
	}
	x, err := strconv.ParseUint(text, 10, bits)
	if number && err == nil {
		v.SetUint(x)
		return ""
	}
	if bits == 64 {
		return "a whole number, 0 or more"
	}
	return fmt.Sprintf("a whole number from 0 to %d", uint64(1)<<bits-1)
}
