package egress

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Limiter returns a limiter that lets no more than requests begin in any span
// of per; up to a tenth of them may begin at once. Without requests there is no
// limit.
func Limiter(requests int, per time.Duration) *rate.Limiter {
	if requests < 1 {
		return rate.NewLimiter(rate.Inf, 1)
	}
	burst := max(1, requests/10)
	return rate.NewLimiter(rate.Limit(float64(requests-burst+1)/per.Seconds()), burst)
}

// MaxWait caps what a server may ask for: a mistaken header must not stop a
// pipeline for days.
const MaxWait = time.Hour

// WaitAsked reads from an answer how long the server wants to be left alone, at
// most [MaxWait]: Retry-After (RFC 9110, seconds or a date), else the reset of
// a used-up rate limit. It reports whether the server said so.
func WaitAsked(status int, h http.Header, now time.Time) (time.Duration, bool) {
	if wait, ok := retryAfter(h.Get("Retry-After"), now); ok {
		return wait, true
	}
	return UsedUp(h, now, status == http.StatusTooManyRequests)
}

// UsedUp reads from an answer's customary headers when a rate limit that is used
// up is reset, at most [MaxWait] from now. It reports whether there is one. Told
// says that the answer itself needs no further proof of that.
func UsedUp(h http.Header, now time.Time, told bool) (time.Duration, bool) {
	for _, prefix := range []string{"X-Ratelimit-", "Ratelimit-", "X-Rate-Limit-"} {
		if told || h.Get(prefix+"Remaining") == "0" {
			if wait, ok := Reset(h.Get(prefix+"Reset"), now); ok {
				return wait, true
			}
		}
	}
	return 0, false
}

func retryAfter(value string, now time.Time) (time.Duration, bool) {
	if n, ok := number(value); ok {
		return seconds(n), true
	}
	if t, err := http.ParseTime(value); err == nil {
		return until(t, now)
	}
	return 0, false
}

// Reset reads the many spellings of a limit's reset by their magnitude:
// milliseconds or seconds since 1970, or seconds from now. It reports whether
// value is one of them; the time is at most [MaxWait].
func Reset(value string, now time.Time) (time.Duration, bool) {
	n, ok := number(value)
	switch {
	case !ok:
		return 0, false
	case n >= 1e11:
		return until(time.UnixMilli(int64(n)), now)
	case n >= 1e9:
		return until(time.UnixMilli(int64(n*1000)), now)
	default:
		return seconds(n), true
	}
}

// number reads a plain decimal; signs, exponents and what is longer than any
// time are no numbers here.
func number(value string) (float64, bool) {
	value = strings.TrimSpace(value)
	if value == "" || len(value) > 20 || strings.Trim(value, "0123456789.") != "" {
		return 0, false
	}
	n, err := strconv.ParseFloat(value, 64)
	return n, err == nil && n < 1e15
}

func seconds(n float64) time.Duration {
	return time.Duration(min(n, MaxWait.Seconds()) * float64(time.Second))
}

// until is the time from now to t. What has passed long ago is a mistake.
func until(t, now time.Time) (time.Duration, bool) {
	wait := t.Sub(now)
	if wait < -MaxWait {
		return 0, false
	}
	return min(max(wait, 0), MaxWait), true
}
