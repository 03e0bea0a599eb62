package sourceapi

import (
	"errors"
	"reflect"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/provider"
)

// lane is what the requests with one credential have in common: what they prove
// themselves with, what they may use of the configured limits, and what the API
// said to them.
type lane struct {
	account string // whose credential it is; "" for the source's
	auth    provider.Auth
	proof   *proof
	gate    *gate
	used    time.Time // last; guarded by the client's mutex
}

// maxLanes is how many lanes are kept before those that are idle are dropped,
// and laneIdle how long such a one has not been used.
const (
	maxLanes = 4096
	laneIdle = time.Minute
)

// errNoAccount is of a request in the name of an account that is not there.
var errNoAccount = errors.New("no such account (any more)")

// lane returns the one for requests in the name of an account.
func (c *Client) lane(account string) (*lane, error) {
	auth, key := c.cfg.Auth, ""
	if account != "" && account != event.NoAccount && c.deps.Auth != nil {
		its, ok := c.deps.Auth(account)
		if !ok {
			return nil, errNoAccount
		}
		if !reflect.DeepEqual(its, auth) {
			auth, key = its, account
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lanes[key]
	switch {
	case l == nil:
		c.dropIdle()
		l = &lane{account: key, gate: newGate(c.now, c.cfg, key != "")}
		l.gate.share(c.part, c.cfg.Concurrency)
		if now := c.now(); c.outUntil.After(now) {
			l.gate.breaker.open(now, c.outUntil.Sub(now), c.outCause)
		}
	case key == "" || reflect.DeepEqual(l.auth, auth):
		l.used = c.now()
		return l, nil
	default: // a new credential: what was said to the old one no longer counts
		l.proof.close()
		l = &lane{account: key, gate: l.gate}
		l.gate.renew()
	}
	var err error
	if l.proof, err = c.newProof(key, auth); err != nil {
		return nil, err
	}
	l.auth, l.used = auth, c.now()
	c.lanes[key] = l
	return l, nil
}

// dropIdle keeps the number of lanes from growing with that of accounts.
func (c *Client) dropIdle() {
	if len(c.lanes) < maxLanes {
		return
	}
	for key, l := range c.lanes {
		if key != "" && c.now().Sub(l.used) > laneIdle && l.gate.idle() {
			l.proof.close()
			delete(c.lanes, key)
		}
	}
}

// note tells a lane's breaker of a request, and finds out whether the whole
// source is concerned: no server could be reached, or two credentials found the
// API out with no success of any between them.
func (c *Client) note(l *lane, who class, v verdict) (wait time.Duration) {
	now := c.now()
	var opened bool
	l.gate.leave(who, func(b *breaker) {
		before := b.held(now)
		wait = v.note(b, now, l.gate.limit)
		opened = before == 0 && b.held(now) > 0
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case v.kind == alive:
		c.suspect = nil
	case v.kind == unreachable:
		c.holdAll(now, wait, v.cause)
	case v.kind == out && opened && c.suspect != nil && c.suspect != l.gate:
		c.holdAll(now, wait, v.cause)
	case v.kind == out && opened:
		c.suspect = l.gate
	}
	return wait
}

// holdAll holds the requests with every credential. The client's mutex is held.
func (c *Client) holdAll(now time.Time, wait time.Duration, cause string) {
	if wait == 0 {
		return
	}
	if until := now.Add(wait); until.After(c.outUntil) {
		c.outUntil, c.outCause = until, cause
	}
	for _, l := range c.lanes {
		l.gate.mu.Lock()
		l.gate.breaker.open(now, wait, cause)
		l.gate.dispatch()
		l.gate.mu.Unlock()
	}
}

// Held is how long the source as a whole wants no requests from now on; calls
// fail meanwhile without one. It is 0 when some may be made: what concerns one
// account's credential alone holds up no other account.
func (c *Client) Held() time.Duration {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := max(c.outUntil.Sub(now), 0)
	if l := c.lanes[""]; l != nil && len(c.lanes) == 1 {
		l.gate.mu.Lock()
		defer l.gate.mu.Unlock()
		wait = max(wait, l.gate.breaker.held(now))
	}
	return wait
}
