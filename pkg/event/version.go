package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// ErrVersion is returned by [ParseVersion] for what can't order a record.
var ErrVersion = errors.New("want a non-negative number, an RFC 3339 time or a sortable text of at most 128 bytes")

// Version is a record's version in a canonical form whose byte order is the
// versions' order, so that a database can compare it as text. A record's
// versions must be of one kind: all numbers, all times, all sortable texts, or
// all of [SeenVersion].
type Version string

// ParseVersion reads a version from its text in a record. Digits (with or
// without a fraction) are numbers; RFC 3339 is a time, and so is what differs from it
// only by a space before the time of day or the offset, or by an offset such as -0400
// or +00; any other text is ordered byte by byte.
func ParseVersion(text string) (Version, error) {
	if text == "" || len(text) > 128 {
		return "", ErrVersion
	}
	if t, ok := zonedTime(text); ok {
		return TimeVersion(t), nil
	}
	if text[0] == '-' {
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return "", ErrVersion
		}
	}
	if c := text[0]; c < '0' || c > '9' {
		return Version("s" + text), nil
	}
	if n, ok := canonicalNumber(text); ok {
		return Version(n), nil
	}
	return Version("s" + text), nil
}

// zones are how a time ends that says what it is relative to. Without, as by a local
// clock, its bytes are all that orders it.
var zones = []string{"Z07:00", "Z0700", "Z07", " Z07:00", " Z0700", " Z07"}

func zonedTime(text string) (time.Time, bool) {
	const day = len("2006-01-02")
	if len(text) <= day || text[day] != 'T' && text[day] != ' ' {
		return time.Time{}, false
	}
	for _, zone := range zones {
		if t, err := time.Parse(time.DateOnly+text[day:day+1]+time.TimeOnly+zone, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// TimeVersion is the version of a record that was last changed at t.
func TimeVersion(t time.Time) Version {
	return Version("t" + t.UTC().Format(fixedTime))
}

// SeenVersion is the version of a record of which nothing says how old it is,
// only what state it is in: what tells that state from others, such as the record
// itself or an ETag. Of two such versions that is newer which was seen later;
// those of one state have one [Version.Mark].
//
// The order is as good as the times are: those of two processes are off by what
// their clocks differ, and of two looks that overlap the later one may have been
// shown the older state. A record is right again with the next look at it, and
// each change is followed by one that begins after it.
func SeenVersion(at time.Time, state []byte) Version {
	sum := sha256.Sum256(state)
	return Version(fmt.Sprintf("h%s/%s", at.UTC().Format(fixedTime), hex.EncodeToString(sum[:16])))
}

// fixedTime sorts as the times do that are written in it, in UTC.
const fixedTime = "2006-01-02T15:04:05.000000000Z"

// Mark is what v says of the record's state. It is the same for all versions of
// [SeenVersion] with one state, whenever that was seen, and else v itself.
func (v Version) Mark() string {
	if rest, ok := strings.CutPrefix(string(v), "h"); ok {
		_, state, _ := strings.Cut(rest, "/")
		return "h" + state
	}
	return string(v)
}

// canonicalNumber writes a decimal as "n", the count of its integer digits in
// three digits, the integer digits and the fraction, which sorts by value.
func canonicalNumber(text string) (string, bool) {
	if strings.ContainsAny(text, "eE") {
		if f, err := strconv.ParseFloat(text, 64); err != nil || f > 1e60 || f != 0 && f < 1e-60 {
			return "", false
		}
		r, ok := new(big.Rat).SetString(text)
		if !ok {
			return "", false
		}
		text = r.FloatString(60)
	}
	whole, frac, _ := strings.Cut(text, ".")
	if strings.Trim(whole+frac, "0123456789") != "" {
		return "", false
	}
	whole, frac = strings.TrimLeft(whole, "0"), strings.TrimRight(frac, "0")
	if frac != "" {
		frac = "." + frac
	}
	return fmt.Sprintf("n%03d%s%s", len(whole), whole, frac), true
}

// Compare is negative, zero or positive as v is older than, equal to or newer
// than w.
func (v Version) Compare(w Version) int { return strings.Compare(string(v), string(w)) }

// Time returns the time of a time version, and whether it is one.
func (v Version) Time() (time.Time, bool) {
	if !strings.HasPrefix(string(v), "t") {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(v[1:]))
	return t, err == nil
}

// Ordinal squeezes v into 64 bits. When ordered is true, ordinals of a
// record's versions compare as the versions do (whole numbers below 2^63,
// times from 1970 to 2262); else they can only be compared for equality of their
// [Version.Mark], and two different ones share one with the odds of a 64-bit hash.
func (v Version) Ordinal() (n uint64, ordered bool) {
	if t, ok := v.Time(); ok && t.Year() >= 1970 && t.Year() < 2262 {
		return uint64(t.UnixNano()), true
	}
	if strings.HasPrefix(string(v), "n") && len(v) >= 4 && !strings.Contains(string(v), ".") {
		if len(v) == 4 {
			return 0, true
		}
		if n, err := strconv.ParseInt(string(v[4:]), 10, 64); err == nil {
			return uint64(n), true
		}
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(v.Mark()))
	var b [8]byte
	return binary.BigEndian.Uint64(h.Sum(b[:0])), false
}

// GoneAt is the ObservedAt of a tombstone of a record that was asked for at seen. It is
// a microsecond later, the least that databases tell: of two that asked at the same
// moment, as far as a wrong clock and a source that tells whole seconds can say, one
// finding the record and one none, it is gone. Had it come back, a list would show it;
// that it has gone, none does (promise 7).
func GoneAt(seen time.Time) time.Time { return seen.Add(time.Microsecond) }
