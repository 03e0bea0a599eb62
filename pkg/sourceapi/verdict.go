package sourceapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/fault"
)

// kind is what a request told of the API, whatever it told of the record.
type kind int

const (
	silent      kind = iota // nothing: it was not made, or broken off by the caller
	alive                   // it was dealt with
	out                     // nothing came back, or word of a broken server
	unreachable             // there was nobody to send it to
	throttled               // the API wants to be left alone
	refused                 // the credential was
	forbidden               // perhaps the credential was, perhaps this record's request
)

// verdict is what one request told of the API.
type verdict struct {
	kind    kind
	wait    time.Duration // of throttled: as long as it said, or -1
	cause   string        // for the errors of calls that are held back
	address string        // of the request
	again   bool          // a quick repeat may mend it
	total   bool          // no request with this credential could have been made
}

// note tells it to a breaker, and returns how long to wait before the request's
// own message is tried again, or 0 where the failure is that message's own.
func (v verdict) note(b *breaker, now time.Time, limit int) time.Duration {
	switch v.kind {
	case alive:
		b.answered(now, limit)
	case out, unreachable, forbidden:
		return b.failed(now, v.address, v.cause, v.total)
	case throttled:
		return b.throttled(now, v.wait, v.cause)
	case refused:
		return b.refused(now, v.cause)
	}
	return 0
}

// judge says what a status that is no success means: for the record as the
// error's fate, for the API as the verdict.
func (c *Client) judge(status int, h http.Header) (verdict, error) {
	err := fmt.Errorf("status %d", status)
	v := verdict{kind: alive, cause: "an answer with " + err.Error()}
	switch wait, asked := c.limits.wait(status, h, c.now()); {
	case status == http.StatusNotFound, status == http.StatusGone:
		return v, fmt.Errorf("status %d: %w", status, ErrNotFound)
	case asked:
		v.kind, v.wait = throttled, wait
		return v, fmt.Errorf("status %d: asked to wait", status)
	case status == http.StatusTooManyRequests:
		v.kind, v.wait = throttled, -1
		return v, fmt.Errorf("status %d: asked to wait", status)
	case status == http.StatusUnauthorized:
		v.kind = refused
		return v, fmt.Errorf("status %d: the API refuses the credential", status)
	case status == http.StatusForbidden:
		v.kind = forbidden
		return v, err
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status >= 500:
		v.kind = out
		v.again = status == http.StatusBadGateway || status == http.StatusServiceUnavailable
		return v, err
	case status == http.StatusNotModified:
		return v, fmt.Errorf("status %d: for a request that was not conditional", status)
	default:
		return v, fault.Permanent(err)
	}
}

// connectionError says what it means that no whole answer came.
func connectionError(ctx context.Context, err error) (verdict, error) {
	if errors.Is(err, errElsewhere) || errors.Is(err, errEndless) {
		return verdict{kind: alive}, fault.Permanent(unwrapURL(err))
	}
	told, again := egress.Failure(ctx, err)
	v := verdict{kind: out, cause: told.Error(), again: again}
	var (
		dns  *net.DNSError
		op   *net.OpError
		cert *tls.CertificateVerificationError
	)
	switch {
	case fault.IsPermanent(told):
		v.kind = silent // an address that is not allowed: nothing was asked
	case errors.As(err, &dns), errors.As(err, &op) && op.Op == "dial", errors.As(err, &cert):
		v.kind, v.total = unreachable, true
	}
	return v, told
}

// unwrapURL takes off the wrapper in which http.Client tells the URL.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// tokenless says what it means that there was no access token to send.
func tokenless(err error) (verdict, error) {
	v := verdict{kind: forbidden, total: true, cause: "an access token could not be got"}
	var t *tokenError
	if errors.As(err, &t) && t.refused {
		v.kind, v.cause = refused, "the issuer of access tokens refused the credential"
	}
	return v, err
}
