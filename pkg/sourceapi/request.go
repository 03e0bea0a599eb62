package sourceapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
)

// fly makes a call's request when more calls have had time to join it.
func (c *Client) fly(ctx context.Context, call call, f *flight) (Answer, error) {
	if call.Gather > 0 {
		select {
		case <-time.After(call.Gather):
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	}
	ans, again, err := c.try(ctx, call, f, true)
	ans.Tries = 1
	if !again {
		return ans, err
	}
	// One quick repeat, for a connection that was closed while it was idle or a
	// server that is being replaced. Everything longer is for the next delivery.
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(100 * time.Millisecond)).NextBackOff()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return ans, err
	}
	ans, _, err = c.try(ctx, call, f, false)
	ans.Tries = 2
	return ans, err
}

// try makes one request. Again says that the failure is one that a quick
// repeat, if there is one, may mend: then it says nothing of the API yet.
func (c *Client) try(ctx context.Context, call call, f *flight, repeatable bool) (ans Answer, again bool, err error) {
	if err := call.lane.gate.enter(ctx, call.class()); err != nil {
		return Answer{}, false, err
	}
	c.flights.begin(f, c.now())
	v := verdict{kind: silent}
	defer func() { // the last thing that is done: the gate must be left whatever happens
		if again = v.again && repeatable && ctx.Err() == nil; again {
			v.kind = silent
		}
		wait := c.note(call.lane, call.class(), v)
		if err != nil && wait > 0 && !fault.IsPermanent(err) && !errors.Is(err, ErrNotFound) {
			err = fault.Postpone(err, wait)
		}
	}()
	timed, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	timed, seen := c.observe(timed, call.Method)
	ans, v, err = c.exchange(timed, call)
	if ctx.Err() != nil {
		v.kind = silent // the callers have had enough, not the API
	}
	seen.end(timed, ans.Status, v, err)
	return ans, again, err
}

// exchange makes one request, and once more with a new token if the API refuses
// the one that it has.
func (c *Client) exchange(ctx context.Context, call call) (ans Answer, v verdict, err error) {
	for range 2 {
		var used string
		ans, used, v, err = c.send(ctx, call)
		if ans.Status != http.StatusUnauthorized || used == "" || !call.lane.proof.tokens.reject(used) {
			break
		}
	}
	v.address = call.url.Path
	return ans, v, err
}

// send sends one request and reads the answer. It returns the token that the
// request had, if it is one that can be got anew.
func (c *Client) send(ctx context.Context, call call) (ans Answer, used string, v verdict, err error) {
	u := *call.url
	req, err := http.NewRequestWithContext(ctx, call.Method, u.String(), bytes.NewReader(call.Body))
	if err != nil {
		return Answer{}, "", verdict{}, fault.Permanent(errors.New("path: not valid in a URL"))
	}
	known := c.ask(req, call)
	if used, err = call.lane.proof.apply(ctx, req); err != nil {
		v, err = tokenless(err)
		return Answer{}, "", v, err
	}
	ans.RequestedAt = c.now()
	resp, err := call.lane.proof.http.Do(req)
	ans.ReceivedAt, ans.ObservedAt = c.now(), ans.RequestedAt
	if err != nil {
		v, err = connectionError(ctx, err)
		if v.kind == unreachable && call.lane.proof.own {
			v.kind = out // perhaps for its certificate's sake
		}
		return ans, used, v, err
	}
	defer discard(resp)
	ans.Status, ans.Header, ans.From = resp.StatusCode, resp.Header, event.FromSource
	ans.ObservedAt = c.skew.observed(ans, resp.Header.Get("Date"))
	switch {
	case resp.StatusCode == http.StatusNotModified && known != nil:
		ans.Status, ans.Body, ans.Header = known.answer.Status, known.answer.Body, known.answer.Header.Clone()
		ans.From = event.FromUnchanged
		ans.Header["Date"] = resp.Header["Date"] // when it was still so, by the API's clock
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		v, err = c.refusal(ctx, call, resp)
		return ans, used, v, err
	default:
		ans.Body, v, err = c.body(ctx, resp)
		if call.Empty && errors.Is(err, errEmpty) {
			break
		}
		if err != nil {
			return ans, used, v, err
		}
		ans.ReceivedAt = c.now()
		if v, err = c.failure(call, ans.Body); err != nil {
			return ans, used, v, err
		}
	}
	v = verdict{kind: alive}
	if call.GraphQL {
		if wait := provider.CostWait(ans.Body); wait > 0 {
			v = verdict{kind: throttled, wait: wait, cause: "an answer with which a limit was used up"}
		}
	}
	if wait, last := c.limits.used(resp.Header, c.now()); last && wait > 0 {
		v = verdict{kind: throttled, wait: wait, cause: "an answer with which a limit was used up"}
	}
	if storable(resp.Header) {
		c.cache.put(call.key, ans, call.MaxAge > 0)
	}
	return ans, used, v, nil
}

// ask makes the request conditional where an answer is kept, and returns that.
func (c *Client) ask(req *http.Request, call call) *kept {
	if call.Method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
		return nil
	}
	known := c.cache.get(call.key)
	if known == nil {
		return nil
	}
	if known.etag != "" {
		req.Header.Set("If-None-Match", known.etag)
	}
	if known.modified != "" {
		req.Header.Set("If-Modified-Since", known.modified)
	}
	if known.etag == "" && known.modified == "" {
		return nil
	}
	return known
}

// errEmpty is an answer without a body.
var errEmpty = errors.New("empty answer")

// body reads an answer of at most MaxBody bytes after decompression. A page of
// HTML or nothing at all under a 2xx is a proxy's or a maintenance window's
// doing, not the record's: it may pass.
func (c *Client) body(ctx context.Context, resp *http.Response) ([]byte, verdict, error) {
	limit := int64(c.cfg.MaxBody)
	var all bytes.Buffer
	if n := resp.ContentLength; n > 0 && n <= limit { // what it says is not trusted beyond that
		all.Grow(int(n) + bytes.MinRead)
	}
	_, err := all.ReadFrom(io.LimitReader(resp.Body, limit+1))
	body := all.Bytes()
	if int64(len(body)) > limit {
		err := fmt.Errorf("status %d: answer over %d bytes (api.max_body)", resp.StatusCode, limit)
		return nil, verdict{kind: alive}, fault.Permanent(err)
	}
	if err != nil {
		v, err := connectionError(ctx, err)
		return nil, v, fmt.Errorf("status %d: reading the answer: %w", resp.StatusCode, err)
	}
	if len(body) == 0 {
		return nil, verdict{kind: out, cause: "an empty answer"}, fmt.Errorf("status %d: %w", resp.StatusCode, errEmpty)
	}
	if err := field.Valid(body); err != nil {
		v := verdict{kind: alive} // it tried
		if bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
			v = verdict{kind: out, cause: "a page instead of an answer"}
		}
		return nil, v, fmt.Errorf("status %d: answer: %w", resp.StatusCode, err)
	}
	return body, verdict{}, nil
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
