// Package run reconciles one resource: it lists the records that a source has,
// compares them with what the pipeline has seen, and sends in again what was
// missed.
//
// A run works on one window of time, page by page, under a lease. The cursor
// is saved after each page, and only once every record that the page showed to
// be missing is stored in TERCEL_RAW; it advances to the window's end only once
// every page was compared (promise 6). A run that ends early, in whatever way,
// leaves the window for the next, here or on another replica.
package run

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/mapping"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/services/internal/destination"
)

// ErrNotDue is returned by [Runner.Begin] when a scheduled run was made by
// somebody else in the meantime.
var ErrNotDue = errors.New("not due")

// Config is how a [Runner] works.
type Config struct {
	// Key says which records it reconciles, Resource how. With [cursor.Deletes] as
	// its work the runner looks for orphans.
	Key      cursor.Key
	Resource provider.Resource
	// Source, if set, is one whose list of events is reconciled, in place of
	// Resource. Key then names [provider.EventsResource].
	Source *provider.Source
	// Drop says which records nobody wants: they are never sent again.
	Drop mapping.Expr
	// Redact says what is left out of the triggers that are sent.
	Redact redact.Rules
	// Base is the URL of the source's API.
	Base string
	// Background says that its requests give way to those of other runners. Those
	// of a runner that looks for orphans always do.
	Background bool
	// LeaseTTL is how long a runner that has gone keeps others out.
	LeaseTTL time.Duration
	// CatchUp bounds waiting until what was stored before the run is enriched.
	CatchUp time.Duration
}

// Lister asks a source's API; a [sourceapi.Client] does.
type Lister interface {
	Do(ctx context.Context, r sourceapi.Request) (sourceapi.Answer, error)
}

// Publisher stores triggers in TERCEL_RAW; a [publish.Publisher] does.
type Publisher interface {
	Publish(ctx context.Context, m *nats.Msg) (publish.Ack, error)
}

// Destination holds records; a [destination.Reader] does.
type Destination interface {
	Versions(ctx context.Context, k destination.Key, ids []string) (map[string]destination.Held, error)
	All(ctx context.Context, k destination.Key) iter.Seq2[destination.Held, error]
}

// Deps are what a [Runner] borrows.
type Deps struct {
	JetStream jetstream.JetStream
	API       Lister
	Publisher Publisher
	// Repairs bounds the records sent in again, over all runners.
	Repairs *rate.Limiter
	Metrics *Metrics
	// Destinations are at least those that the resource is compared with.
	Destinations map[string]Destination
	Now          func() time.Time
}

// Runner makes the runs of one resource in one account. It is safe for
// concurrent use.
type Runner struct {
	cfg  Config
	deps Deps
	list provider.Reconcile
	// deletes is how it looks for orphans, if it does.
	deletes provider.Deletes
	path    string // of the list
	last    lastRun
	opened  atomic.Pointer[cursor.Store]
}

// New returns a runner. The resource must have a Reconcile section, or the source
// a list of events.
func New(cfg Config, deps Deps) (*Runner, error) {
	list := cfg.Resource.Reconcile
	if cfg.Source != nil && cfg.Source.Events != nil {
		list = &cfg.Source.Events.Reconcile
	}
	if list == nil {
		return nil, fmt.Errorf("reconcile %s: the resource says nothing of listing", cfg.Key)
	}
	r := &Runner{cfg: cfg, deps: deps, list: *list}
	for _, name := range r.list.Destinations() {
		if deps.Destinations[name] == nil {
			return nil, fmt.Errorf("reconcile %s: against %s: no such destination that can be read", cfg.Key, name)
		}
	}
	var err error
	if r.scans() {
		r.cfg.Background = true // nothing waits for what has gone long ago
		if r.deletes, err = scanConfig(cfg.Resource); err != nil {
			return nil, fmt.Errorf("reconcile %s: %w", cfg.Key, err)
		}
	}
	if r.path, err = r.list.List.Fill(scope(cfg.Key.Account)); err != nil {
		return nil, fmt.Errorf("reconcile %s: list: %w", cfg.Key, err)
	}
	return r, nil
}

// Gone returns a runner of a resource that can't be listed any more, since the
// pipeline file no longer has it. It can only [Runner.Cancel] what was begun.
func Gone(key cursor.Key, deps Deps) *Runner { return &Runner{cfg: Config{Key: key}, deps: deps} }

// cursors opens their bucket, once: one that is made anew has the same name.
func (r *Runner) cursors(ctx context.Context) (*cursor.Store, error) {
	if s := r.opened.Load(); s != nil {
		return s, nil
	}
	s, err := cursor.Open(ctx, r.deps.JetStream)
	if err == nil {
		r.opened.Store(s)
	}
	return s, err
}
