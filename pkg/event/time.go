package event

import (
	"strconv"
	"time"
)

// Magnitudes of Unix times. A number below firstMillisecond is in seconds, up to the
// year 5138; from there on it is in milliseconds, which begin in 1973 and end in the
// same year. What is larger is in another unit.
const (
	firstMillisecond = 100_000_000_000
	lastMillisecond  = 100_000_000_000_000
)

// ParseTime reads a time as providers write it: as [ParseVersion] does, or as a Unix
// time in seconds or milliseconds. It reports false for anything else. The time may
// be one that stands for none, such as the year 1.
func ParseTime(text string) (time.Time, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		switch {
		case n < 0 || n >= lastMillisecond:
			return time.Time{}, false
		case n >= firstMillisecond:
			return time.UnixMilli(n).UTC(), true
		default:
			return time.Unix(n, 0).UTC(), true
		}
	}
	t, ok := zonedTime(text)
	return t.UTC(), ok
}
