package ingress

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/topology"
)

// route is one source with what can be known of it before any request.
type route struct {
	name      string
	source    *provider.Source
	needsJSON bool
	idSigned  bool
	bodyIsKey bool          // the body alone tells repeats
	horizon   time.Duration // how late a repeat is told, beyond the dedup window; 0 is not at all
	window    time.Duration // the stream's dedup window
	limiter   *rate.Limiter // nil where the source has no limit
	accounts  map[string]*rate.Limiter
	origin    *origin // nil where it may send from anywhere
	taken     load    // of the service's room, which guards it
	span      string  // what a request's span is called

	handshakes map[string]handshakes // by method
	forms      bool                  // a handshake is a form, whatever events are
	allow      string                // the methods, for Allow
	brought    seldom                // how often secrets that handshakes bring are worth a line
}

func newRoute(name string, source provider.Source) (*route, error) {
	if !provider.Name.MatchString(name) {
		return nil, fmt.Errorf("source %q: want a name of lower-case letters, digits, - and _, at most 63", name)
	}
	// Without a key nothing could be told genuine. That must never mean that
	// everything is.
	if source.Verifier() == nil || source.Verifier().NeedsKey() && len(source.Keys()) == 0 {
		return nil, fmt.Errorf("source %s: no signature scheme or no secret", name)
	}
	r := &route{name: name, span: "receive " + name, source: &source, needsJSON: source.NeedsJSON(), idSigned: source.IDSigned(), bodyIsKey: source.SameBodySameEvent()}
	r.origin = newOrigin(name, source.Origin)
	r.setHandshakes()
	r.limiter, r.accounts = limiter(source.Limit), map[string]*rate.Limiter{}
	for _, account := range source.Accounts.Names {
		r.accounts[account] = limiter(source.AccountLimit)
	}
	return r, nil
}

// limiter returns nil where there is no limit.
func limiter(l provider.Rate) *rate.Limiter {
	if l.Requests < 1 || l.Per <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(float64(l.Requests)/l.Per.Seconds()), l.Requests)
}

// boundHorizon sets the route's horizon. Beyond the age at which messages are
// removed nothing could be confirmed, and within the dedup window nothing needs
// to be.
func (r *route) boundHorizon(streams topology.Config) {
	r.window, r.horizon = streams.DedupWindow, r.source.Dedup.Horizon
	if most := streams.Raw.MaxAge; most > 0 {
		r.horizon = min(r.horizon, most)
	}
	if r.horizon <= r.window {
		r.horizon = 0
	}
}

// find returns the route and the account that a request's path names. Paths
// are compared as they were sent: there is one way to write each, and nothing
// is cleaned or redirected.
func find(routes map[string]*route, path string) (*route, string, bool) {
	rest, ok := strings.CutPrefix(path, "/v1/")
	name, account, named := strings.Cut(rest, "/")
	r := routes[name]
	// An account that is not reconciled takes nothing in, so a source with
	// accounts needs one.
	if !ok || r == nil || named && !slices.Contains(r.source.Accounts.Names, account) || !named && !r.source.Accounts.IsZero() {
		return nil, "", false
	}
	if !named {
		account = event.NoAccount
	}
	return r, account, true
}
