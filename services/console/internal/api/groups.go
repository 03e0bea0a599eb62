package api

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Bounds of grouping letters.
const (
	// groupsFor is how long groups are told although more letters have come. What
	// takes longer to make is told for longer.
	groupsFor = 3 * time.Second
	// groupsAnew is how long they are told although nothing has come: states and the
	// last 24 hours go by the clock.
	groupsAnew = time.Minute
	// groupsKept bounds the choices of letters whose groups are kept.
	groupsKept = 8
	// groupsAtOnce bounds those that are made at once, groupsTimeout their time.
	groupsAtOnce  = 4
	groupsTimeout = 5 * time.Minute
)

// groupings has the groups of letters made once for all who ask for the same, and
// again when letters have come or something was done to one. With very many letters
// that takes longer than a call may. Then groups are made to their end although
// nobody waits any more, and who asks meanwhile is told those from before.
type groupings struct {
	js     jetstream.JetStream
	now    func() time.Time
	slow   time.Duration   // what takes longer isn't waited for a second time
	ctx    context.Context // ends with the API, not with a call
	places chan struct{}   // one for each that is being made

	mu   sync.Mutex // guards kept
	kept map[string]*grouping
}

// grouping is the groups of one choice, which are there once done is closed.
type grouping struct {
	begun  time.Time
	at     marks
	before *grouping // told until then, or nil
	done   chan struct{}

	took   time.Duration
	groups deadletter.Groups
	err    error
}

// marks are how far the letters were, and what was done to them.
type marks struct{ first, last, states uint64 }

func newGroupings(ctx context.Context, js jetstream.JetStream, now func() time.Time) *groupings {
	return &groupings{js: js, now: now, slow: groupsFor, ctx: ctx, places: make(chan struct{}, groupsAtOnce), kept: map[string]*grouping{}}
}

// by returns the groups of the letters that f chooses, for which key stands.
func (g *groupings) by(ctx context.Context, key string, f deadletter.Filter) (deadletter.Groups, error) {
	at, err := g.marks(ctx)
	if err != nil {
		return deadletter.Groups{}, err
	}
	for {
		if one := g.begin(key, f, at); one != nil {
			select {
			case <-one.done:
				return one.groups, one.err
			case <-ctx.Done():
				return deadletter.Groups{}, fmt.Errorf("group dead letters, which goes on: %w", ctx.Err())
			}
		}
		select {
		case g.places <- struct{}{}: // there is one again
			<-g.places
		case <-ctx.Done():
			return deadletter.Groups{}, fmt.Errorf("group dead letters, behind others: %w", ctx.Err())
		}
	}
}

// begin returns groups that are good, or are being made, or begins to make them. It
// returns nil while there is no place for that.
func (g *groupings) begin(key string, f deadletter.Filter, at marks) *grouping {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.kept[key]
	switch {
	case one == nil:
	case one.over():
		if one.before = nil; g.good(one, at) {
			return one
		}
	case one.before != nil:
		return one.before
	default:
		return one
	}
	select {
	case g.places <- struct{}{}:
	default:
		return nil
	}
	delete(g.kept, key)
	g.forget()
	next := &grouping{begun: g.now(), at: at, done: make(chan struct{})}
	g.kept[key] = next
	go g.build(next, f) // by waits for it, and the API's end ends it
	if one == nil || one.err != nil || one.took <= g.slow || next.begun.Sub(one.begun) > groupsTimeout {
		return next
	}
	next.before = one
	return one
}

// good reports whether groups that were made can be told.
func (g *groupings) good(one *grouping, at marks) bool {
	age := g.now().Sub(one.begun)
	switch {
	case one.err != nil:
		return false
	case one.took > g.slow:
		return age < 2*one.took // half of the time, they are not being made
	case age > groupsAnew || one.at.states != at.states: // who did something sees it
		return false
	default:
		return one.at == at || age < groupsFor
	}
}

// build makes groups.
func (g *groupings) build(one *grouping, f deadletter.Filter) {
	ctx, cancel := context.WithTimeout(g.ctx, groupsTimeout)
	defer cancel()
	began := time.Now()
	one.groups, one.err = deadletter.GroupBy(ctx, g.js, f, one.begun)
	one.took = time.Since(began)
	close(one.done)
	<-g.places
}

// forget makes room for one more. g.mu must be held. What is being made is still
// had by those who wait for it.
func (g *groupings) forget() {
	for key, one := range g.kept {
		if len(g.kept) >= groupsKept || one.over() && g.now().Sub(one.begun) > groupsAnew+2*one.took {
			delete(g.kept, key)
		}
	}
}

// marks asks how far the letters are.
func (g *groupings) marks(ctx context.Context) (marks, error) {
	letters, err := g.js.Stream(ctx, topology.StreamDLQ)
	if err != nil {
		return marks{}, err
	}
	states, err := g.js.Stream(ctx, "KV_"+topology.BucketDeadLetters)
	if err != nil {
		return marks{}, err
	}
	of := letters.CachedInfo().State
	return marks{of.FirstSeq, of.LastSeq, states.CachedInfo().State.LastSeq}, nil
}

func (o *grouping) over() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}
