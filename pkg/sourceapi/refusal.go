package sourceapi

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tercelhq/tercel/pkg/fault"
)

const (
	// maxWait caps what a source may ask for: a mistaken header must not stop
	// a pipeline for days.
	maxWait = time.Hour
	// credentialWait is the time between two tries with a credential that was
	// refused: only its owner can mend it, and nothing may be given up meanwhile.
	credentialWait = time.Minute
)

// refusal says what a status that is no success means, and whether a quick
// repeat may mend it.
func (c *Client) refusal(status int, h http.Header) (again bool, err error) {
	err = fmt.Errorf("status %d", status)
	switch {
	case status == http.StatusNotFound, status == http.StatusGone:
		return false, fmt.Errorf("status %d: %w", status, ErrNotFound)
	case status == http.StatusUnauthorized:
		c.hold.extend(status, c.now().Add(credentialWait))
		return false, fault.RetryAfter(fmt.Errorf("status %d: the API refuses the credential", status), credentialWait)
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable, status == http.StatusForbidden:
		if wait, ok := waitAsked(status, h, c.now()); ok {
			return false, c.throttle(status, wait)
		}
		if status == http.StatusForbidden { // perhaps of this record alone
			return false, fault.RetryAfter(err, credentialWait)
		}
		return status == http.StatusServiceUnavailable, err
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status >= 500:
		return status == http.StatusBadGateway, err
	default:
		return false, fault.Permanent(err)
	}
}

// throttle makes all further calls fail until the wait is over.
func (c *Client) throttle(status int, wait time.Duration) error {
	c.hold.extend(status, c.now().Add(wait))
	return fault.RetryAfter(fmt.Errorf("status %d: asked to wait", status), wait)
}

// hold is the time until which the source wants no calls.
type hold struct {
	mu     sync.Mutex // guards what follows
	until  time.Time
	status int
}

func (h *hold) extend(status int, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if until.After(h.until) {
		h.until, h.status = until, status
	}
}

// left is the time still to wait at now, and the status that began it.
func (h *hold) left(now time.Time) (wait time.Duration, status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(h.until.Sub(now), 0), h.status
}

func (h *hold) check(now time.Time) error {
	wait, status := h.left(now)
	if wait == 0 {
		return nil
	}
	return fault.RetryAfter(fmt.Errorf("not sent: held back since an answer with status %d", status), wait)
}

// waitAsked reads how long the source wants to be left alone: Retry-After (RFC
// 9110, seconds or a date), else the reset of a used-up rate limit.
func waitAsked(status int, h http.Header, now time.Time) (time.Duration, bool) {
	if wait, ok := retryAfter(h.Get("Retry-After"), now); ok {
		return wait, true
	}
	for _, prefix := range []string{"X-Ratelimit-", "Ratelimit-"} {
		// A 429 needs no further proof that the limit is used up.
		if status == http.StatusTooManyRequests || h.Get(prefix+"Remaining") == "0" {
			if wait, ok := reset(h.Get(prefix+"Reset"), now); ok {
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

// reset reads the many spellings of a limit's reset by their magnitude:
// milliseconds or seconds since 1970, or seconds from now.
func reset(value string, now time.Time) (time.Duration, bool) {
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
	return time.Duration(min(n, maxWait.Seconds()) * float64(time.Second))
}

// until is the time from now to t. What has passed long ago is a mistake.
func until(t, now time.Time) (time.Duration, bool) {
	wait := t.Sub(now)
	if wait < -maxWait {
		return 0, false
	}
	return min(max(wait, 0), maxWait), true
}
