package ingress

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/ingress/internal/keyring"
)

// route is one source with what can be known of it before any request.
type route struct {
	name      string
	source    *provider.Source
	needsJSON bool
	paths     []field.Path // into the body, to an event's attributes
	idSigned  bool
	bodyIsKey bool            // the body alone tells repeats
	signsForm bool            // a form's signature is of its fields
	listed    bool            // events are sent in from the source's list under ids of their own
	horizon   time.Duration   // how late a repeat is told, beyond the dedup window; 0 is not at all
	window    time.Duration   // the stream's dedup window
	limiter   *rate.Limiter   // nil where the source has no limit
	accounts  *account.Table  // nil where the source has none
	bodyNames bool            // a path without an account will do, since the body names it
	limits    *limits         // nil where accounts have no rate
	refused   refused         // what was said of refusals
	strayed   seldom          // how often events that don't match their schema are worth a line
	origin    *origin         // nil where it may send from anywhere
	span      string          // what a request's span is called
	evidence  evidence        // what of requests is kept beside their bodies
	expressed map[string]bool // headers that an event's attributes are found in
	verdict   event.Checked   // what is the same in all verdicts

	ring    *keyring.Ring // nil where the sender's keys are the secrets
	visitor *http.Client  // nil where no handshake wants it

	handshakes map[string]handshakes // by method
	forms      bool                  // a handshake is a form, whatever events are
	allow      string                // the methods, for Allow
	brought    seldom                // how often secrets that handshakes bring are worth a line

	taken load // of the service's room, which guards it
}

func newRoute(name string, source provider.Source, accounts *account.Table) (*route, error) {
	if !provider.Name.MatchString(name) {
		return nil, fmt.Errorf("source %q: want a name of lower-case letters, digits, - and _, at most 63", name)
	}
	// Without a key nothing could be told genuine. That must never mean that
	// everything is.
	if source.Verifier() == nil {
		return nil, fmt.Errorf("source %s: no signature scheme", name)
	}
	keyed := !source.Verifier().NeedsKey() || len(source.Keys()) > 0
	if !keyed && !source.Accounts.Live() { // whose entries have them
		return nil, fmt.Errorf("source %s: no secret", name)
	}
	r := &route{name: name, span: "receive " + name, source: &source, needsJSON: source.NeedsJSON(), idSigned: source.IDSigned(), bodyIsKey: source.SameBodySameEvent(), signsForm: source.Verifier().SignsForm()}
	r.listed = source.Events != nil && !r.idSigned
	for _, e := range slices.Concat(source.Event.Type, source.Event.ID, source.Event.Time) {
		r.paths = slices.AppendSeq(r.paths, e.Paths("body"))
	}
	r.origin = newOrigin(name, source.Origin)
	r.setHandshakes()
	r.limiter, r.limits = limiter(source.Limit), newLimits(source.AccountLimit)
	r.evidence, r.expressed, r.verdict = newEvidence(r.source), expressed(r.source), newVerdict(r)
	r.accounts, r.bodyNames = accounts, keyed && len(source.Event.Account) > 0
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
	r.verdict.Window, r.verdict.Horizon = r.window, r.horizon
}
