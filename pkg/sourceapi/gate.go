package sourceapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/provider"
)

// gate admits the requests with one credential: no more at once, and none
// sooner, than is configured; none while its breaker is open.
type gate struct {
	now  func() time.Time // of the breaker
	most provider.Rate    // of all replicas together
	own  bool             // the credential is one account's, see turnedAway

	mu       sync.Mutex // guards what follows
	limit    int        // in flight, of this process
	turns    *rate.Limiter
	breaker  breaker
	inFlight [classes]int
	waiting  [classes][]*waiter
	turn     int         // counts what was admitted while both classes waited
	timer    *time.Timer // when the next turn comes, or nil
	busyTo   time.Time   // until when calls that were turned away have been put off
}

// class is who asks: what waits for a record goes before what lists many.
type class int

const (
	front   class = iota
	back          // Request.Background
	classes = 2
)

// backEvery is which of the turns is the background's while both wait. It also
// gets no more than half of the requests in flight.
const backEvery = 4

// waiter is a call that waits. Err is set before admitted is closed, and nil if
// it was.
type waiter struct {
	admitted chan struct{}
	err      error
}

func newGate(now func() time.Time, cfg provider.API, own bool) *gate {
	return &gate{
		now: now, most: cfg.Rate, own: own, limit: cfg.Concurrency, turns: egress.Limiter(cfg.Rate.Requests, cfg.Rate.Per),
	}
}

// enter waits until a request may be made. Whoever entered must leave. The
// error is postponed: the call had no part in it.
func (g *gate) enter(ctx context.Context, who class) error {
	w := &waiter{admitted: make(chan struct{})}
	g.mu.Lock()
	if err := g.turnedAway(who); err != nil {
		g.mu.Unlock()
		return err
	}
	g.waiting[who] = append(g.waiting[who], w)
	g.dispatch()
	g.mu.Unlock()
	select {
	case <-w.admitted:
		return w.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting[who], w); i >= 0 {
		g.waiting[who] = slices.Delete(g.waiting[who], i, i+1)
	} else if w.err == nil { // admitted at the same moment
		g.inFlight[who]--
	}
	g.dispatch() // the turn is somebody else's
	return fault.Postpone(fmt.Errorf("waiting for the configured rate and concurrency: %w", ctx.Err()), outageMin)
}

// turnedAway is the error of a call that must not even wait. The calls of one
// account leave the stage's workers to others: only a few of them may wait.
func (g *gate) turnedAway(who class) error {
	if err := g.held(); err != nil {
		return err
	}
	flying := g.inFlight[front] + g.inFlight[back]
	if g.breaker.probing() && flying > 0 {
		return fault.Postpone(errors.New("not sent: another request finds out whether the API is back"), g.putOff())
	}
	if g.own && who == front && len(g.waiting[front]) >= max(1, g.limit/4) {
		return fault.Postpone(errors.New("not sent: enough requests of this account wait already"), g.putOff())
	}
	return nil
}

func (g *gate) held() error {
	wait := g.breaker.held(g.now())
	if wait == 0 {
		return nil
	}
	return fault.Postpone(fmt.Errorf("not sent: held back since %s", g.breaker.cause), wait)
}

// maxPutOff bounds how far a call that was turned away is put off.
const maxPutOff = 5 * time.Minute

// putOff gives each call that is turned away a time of its own, as far away as
// those before it need at the rate that is to be expected.
func (g *gate) putOff() time.Duration {
	each := 50 * time.Millisecond
	if g.turns.Limit() != rate.Inf {
		each = time.Duration(float64(time.Second) / float64(g.turns.Limit()))
	}
	now := g.now()
	g.busyTo = now.Add(min(max(g.busyTo.Sub(now), outageMin)+each, maxPutOff))
	return g.busyTo.Sub(now)
}

// dispatch admits whoever may go, in order. The mutex is held.
func (g *gate) dispatch() {
	if err := g.held(); err != nil {
		for who := range g.waiting {
			for _, w := range g.waiting[who] {
				w.err = err
				close(w.admitted)
			}
			g.waiting[who] = nil
		}
		return
	}
	bound := g.limit
	if g.breaker.allowed > 0 {
		bound = min(bound, g.breaker.allowed)
	}
	for g.inFlight[front]+g.inFlight[back] < bound {
		who, ok := g.next()
		if !ok || !g.takeTurn() {
			return
		}
		w := g.waiting[who][0]
		g.waiting[who] = g.waiting[who][1:]
		g.inFlight[who]++
		g.turn++
		close(w.admitted)
	}
}

// next is whose turn it is.
func (g *gate) next() (who class, ok bool) {
	wantFront, wantBack := len(g.waiting[front]) > 0, len(g.waiting[back]) > 0 && g.inFlight[back] < max(1, g.limit/2)
	switch {
	case wantFront && wantBack && g.turn%backEvery == backEvery-1:
		return back, true
	case wantFront:
		return front, true
	default:
		return back, wantBack
	}
}

// takeTurn takes one of the configured rate, or sees to it that the gate
// dispatches when the next one comes.
func (g *gate) takeTurn() bool {
	now := time.Now()
	r := g.turns.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return true
	}
	r.CancelAt(now)
	if g.timer == nil {
		g.timer = time.AfterFunc(wait, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.timer = nil
			g.dispatch()
		})
	}
	return false
}

// leave ends a request and notes what it tells of the API.
func (g *gate) leave(who class, note func(b *breaker)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight[who]--
	note(&g.breaker)
	g.dispatch()
}

// renew forgets what was said to an older credential.
func (g *gate) renew() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.breaker = breaker{}
	g.dispatch()
}

// share sets what this process may use of the configured limits, a number
// above 0 and at most 1.
func (g *gate) share(part float64, concurrency int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = max(1, int(float64(concurrency)*part+.5))
	if g.most.Requests > 0 {
		requests := float64(g.most.Requests) * part
		burst := max(1, int(requests)/10) // as egress.Limiter has it
		g.turns.SetLimit(rate.Limit((requests - float64(burst) + 1) / g.most.Per.Seconds()))
		g.turns.SetBurst(burst)
	}
	g.dispatch()
}

// queued counts the calls that wait for their turn.
func (g *gate) queued() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting[front]) + len(g.waiting[back])
}

// idle reports whether nothing would be lost with the gate.
func (g *gate) idle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inFlight == [classes]int{} && len(g.waiting[front])+len(g.waiting[back]) == 0 && g.breaker == breaker{} && g.timer == nil
}
