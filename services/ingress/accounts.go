package ingress

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
)

// checkPath finds the source and the account that the path names. Paths are
// compared as they were sent: there is one way to write each, and nothing is
// cleaned or redirected.
func (in *inspection) checkPath() *refusal {
	rest, ok := strings.CutPrefix(in.request.URL.EscapedPath(), "/v1/")
	name, named, some := strings.Cut(rest, "/")
	r := in.routes[name]
	if !ok || r == nil {
		return unknownPath()
	}
	in.account = event.NoAccount
	switch {
	case r.accounts == nil && some, r.accounts != nil && !some && !r.bodyNames:
		// An account that is not reconciled takes nothing in, so a source with
		// accounts needs one.
		return unknownPath()
	case some:
		if no := in.enter(r, named); no != nil {
			return no
		}
		in.pathNames = true
	}
	in.route = r
	return nil
}

func unknownPath() *refusal {
	return &refusal{status: http.StatusNotFound, outcome: unknownSource, text: "no such source"}
}

// enter makes the request one of that account. An account whose entry was never
// good, or that was not read yet, is no reason for a sender to give up.
func (in *inspection) enter(r *route, name string) *refusal {
	tenant, err := r.accounts.Find(name)
	if errors.Is(err, account.ErrUnknown) {
		return unknownPath()
	}
	if err != nil {
		in.route = r
		return &refusal{
			status: http.StatusServiceUnavailable, outcome: unavailable, text: "the account can't be served now",
			reason: "account " + strconv.Quote(name) + ": " + err.Error(), retryAfter: retryUnavailable,
		}
	}
	in.account, in.tenant = tenant.Name, tenant
	return nil
}

// keys are those that the request may be signed with: of the account, where it
// has its own, which binds the signature to the path (promise 2).
func (in *inspection) keys() []signature.Key {
	if in.tenant != nil && len(in.tenant.Keys()) > 0 {
		return in.tenant.Keys()
	}
	return in.route.source.Keys()
}

// checkAccount holds the account that the body names against the path's, or
// finds it where the path names none (promise 2).
func (in *inspection) checkAccount() *refusal {
	expr := in.route.source.Event.Account
	if len(expr) == 0 {
		return nil
	}
	named, err := in.attributeOfRequest(expr)
	switch own := in.tenant != nil && len(in.tenant.Keys()) > 0; {
	case errors.Is(err, field.ErrMissing) && own:
		return nil // the signature told it
	case err != nil:
		return badAttribute("account", err)
	case in.tenant == nil:
		return in.enterNamed(named)
	case named != in.account:
		return &refusal{
			status: http.StatusForbidden, outcome: refusedSignature, text: "the body is another account's",
			reason: "the body names account " + strconv.Quote(named) + ", the path " + strconv.Quote(in.account),
		}
	}
	return nil
}

// enterNamed enters the account that a genuine body names.
func (in *inspection) enterNamed(name string) *refusal {
	if no := in.enter(in.route, name); no != nil {
		if no.reason == "" {
			no.text, no.reason = "no such account", "the body names account "+strconv.Quote(name)+", which is unknown"
		}
		return no
	}
	if len(in.tenant.Keys()) > 0 {
		return &refusal{
			status: http.StatusForbidden, outcome: refusedSignature, text: "signature not accepted",
			reason: "account " + strconv.Quote(name) + " has secrets of its own, and takes only what is signed with them, at its own path",
		}
	}
	if in.captured() {
		return nil
	}
	return in.route.limits.take(time.Now(), name)
}

func (in *inspection) accountDetail() string { return strconv.Quote(in.account) }

// limits are the rates of accounts that send. Accounts come and go: what has
// its whole rate again is forgotten, since a new one would be the same.
type limits struct {
	rate provider.Rate

	mu    sync.Mutex // guards those below
	each  map[string]*rate.Limiter
	older map[string]*rate.Limiter // that were not used since next was set
	next  time.Time                // when those in older have their whole rate again
}

// newLimits returns nil where accounts have no rate.
func newLimits(l provider.Rate) *limits {
	if limiter(l) == nil {
		return nil
	}
	return &limits{rate: l, each: map[string]*rate.Limiter{}}
}

// forgetEvery is the shortest time after which limiters are forgotten.
const forgetEvery = time.Minute

// take takes one request from an account's rate.
func (l *limits) take(now time.Time, name string) *refusal {
	if l == nil || name == event.NoAccount {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.After(l.next) {
		l.older, l.each = l.each, map[string]*rate.Limiter{}
		l.next = now.Add(max(forgetEvery, l.rate.Per))
	}
	return takeFrom(l.find(name), now)
}

// find is an account's limiter; l.mu is held.
func (l *limits) find(name string) *rate.Limiter {
	one := l.each[name]
	if one != nil {
		return one
	}
	if one = l.older[name]; one == nil {
		one = limiter(l.rate)
	}
	delete(l.older, name)
	l.each[name] = one
	return one
}
