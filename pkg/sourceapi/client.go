// Package sourceapi calls the HTTP API of a source: the one client of the
// enricher, which gets records, and of the reconciler, which lists them.
//
// A [Client] keeps to what the source's owner configured (rate, concurrency,
// time, size), waits when the source says so, and marks every error with
// package fault. What the source answers is not trusted: the address is
// checked after name resolution, a redirect never leaves the host, and an
// answer counts only if it is one strict JSON value within its size. Error
// texts hold neither secrets nor anything that the source wrote.
package sourceapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/provider"
)

// ErrNotFound is wrapped by the error of [Client.Get] when the source
// answered 404 or 410: it no longer has the record.
var ErrNotFound = errors.New("no such record")

// Deps are what a [Client] borrows.
type Deps struct {
	// Now tells the time. Defaults to time.Now.
	Now func() time.Time
	// Resolver looks names up. Defaults to net.DefaultResolver.
	Resolver *net.Resolver
}

// Answer is what the source answered.
type Answer struct {
	// Status is the HTTP status.
	Status int
	// Header are the answer's headers.
	Header http.Header
	// Body is one strict JSON value, decompressed.
	Body []byte
	// RequestedAt is when the request began: the source showed the record as
	// it was then or later. ReceivedAt is when the answer was complete.
	RequestedAt, ReceivedAt time.Time
}

// Client calls one source's API. It is safe for concurrent use.
type Client struct {
	name    string
	cfg     provider.API
	origin  *url.URL
	base    string // without a slash at its end
	header  http.Header
	now     func() time.Time
	http    *http.Client
	turns   *rate.Limiter
	slots   chan struct{} // as many as requests may be in flight
	hold    hold
	metrics instruments
}

// New returns a client for the API of the source called name. The error names
// what is wrong in cfg and quotes no secret.
func New(name string, cfg provider.API, deps Deps) (*Client, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	c := &Client{name: name, cfg: cfg, base: strings.TrimRight(cfg.Base, "/"), now: deps.Now}
	var err error
	if c.origin, err = url.Parse(cfg.Base); err != nil || c.origin.Host == "" || c.origin.User != nil ||
		c.origin.RawQuery != "" || c.origin.Fragment != "" {
		return nil, fmt.Errorf("api of %s: base: want a URL such as https://api.example.com", name)
	}
	if c.origin.Scheme != "https" && (c.origin.Scheme != "http" || !cfg.AllowPrivate) {
		return nil, fmt.Errorf("api of %s: base: want https, or http with allow_private", name)
	}
	if cfg.Concurrency < 1 || cfg.Timeout <= 0 || cfg.MaxBody < 1 {
		return nil, fmt.Errorf("api of %s: concurrency, timeout and max_body: want more than 0", name)
	}
	if c.header, err = headers(cfg); err != nil {
		return nil, fmt.Errorf("api of %s: %w", name, err)
	}
	if c.metrics, err = newInstruments(name); err != nil {
		return nil, err
	}
	c.slots = make(chan struct{}, cfg.Concurrency)
	c.turns = egress.Limiter(cfg.Rate.Requests, cfg.Rate.Per)
	c.http = &http.Client{CheckRedirect: c.redirect, Transport: egress.Transport(egress.Config{
		AllowPrivate: cfg.AllowPrivate, Connections: cfg.Concurrency, Resolver: deps.Resolver,
	})}
	return c, nil
}

// headers are those of every request, the credentials among them.
func headers(cfg provider.API) (http.Header, error) {
	h := http.Header{"Accept": {"application/json"}, "User-Agent": {"tercel"}}
	if !cfg.Token.IsZero() && cfg.Basic != nil {
		return nil, errors.New("want either token or basic")
	}
	if !cfg.Token.IsZero() {
		h.Set("Authorization", "Bearer "+cfg.Token.Reveal())
	}
	if cfg.Basic != nil {
		r := http.Request{Header: h}
		r.SetBasicAuth(cfg.Basic.User, cfg.Basic.Password.Reveal())
	}
	for name, value := range cfg.Headers {
		h.Set(name, value.Reveal())
	}
	for name, values := range h {
		if !egress.ValidHeader(name, values[0]) {
			return nil, fmt.Errorf("header %q: has a character that can't be sent", name)
		}
	}
	return h, nil
}

// Close drops the connections that are kept for the next call.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get asks for path, which may be escaped and have a query already, below the
// base URL, with query added to it. Waiting for the configured rate and
// concurrency counts against ctx. With an error, which may wrap [ErrNotFound],
// the answer still has the status and the times as far as it came.
func (c *Client) Get(ctx context.Context, path string, query url.Values) (Answer, error) {
	u, err := c.address(path, query)
	if err != nil {
		return Answer{}, fault.Permanent(fmt.Errorf("GET %s: %w", c.name, err))
	}
	var ans Answer
	// One quick repeat, for a connection that was closed while it was idle or a
	// server that is being replaced. Everything longer is for the next delivery.
	policy := backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond),
		backoff.WithMaxElapsedTime(300*time.Millisecond))
	_ = backoff.Retry(func() error {
		var again bool
		if ans, again, err = c.try(ctx, u); err != nil && !again {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(backoff.WithMaxRetries(policy, 1), ctx))
	if err != nil {
		return ans, fmt.Errorf("GET %s %s: %w", c.name, shown(u), err)
	}
	return ans, nil
}

// Held is how long the source wants no calls at all from now on, because of a
// limit or a refused credential; calls fail meanwhile without a request. It is
// 0 when calls may be made.
func (c *Client) Held() time.Duration {
	wait, _ := c.hold.left(c.now())
	return wait
}

// maxAddress bounds a URL, in bytes.
const maxAddress = 16 << 10

// address appends path to the base. Whatever path holds, the result has the
// base's scheme and host and doesn't climb out of the base's path, not even
// for a server that unescapes before it resolves dots.
func (c *Client) address(path string, query url.Values) (*url.URL, error) {
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "#") || len(path) > maxAddress {
		return nil, errors.New("path: want one that begins with a slash, has no # and is not over-long")
	}
	u, err := url.Parse(c.base + path)
	if err != nil { // its text would quote the query
		return nil, errors.New("path: not valid in a URL")
	}
	if u.Scheme != c.origin.Scheme || u.Host != c.origin.Host || u.User != nil {
		return nil, errors.New("path: leaves the API's host")
	}
	for _, part := range strings.FieldsFunc(u.Path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if part == "." || part == ".." {
			return nil, errors.New("path: has a dot segment")
		}
	}
	if len(query) > 0 {
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+query.Encode(), "&")
	}
	if len(u.RawQuery) > maxAddress {
		return nil, errors.New("query: over-long")
	}
	return u, nil
}

// shown is an address in an error text: its path, cut, and never its query.
func shown(u *url.URL) string {
	p := u.EscapedPath()
	if len(p) > 256 {
		return p[:256] + "…"
	}
	return p
}

const maxRedirects = 5

var (
	errElsewhere = errors.New("redirect to another host, scheme or port")
	errEndless   = fmt.Errorf("more than %d redirects", maxRedirects)
)

// redirect follows only within the API's host: elsewhere the credentials must
// not go, and an answer from elsewhere is nobody's record.
func (c *Client) redirect(next *http.Request, via []*http.Request) error {
	if next.URL.Scheme != c.origin.Scheme || !strings.EqualFold(hostPort(next.URL), hostPort(c.origin)) || next.URL.User != nil {
		return errElsewhere
	}
	if len(via) > maxRedirects {
		return errEndless
	}
	return nil
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
