package sourceapi

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/fault"
)

// credentialWait is the time between two tries with a credential that was
// refused: only its owner can mend it, and nothing may be given up meanwhile.
const credentialWait = time.Minute

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
		if wait, ok := egress.WaitAsked(status, h, c.now()); ok {
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
