package sourceapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/field"
)

// try makes one request. Again says that the failure is one that a quick
// repeat may mend.
func (c *Client) try(ctx context.Context, u *url.URL) (ans Answer, again bool, err error) {
	if err := c.hold.check(c.now()); err != nil {
		return Answer{}, false, err
	}
	release, err := c.admit(ctx)
	if err != nil {
		return Answer{}, false, err
	}
	defer release()
	if err := c.hold.check(c.now()); err != nil { // it may have begun meanwhile
		return Answer{}, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	ctx, span := c.startSpan(ctx)
	started := time.Now()
	ans, again, err = c.exchange(ctx, u)
	c.endSpan(ctx, span, ans.Status, err, time.Since(started))
	return ans, again, err
}

// admit waits for a free slot and for the rate's turn.
func (c *Client) admit(ctx context.Context) (release func(), err error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a free connection: %w", ctx.Err())
	}
	if err := c.turns.Wait(ctx); err != nil {
		<-c.slots
		return nil, fmt.Errorf("waiting for the configured rate: %w", err)
	}
	return func() { <-c.slots }, nil
}

func (c *Client) exchange(ctx context.Context, u *url.URL) (ans Answer, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Answer{}, false, fault.Permanent(errors.New("path: not valid in a URL"))
	}
	req.Header = c.header.Clone()
	ans.RequestedAt = c.now()
	resp, err := c.http.Do(req)
	ans.ReceivedAt = c.now()
	if err != nil {
		err, again = connectionError(ctx, err)
		return ans, again, err
	}
	defer discard(resp)
	ans.Status, ans.Header = resp.StatusCode, resp.Header
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		again, err = c.refusal(resp.StatusCode, resp.Header)
		return ans, again, err
	}
	ans.Body, err = c.body(ctx, resp)
	ans.ReceivedAt = c.now()
	return ans, false, err
}

// body reads an answer of at most MaxBody bytes after decompression. A page of
// HTML or nothing at all under a 2xx is a proxy's or a maintenance window's
// doing, not the record's: it may pass.
func (c *Client) body(ctx context.Context, resp *http.Response) ([]byte, error) {
	limit := int64(c.cfg.MaxBody)
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if int64(len(body)) > limit {
		return nil, fault.Permanent(fmt.Errorf("status %d: answer over %d bytes (api.max_body)", resp.StatusCode, limit))
	}
	if err != nil {
		err, _ = connectionError(ctx, err)
		return nil, fmt.Errorf("status %d: reading the answer: %w", resp.StatusCode, err)
	}
	if len(body) == 0 {
		return nil, fmt.Errorf("status %d: empty answer", resp.StatusCode)
	}
	if err := field.Valid(body); err != nil {
		return nil, fmt.Errorf("status %d: answer: %w", resp.StatusCode, err)
	}
	return body, nil
}

// discard makes a connection free for the next request: a short rest is read,
// a long one is not worth it.
func discard(resp *http.Response) {
	const short = 16 << 10
	if resp.ContentLength >= 0 && resp.ContentLength <= short {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, short))
	}
	_ = resp.Body.Close()
}

// connectionError says what went wrong before an answer was complete, and
// whether a quick repeat may mend it.
func connectionError(ctx context.Context, err error) (told error, again bool) {
	if errors.Is(err, errElsewhere) || errors.Is(err, errEndless) {
		return fault.Permanent(unwrapURL(err)), false
	}
	return egress.Failure(ctx, err)
}

// unwrapURL takes off the wrapper in which http.Client tells the URL.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
