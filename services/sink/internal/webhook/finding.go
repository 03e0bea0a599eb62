package webhook

import (
	"fmt"
	"net/http"
	"time"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// kind is what a request taught about the event and the server, a closed set.
type kind string

const (
	taken    kind = "taken"
	refused  kind = "refused"  // the event, for good
	doubtful kind = "doubtful" // the event's fault or an outage
	outage   kind = "outage"
	gone     kind = "gone"   // no event is wanted any more
	unsent   kind = "unsent" // there was no time for it
)

// doubtfulInARow is how many different events have to fail in a row before it
// is an outage.
const doubtfulInARow = 3

// finding is what came of one request.
type finding struct {
	kind kind
	// status is the HTTP status, or 0 without an answer.
	status int
	err    error
}

// meaning says what an answer means; answer is its body as far as it may be
// kept.
func (r *Receiver) meaning(resp *http.Response, answer string) finding {
	f := finding{kind: refused, status: resp.StatusCode}
	if f.status >= 200 && f.status < 300 {
		f.kind = taken
		return f
	}
	f.err = fmt.Errorf("status %d", f.status)
	switch {
	case f.status < 400:
		f.kind, f.err = outage, fmt.Errorf("status %d: redirects are not followed: set the URL that it leads to", f.status)
	case f.status == http.StatusGone:
		f.kind, f.err = gone, fmt.Errorf("status %d: %w", f.status, delivery.ErrUnwanted)
	case f.status == http.StatusUnauthorized:
		f.kind, f.err = outage, fmt.Errorf("status %d: the receiver refuses the signature or a credential", f.status)
	case f.status == http.StatusTooManyRequests, f.status == http.StatusServiceUnavailable:
		f.kind = outage
		if wait, ok := egress.WaitAsked(f.status, resp.Header, time.Now()); ok {
			f.err = fault.RetryAfter(fmt.Errorf("status %d: asked to wait", f.status), wait)
		}
	case f.status >= 500, f.status == http.StatusForbidden, f.status == http.StatusNotFound,
		f.status == http.StatusRequestTimeout, f.status == http.StatusTooEarly:
		f.kind = doubtful
	default:
		f.err = fault.Permanent(f.err)
	}
	f.err = fault.WithDetail(f.err, answer)
	return f
}
