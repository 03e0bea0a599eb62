package cursor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

const (
	// watchFor is how long one watch of the pauses lasts before a new one takes
	// its place: so long, at most, one that hears nothing any more goes unnoticed.
	watchFor = time.Minute
	// watchRetry is the wait after a watch that could not begin.
	watchRetry = time.Second
)

// Pauses knows which resources are paused, as it changes. It is safe for
// concurrent use. Run it.
type Pauses struct {
	js    jetstream.JetStream
	log   *slog.Logger
	ready chan struct{} // closed once the pauses are known
	once  sync.Once

	mu      sync.Mutex // guards those below
	known   bool
	err     error // why they can't be followed
	pauses  map[Scope]Pause
	waiting map[*waiting]struct{}
}

// waiting is a context that ends when its resource is paused.
type waiting struct {
	key    Key
	cancel context.CancelCauseFunc
}

// NewPauses returns the pauses of a server, none of which it knows yet. It logs
// when they can't be followed, and when they are again.
func NewPauses(js jetstream.JetStream, log *slog.Logger) *Pauses {
	return &Pauses{js: js, log: log, ready: make(chan struct{}), pauses: map[Scope]Pause{}, waiting: map[*waiting]struct{}{}}
}

// Run follows the pauses until ctx ends. While the server can't be asked, what
// was known last holds.
func (p *Pauses) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.watch(ctx); err != nil && ctx.Err() == nil {
			p.note(ctx, err)
			select {
			case <-time.After(watchRetry):
			case <-ctx.Done():
			}
		}
	}
}

// watch follows the pauses for a while.
func (p *Pauses) watch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchFor)
	defer cancel()
	kv, err := p.js.KeyValue(ctx, topology.BucketCursors)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", topology.BucketCursors, err)
	}
	w, err := kv.WatchFiltered(ctx, []string{pausedPrefix + ".>"})
	if err != nil {
		return fmt.Errorf("watch pauses: %w", err)
	}
	defer func() { _ = w.Stop() }()
	known, next := false, map[Scope]Pause{}
	for {
		select {
		case e, open := <-w.Updates():
			switch {
			case !open:
				return errors.New("watch pauses: it has ended")
			case e == nil: // all that there were have come
				known = true
			default:
				change(next, e)
			}
		case <-ctx.Done():
			if !known {
				return errors.New("watch pauses: they have not all come")
			}
			return nil
		}
		if known {
			p.set(maps.Clone(next))
			p.note(ctx, nil)
		}
	}
}

// note logs when the pauses begin to be out of reach and when they are followed
// again.
func (p *Pauses) note(ctx context.Context, err error) {
	p.mu.Lock()
	was, known := p.err, p.known
	p.err = err
	p.mu.Unlock()
	switch {
	case err != nil && was == nil:
		p.log.LogAttrs(ctx, slog.LevelWarn, "pauses can't be followed", slog.Bool("known", known), slog.Any("err", err))
	case err == nil && was != nil:
		p.log.LogAttrs(ctx, slog.LevelInfo, "pauses are followed again")
	}
}

// change takes in one entry of the bucket.
func change(pauses map[Scope]Pause, e jetstream.KeyValueEntry) {
	switch pause, ok := readPause(e); {
	case !ok: // written by something else
	case e.Operation() == jetstream.KeyValuePut:
		pauses[pause.Scope] = pause
	default:
		delete(pauses, pause.Scope)
	}
}

func (p *Pauses) set(pauses map[Scope]Pause) {
	p.mu.Lock()
	p.known, p.pauses = true, pauses
	for w := range p.waiting {
		if _, paused := p.of(w.key); paused {
			w.cancel(ErrPaused)
		}
	}
	p.mu.Unlock()
	p.once.Do(func() { close(p.ready) })
}

// Ready is closed once it is known what is paused.
func (p *Pauses) Ready() <-chan struct{} { return p.ready }

// Err says why it isn't known what is paused. It returns nil once it is, and until
// the first attempt has failed.
func (p *Pauses) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known {
		return nil
	}
	return p.err
}

// Of returns the pause that keeps k from being reconciled, if there is one.
func (p *Pauses) Of(k Key) (Pause, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of(k)
}

func (p *Pauses) of(k Key) (Pause, bool) {
	for _, scope := range []Scope{
		{k.Source, k.Account, k.Resource}, {Source: k.Source, Account: k.Account}, {Source: k.Source, Resource: k.Resource}, {Source: k.Source},
	} {
		if pause, paused := p.pauses[scope]; paused {
			return pause, true
		}
	}
	return Pause{}, false
}

// While returns a context that ends when k is paused, or is already, or as long
// as that isn't known; its cause is then [ErrPaused]. Cancel it when it is no
// longer needed.
func (p *Pauses) While(ctx context.Context, k Key) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &waiting{k, cancel}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting[w] = struct{}{}
	if _, paused := p.of(k); paused || !p.known {
		cancel(ErrPaused)
	}
	return ctx, func() {
		cancel(context.Canceled)
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waiting, w)
	}
}
