// Package sourceapi calls the HTTP API of a source: the one client of the
// enricher, which gets records, and of the reconciler, which lists them.
//
// A [Client] keeps to what the source's owner configured (rate, concurrency,
// time, size), waits when the source says so, and marks every error with
// package fault. What the source answers is not trusted: the address is
// checked after name resolution, a redirect never leaves the host, and an
// answer counts only if it is one strict JSON value within its size. Error
// texts hold neither secrets nor anything that the source wrote.
//
// # Outages
//
// For each credential (the source's, or that of an account with its own) a
// breaker opens when the API throttles, refuses the credential, can't be reached
// or fails several times in a row without any success. Calls then fail at once,
// postponed (see [fault.Postpone]): they cost their messages no attempt. It
// closes by itself at the time that the API named, or after a growing one; then
// one request finds out whether the API is back, and others follow, twice as
// many with each success. [Client.Held] tells when no request can be made with
// any credential.
//
// # Limits that replicas share
//
// With [Deps].JetStream the configured rate and concurrency are those of all
// processes that call the source at the time: each tells of itself once a second
// in the bucket tercel_leases while it calls, and takes its part, equal among
// enrichers, while a reconciler counts for a third of one. The sum is off for
// about a second after a process begins (too much, by the new one's part), and
// for four after one ends (too little). A process always has one request in
// flight, and a burst of one, so that more replicas than either exceed them.
//
// # Sharing of answers
//
// All requests are reads, POST ones too: equal ones are made once where that is
// safe, see [Request], and one that fails at the connection or with a status of
// 502 or 503 is repeated once.
package sourceapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/seal"
)

// ErrNotFound is wrapped by the error of [Client.Do] when the source answered
// 404 or 410: it no longer has the record.
var ErrNotFound = errors.New("no such record")

// Deps are what a [Client] borrows. All of them may be left out.
type Deps struct {
	// Now tells the time of holds, caches and tokens. Defaults to time.Now.
	Now func() time.Time
	// Resolver looks names up. Defaults to net.DefaultResolver.
	Resolver *net.Resolver
	// Auth returns what the requests in the name of an account prove themselves
	// with, and whether there is such an account; requests for one that is not
	// there are postponed. It is asked for each request. Accounts with the
	// source's own credential share its limits. Defaults to that for all.
	Auth func(account string) (provider.Auth, bool)
	// JetStream has the buckets of leases and tokens. Without it limits are this
	// process's alone, and there can be no refresh tokens.
	JetStream jetstream.JetStream
	// Seal seals refresh tokens, which need it.
	Seal *seal.Box
	// Background says that the client gives way to others where limits are
	// shared: it lists, and no event waits for it.
	Background bool
}

// Request is what to ask the source for. Requests only read, or do no harm if they
// are made twice: the client may repeat one, and answer several with one answer.
type Request struct {
	// Method is GET or POST. Defaults to GET.
	Method string
	// Path stands below the base URL. It begins with a slash, is escaped, and may
	// have a query.
	Path string
	// Query is added to the path's.
	Query url.Values
	// Body is the JSON of a POST, such as a GraphQL query.
	Body []byte
	// GraphQL says that Body is a query, whose answer may have errors: they are
	// taken for failures, see [provider.Failures].
	GraphQL bool
	// Empty says that an answer may have no body, as one that only says that
	// something is going to be done.
	Empty bool
	// Account is in whose name the request is made. Defaults to the source's own.
	Account string
	// MaxAge is how old the answer may be, counted from when its request began:
	// an answer in the cache, or to a request in flight, then serves. Defaults to
	// 0: the request begins after the call.
	MaxAge time.Duration
	// Gather delays the request, so that more equal calls come together in it.
	// Defaults to 0.
	Gather time.Duration
	// Background requests give way to the client's others.
	Background bool
}

// Answer is what the source answered. Several calls may have the same one: it
// must not be changed.
type Answer struct {
	// Status is the HTTP status; that of the first answer where the API said
	// that it has not changed.
	Status int
	// Header are the answer's headers. Of an answer from the cache only those are
	// left that concern the record, beside the Date at which the API said that it
	// has not changed.
	Header http.Header
	// Body is one strict JSON value, decompressed.
	Body []byte
	// Tries is how many requests the call took, 0 where another one's answer
	// served, and From says which.
	Tries int
	From  event.FetchedFrom
	// RequestedAt is when the request began: the source showed the record as
	// it was then or later. ReceivedAt is when the answer was complete.
	RequestedAt, ReceivedAt time.Time
	// ObservedAt is RequestedAt by the source's clock, as far as the answer's Date
	// tells it from this process's: where the two are less than a second apart it
	// is the same. What several processes saw is put in order by it, since the
	// clock of one of them may be wrong.
	ObservedAt time.Time
}

// Client calls one source's API. It is safe for concurrent use. Close it.
type Client struct {
	name    string
	cfg     provider.API
	deps    Deps
	origin  *url.URL
	base    string // without a slash at its end
	now     func() time.Time
	connect egress.Config
	http    *http.Client
	limits  limits
	cache   *cache
	flights flights
	budget  *budget // or nil
	skew    skew
	metrics instruments
	gauged  metric.Registration

	mu       sync.Mutex // guards what follows
	lanes    map[string]*lane
	part     float64   // of the configured limits, for this process
	suspect  *gate     // of the first credential that found the API out, with no success since
	outUntil time.Time // when the source as a whole is tried again
	outCause string
}

// New returns a client for the API of the source called name. The error names
// what is wrong in cfg and quotes no secret.
func New(name string, cfg provider.API, deps Deps) (*Client, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	c := &Client{
		name: name, cfg: cfg, deps: deps, base: strings.TrimRight(cfg.Base, "/"), now: deps.Now,
		limits: limits{cfg.Limits}, cache: newCache(int64(cfg.CacheSize)), flights: flights{all: map[string]*flight{}},
		connect: egress.Config{AllowPrivate: cfg.AllowPrivate, Connections: cfg.Concurrency, Resolver: deps.Resolver},
		lanes:   map[string]*lane{}, part: 1,
	}
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
	if c.metrics, err = newInstruments(name); err != nil {
		return nil, err
	}
	c.http = &http.Client{CheckRedirect: c.redirect, Transport: egress.Transport(c.connect)}
	if _, err := c.lane(""); err != nil {
		return nil, fmt.Errorf("api of %s: %w", name, err)
	}
	if c.gauged, err = c.gauges(); err != nil {
		return nil, err
	}
	if deps.JetStream != nil {
		c.budget = startBudget(c)
	}
	return c, nil
}

// Close drops the connections that are kept for the next call, and what the
// process takes of shared limits. There must be no calls any more.
func (c *Client) Close() {
	if c.budget != nil {
		c.budget.stop()
	}
	c.http.CloseIdleConnections()
	_ = c.gauged.Unregister()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.lanes {
		l.proof.close()
	}
}

// Get is [Client.Do] of a GET in the source's own name.
func (c *Client) Get(ctx context.Context, path string, query url.Values) (Answer, error) {
	return c.Do(ctx, Request{Path: path, Query: query})
}

// Do makes a request, or returns the answer of an equal one that serves; see
// [Request]. Waiting for the configured rate and concurrency counts against
// ctx. With an error, which may wrap [ErrNotFound], the answer still has the
// status and the times as far as it came.
func (c *Client) Do(ctx context.Context, r Request) (Answer, error) {
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	u, err := c.address(r.Path, r.Query)
	if err == nil && r.Method != http.MethodGet && r.Method != http.MethodPost {
		err = errors.New("method: want GET or POST")
	}
	if err != nil {
		return Answer{}, fault.Permanent(fmt.Errorf("%s %s: %w", r.Method, c.name, err))
	}
	l, err := c.lane(r.Account)
	if err != nil { // an account's credential can't be used until it is mended
		return Answer{}, fault.Postpone(fmt.Errorf("%s %s: credential of the account: %w", r.Method, c.name, err), refusedMin)
	}
	if c.budget != nil {
		c.budget.touch()
	}
	oldest := c.now().Add(-r.MaxAge)
	call := call{r, u, l, c.keyOf(r, u, l)}
	if r.MaxAge > 0 {
		if ans, ok := c.cache.within(call.key, oldest); ok {
			ans.Tries, ans.From = 0, event.FromCache
			return ans, nil
		}
	}
	ans, own, err := c.flights.join(ctx, call.key, oldest, func(ctx context.Context, f *flight) (Answer, error) {
		return c.fly(ctx, call, f)
	})
	if !own {
		ans.Tries, ans.From = 0, event.FromShared
	}
	if err != nil {
		return ans, fmt.Errorf("%s %s %s: %w", r.Method, c.name, shown(u), err)
	}
	return ans, nil
}

// call is a request on its way.
type call struct {
	Request
	url  *url.URL
	lane *lane
	key  string
}

func (c call) class() class {
	if c.Background {
		return back
	}
	return front
}

// keyOf is the same for equal requests with the same credential and urgency.
func (c *Client) keyOf(r Request, u *url.URL, l *lane) string {
	key := fmt.Sprintf("%s %t %s %s", l.account, r.Background, r.Method, u.RequestURI())
	if len(r.Body) > 0 {
		sum := sha256.Sum256(r.Body)
		key += " " + string(sum[:])
	}
	return key
}
