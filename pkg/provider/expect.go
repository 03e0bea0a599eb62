package provider

import (
	"errors"
	"fmt"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
)

// errExpect is of a trigger and a record whose versions say nothing of each other.
var errExpect = errors.New("expect: neither of the version's kind nor a time")

// Expected returns the version that a trigger says there is, or "" if it says
// nothing.
func (r Resource) Expected(s field.Scope) (event.Version, error) {
	if len(r.Expect) == 0 {
		return "", nil
	}
	text, err := r.Expect.First(s)
	if errors.Is(err, field.ErrMissing) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("expect: %w", err)
	}
	v, err := event.ParseVersion(text)
	if err != nil {
		return "", fmt.Errorf("expect: %w", err)
	}
	return v, nil
}

// Behind reports whether the version of a record is older than what was expected.
func Behind(shown, expected event.Version) (bool, error) {
	if expected == "" {
		return false, nil
	}
	if shown[0] == expected[0] {
		return shown.Compare(expected) < 0, nil
	}
	at, ok := timeOf(shown)
	least, known := timeOf(expected)
	if !ok || !known {
		return false, errExpect
	}
	return at.Before(least), nil
}

// timeOf returns the time that a version is: as such, or in Unix seconds or, from
// 1e11 on, milliseconds.
func timeOf(v event.Version) (time.Time, bool) {
	if t, ok := v.Time(); ok {
		return t, true
	}
	n, ordered := v.Ordinal()
	if !ordered {
		return time.Time{}, false
	}
	if seconds := int64(n); seconds < 1e11 {
		return time.Unix(seconds, 0), true
	}
	return time.UnixMilli(int64(n)), true
}
