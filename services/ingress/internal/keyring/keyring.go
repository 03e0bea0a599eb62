// Package keyring has the public keys that senders sign webhooks with, where a
// request only names its key and the key has to be fetched.
//
// Whoever can reach the ingress can make it ask for keys, so everything is
// bounded: what may be asked for ([provider.SenderKeys]), how often, how many at
// once, how long and how much, and what is remembered of it. Keys that are known
// keep working meanwhile: no number of forged requests removes one or keeps it from
// being asked for again, and one that can't be had again stays until its own end.
package keyring

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
)

var (
	// ErrUnknown means that the sender has no such key: it says so, or what it has
	// there can't be its key. What was signed with it isn't genuine.
	ErrUnknown = errors.New("no such key")
	// ErrUnavailable means that it can't be told at the moment. What was signed may
	// be genuine.
	ErrUnavailable = errors.New("key not to be had now")
)

// Bounds of one source's ring. Fetches of keys that are known and of those that
// aren't are bounded apart, both alike.
const (
	fetchTimeout  = 5 * time.Second
	fetchesAtOnce = 4
	fetchesBurst  = 10 // of FetchesPerMinute
	maxKeys       = 64
	maxRefused    = 256
	maxAnswer     = 64 << 10 // bytes
	unknownFor    = 5 * time.Minute
	unavailFor    = 15 * time.Second
	refreshAfter  = time.Hour      // of a key that may end without notice
	keptFor       = 24 * time.Hour // at most without a refresh, unless the key has an end of its own
)

// FetchesPerMinute bounds how often one source's unknown keys are asked for, and
// how often its known ones.
const FetchesPerMinute = 30

// Config says whose keys a [Ring] has: parts of a [provider.Source].
type Config struct {
	// Source is its name.
	Source string
	// Algorithm is what the keys are for.
	Algorithm signature.Algorithm
	// Keys says where they are had.
	Keys provider.SenderKeys
	// API is what an endpoint belongs to.
	API provider.API
}

// Deps are what a [Ring] borrows.
type Deps struct {
	// Now is the clock that keys end by. Required.
	Now func() time.Time
	// Roots are what certificates are verified up to, of keys and of the servers
	// that have them. Defaults to the system's.
	Roots *x509.CertPool
	// Dial connects to host:port. Defaults to the guarded way out of package egress.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Ring has one source's keys. It is safe for concurrent use. Use [New].
type Ring struct {
	cfg  Config
	deps Deps
	http *http.Client
	base context.Context // of all fetches; ended by Close
	stop context.CancelFunc
	runs sync.WaitGroup

	meter meter

	mu      sync.Mutex // guards those below
	keys    map[string]*held
	refused map[string]refusal
	flights map[string]chan struct{} // closed when the fetch has ended
	unseen  budget
	known   budget // its own, or forged names would keep keys from their refresh
	closed  bool
}

// budget bounds fetches of one kind.
type budget struct {
	turns *rate.Limiter
	aloft int
}

func newBudget() budget {
	return budget{turns: rate.NewLimiter(FetchesPerMinute/60.0, fetchesBurst)}
}

// held is a key that is good until its end.
type held struct {
	key     signature.SenderKey
	refresh time.Time
	until   time.Time
	used    time.Time
}

// refusal is why a key wasn't had, and until when it isn't asked for again.
type refusal struct {
	err   error
	until time.Time
}

// New returns a ring without keys. End it with [Ring.Close].
func New(cfg Config, deps Deps) (*Ring, error) {
	if cfg.Keys.IsZero() || deps.Now == nil {
		return nil, fmt.Errorf("keys of %s: nowhere to have them, or no clock", cfg.Source)
	}
	m, err := newMeter(cfg.Source)
	if err != nil {
		return nil, err
	}
	r := &Ring{
		cfg: cfg, deps: deps, meter: m, keys: map[string]*held{}, refused: map[string]refusal{}, flights: map[string]chan struct{}{},
		unseen: newBudget(), known: newBudget(),
	}
	r.http = deps.Client(cfg.Keys.Endpoint != nil && cfg.API.AllowPrivate)
	r.base, r.stop = context.WithCancel(context.Background())
	return r, nil
}

// Client returns a client that stays where it is sent: it follows no redirect,
// and calls private addresses only if it may. Its time is bounded by the context
// of each request alone.
func (d Deps) Client(allowPrivate bool) *http.Client {
	transport := egress.Transport(egress.Config{AllowPrivate: allowPrivate, Connections: 1})
	if d.Dial != nil {
		transport.DialContext = d.Dial
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: d.Roots, MinVersion: tls.VersionTLS12}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close ends what is being fetched. Whoever waits for it gets [ErrUnavailable].
func (r *Ring) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.runs.Wait()
	r.http.CloseIdleConnections()
}

// Key returns the sender's key of that name, fetched or known. It waits for a
// fetch at most until ctx ends or five seconds are over. Its error wraps
// [ErrUnknown] or [ErrUnavailable], and doesn't quote the name.
func (r *Ring) Key(ctx context.Context, name string) (signature.SenderKey, error) {
	if !r.cfg.Keys.Names(name) {
		return signature.SenderKey{}, fmt.Errorf("%w: the name isn't one that the sender's keys have", ErrUnknown)
	}
	key, landed, err := r.lookUp(name)
	if landed == nil {
		return key, err
	}
	select {
	case <-landed:
		return r.recall(name)
	case <-ctx.Done():
		return signature.SenderKey{}, fmt.Errorf("%w: the request ended before the answer", ErrUnavailable)
	}
}

// lookUp returns the key or the error that is known, or what is closed when more
// is known.
func (r *Ring) lookUp(name string) (signature.SenderKey, <-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.deps.Now()
	known := r.keys[name]
	if known != nil && !now.Before(known.until) {
		delete(r.keys, name)
		known = nil
	}
	if known != nil {
		known.used = now
		if now.Before(known.refresh) {
			return known.key, nil, nil
		}
	}
	why, refused := r.refused[name]
	if refused && !now.Before(why.until) {
		delete(r.refused, name)
		refused = false
	}
	if !refused {
		from := &r.unseen
		if known != nil {
			from = &r.known
		}
		var landed <-chan struct{}
		if landed, why.err = r.board(name, from, now); landed != nil && known == nil {
			return signature.SenderKey{}, landed, nil
		}
	}
	if known != nil { // good, and at most older than it might be
		return known.key, nil, nil
	}
	return signature.SenderKey{}, nil, why.err
}

// board joins the fetch of a key, or begins it if the budget allows. The caller
// holds mu.
func (r *Ring) board(name string, from *budget, now time.Time) (<-chan struct{}, error) {
	if landed, ok := r.flights[name]; ok {
		return landed, nil
	}
	if r.closed || from.aloft >= fetchesAtOnce || !from.turns.AllowN(now, 1) {
		return nil, fmt.Errorf("%w: too many are being asked for", ErrUnavailable)
	}
	landed := make(chan struct{})
	r.flights[name] = landed
	from.aloft++
	r.runs.Go(func() {
		// The request that was first may end; those that joined it wait on.
		ctx, cancel := context.WithTimeout(r.base, fetchTimeout)
		defer cancel()
		found, err := r.fetch(ctx, name)
		r.land(name, from, found, err)
		close(landed)
	})
	return landed, nil
}

// land notes what a fetch has brought.
func (r *Ring) land(name string, from *budget, found *held, err error) {
	r.meter.fetched(r.base, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.flights, name)
	from.aloft--
	now := r.deps.Now()
	switch {
	case err == nil:
		found.used = now
		delete(r.refused, name)
		makeRoom(r.keys, maxKeys, func(h *held) time.Time { return h.used })
		r.keys[name] = found
		return
	case errors.Is(err, ErrUnknown):
		delete(r.keys, name) // the sender has taken it back
		r.refuse(name, refusal{err, now.Add(unknownFor)})
	default:
		r.refuse(name, refusal{err, now.Add(unavailFor)})
	}
}

func (r *Ring) refuse(name string, why refusal) {
	makeRoom(r.refused, maxRefused, func(f refusal) time.Time { return f.until })
	r.refused[name] = why
}

// makeRoom removes the oldest entry of a map that is full.
func makeRoom[V any](entries map[string]V, most int, age func(V) time.Time) {
	if len(entries) < most {
		return
	}
	oldest, first := "", true
	for name, v := range entries {
		if first || age(v).Before(age(entries[oldest])) {
			oldest, first = name, false
		}
	}
	delete(entries, oldest)
}

// recall returns what a fetch has brought.
func (r *Ring) recall(name string) (signature.SenderKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.keys[name]; known != nil {
		return known.key, nil
	}
	if why, ok := r.refused[name]; ok {
		return signature.SenderKey{}, why.err
	}
	return signature.SenderKey{}, fmt.Errorf("%w: too many are being asked for", ErrUnavailable)
}
