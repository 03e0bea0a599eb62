// Package simulator is a provider to test a pipeline against: a system with
// records, an HTTP API and webhooks, which treats its receiver as badly as real
// ones do.
//
// Its API has what a resource describes: one record, a related record, and a
// list by time of change with pages; it checks its token, counts requests
// against a budget, is unavailable now and then and refuses some records until
// somebody heals it. [Provider.Fail] lets it fail in worse ways. [Provider.Run]
// changes records and sends a signed webhook for each change, of which it drops,
// repeats, delays and forges a share. Like a real provider it sends again what
// was not taken, for a while.
//
// Everything that it does is in its [Book], which only grows, so that a test
// can hold the far end of a pipeline against what really happened. What happens
// to which change is decided by the seed alone; times and the order in which
// concurrent requests end are not.
package simulator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/signature"
)

// Config is what a provider does. Shares are from 0 to 1; a share above 0
// happens at least once. The zero value of every other field means its default.
type Config struct {
	// Seed decides what happens to which change.
	Seed uint64
	// Run is part of the ids of records and deliveries, so that no two runs
	// against one receiver share any. Defaults to none.
	Run string
	// Events is how many changes Run makes. Defaults to 1000.
	Events int
	// Records is how many records they are made to, each at least once.
	// Defaults to a quarter of Events.
	Records int
	// Endless lets Run go on with as many more changes, of as many new records,
	// again and again until Stop is called, or until the book is full: after 5
	// million changes.
	Endless bool

	// Drop is the share of changes whose webhook is never sent.
	Drop float64
	// Duplicate is the share of changes whose webhook is sent twice.
	Duplicate float64
	// Reorder is the share of changes whose webhook is sent behind up to 50
	// later ones.
	Reorder float64
	// Forge is how many forged webhooks are sent beside, as a share of Events.
	Forge float64
	// Poison is the share of records whose fetch fails until Heal is called.
	Poison float64
	// Delete is the share of records whose last change is their end.
	Delete float64
	// Unavailable is the share of API requests that is answered 503.
	Unavailable float64

	// Secret signs webhooks; see [Scheme]. Required, at least 16 bytes.
	Secret config.Secret
	// Token is what the API wants as a bearer token. Required.
	Token config.Secret

	// Rate is the number of changes a second, however long webhooks take: what
	// isn't taken waits beside, up to 100,000 of them. Defaults to as many as are
	// taken, Concurrency at a time.
	Rate float64
	// Concurrency is how many webhooks are on their way at once. Defaults to 16.
	Concurrency int
	// Budget is how many API requests a second are answered; more get 429.
	// Defaults to 2000.
	Budget int
	// Timeout bounds one webhook's answer. Defaults to 10s.
	Timeout time.Duration
	// MaxAttempts is how often a webhook that isn't taken is sent. Defaults
	// to 25, which span about 40 seconds.
	MaxAttempts int
	// RetryMin and RetryMax bound the delay between attempts, which doubles.
	// Default to 50ms and 2s.
	RetryMin, RetryMax time.Duration
}

// withDefaults returns c with each unset field at its default.
func (c Config) withDefaults() Config {
	c.Events = cmp.Or(c.Events, 1000)
	c.Records = cmp.Or(c.Records, max(c.Events/4, 1))
	c.Concurrency = cmp.Or(c.Concurrency, 16)
	c.Budget = cmp.Or(c.Budget, 2000)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 25)
	c.RetryMin = cmp.Or(c.RetryMin, 50*time.Millisecond)
	c.RetryMax = cmp.Or(c.RetryMax, 2*time.Second)
	return c
}

// Validate reports every fault of c at once, each with the field's name.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	want := func(ok bool, field string, value any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %v, want %s", field, value, want))
		}
	}
	for _, s := range []struct {
		field string
		value float64
	}{
		{"drop", c.Drop},
		{"duplicate", c.Duplicate},
		{"reorder", c.Reorder},
		{"forge", c.Forge},
		{"poison", c.Poison},
		{"delete", c.Delete},
		{"unavailable", c.Unavailable},
	} {
		want(s.value >= 0 && s.value <= 1, s.field, s.value, "a share from 0 to 1")
	}
	want(c.Events >= 1 && c.Events <= maxEvents, "events", c.Events, fmt.Sprintf("1 to %d", maxEvents))
	want(c.Records >= 1 && c.Records <= c.Events, "records", c.Records, "1 to the number of events")
	want(c.Rate >= 0, "rate", c.Rate, "events a second, or 0 for no limit")
	want(c.Concurrency >= 1 && c.Concurrency <= 1024, "concurrency", c.Concurrency, "1 to 1024")
	want(c.Budget >= 1, "budget", c.Budget, "at least 1 request a second")
	want(c.Timeout > 0, "timeout", c.Timeout, "more than 0s")
	want(c.MaxAttempts >= 1, "max attempts", c.MaxAttempts, "at least 1")
	want(c.RetryMin > 0 && c.RetryMax >= c.RetryMin, "retry min", c.RetryMin, "more than 0s and at most retry max")
	want(!c.Token.IsZero(), "token", c.Token, "a token")
	return errors.Join(errs...)
}

// maxEvents bounds the book, which is in memory together with the records: a
// million changes of a quarter as many records, with a webhook each that is taken
// at once, take about 400 MB.
const maxEvents = 5_000_000

// Scheme is how webhooks are signed: HMAC-SHA256 in hex in X-Signature over
// "<unix seconds>.<body>", with the time in X-Timestamp. The delivery id in
// X-Delivery is not signed.
func Scheme() signature.Scheme {
	return signature.Scheme{
		Algorithm: signature.HMACSHA256, Header: "X-Signature", Timestamp: "X-Timestamp", Signed: "{timestamp}.{body}",
	}
}

// Provider is a simulated provider. It is an [http.Handler], its API, and safe
// for concurrent use. Use [New].
type Provider struct {
	cfg    Config
	plan   plan
	signer signer
	client *http.Client
	api    http.Handler
	budget budget
	held   held
	stop   chan struct{} // closed by Stop
	once   sync.Once     // closes stop

	mu    sync.Mutex // guards what is below
	store store
	book  Book
	done  bool
	rng   *rand.Rand // which API requests find the API unavailable, or failing
	fails failures
}

// New returns a provider that has not changed anything yet.
func New(cfg Config) (*Provider, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	cfg = cfg.withDefaults()
	s, err := newSigner(cfg.Secret.Reveal())
	if err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	p := &Provider{
		cfg: cfg, plan: newPlan(cfg, 0), signer: s,
		client: &http.Client{
			Timeout: cfg.Timeout,
			// No proxy from the environment: the receiver is the one that Run is given.
			Transport: &http.Transport{
				DialContext:  (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				MaxIdleConns: cfg.Concurrency, MaxIdleConnsPerHost: cfg.Concurrency, IdleConnTimeout: 30 * time.Second,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		budget: budget{limit: cfg.Budget}, stop: make(chan struct{}),
		rng: rand.New(rand.NewPCG(cfg.Seed, seedAPI)),
	}
	p.store = newStore(p.plan)
	p.api = p.routes()
	return p, nil
}

// Serve answers API requests on l until ctx ends, then closes it and returns
// nil, or the reason why it had to stop before.
func (p *Provider) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: p, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		_ = srv.Close() // nobody is owed an answer once the simulation ends
	})
	err := srv.Serve(l)
	if stop() {
		return fmt.Errorf("serve simulated api: %w", err)
	}
	<-stopped
	return nil
}

// Heal ends the refusal of poisoned records: they can be fetched from now on.
func (p *Provider) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.store.healed = true
}

// Stop ends the changes: Run sends what is left of their webhooks and returns.
func (p *Provider) Stop() { p.once.Do(func() { close(p.stop) }) }

// Book returns what was done so far. The caller may read it at leisure; it
// must not change it.
func (p *Provider) Book() Book {
	p.mu.Lock()
	defer p.mu.Unlock()
	// The book only grows, so what is in it now needs no copy.
	b := p.book
	b.Changes = b.Changes[:len(b.Changes):len(b.Changes)]
	b.Deliveries = b.Deliveries[:len(b.Deliveries):len(b.Deliveries)]
	return b
}

// Newest returns every record that there ever was, as it is now, by id.
func (p *Provider) Newest() map[string]Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.store.newest()
}

// Progress is how far a run has come.
type Progress struct {
	Counts
	// Planned is the number of changes that the run makes, or of one round of an
	// endless one.
	Planned int
	// Done says that every change was made and every webhook answered or given up.
	Done bool
}

// Progress returns how far Run has come.
func (p *Provider) Progress() Progress {
	b := p.Book()
	p.mu.Lock()
	defer p.mu.Unlock()
	return Progress{Counts: b.Counts(), Planned: len(p.plan.steps), Done: p.done}
}
