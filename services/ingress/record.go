package ingress

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/redact"
	kept "github.com/tercelhq/tercel/pkg/refusal"
)

// Bounds of what is kept of a refused request.
const (
	maxKeptValue   = 512
	maxKeptHeaders = 40
	maxKeptBody    = 64 << 10
)

// keepRefusal keeps a request that was refused, if it is one that whoever debugs
// a source wants to see. What failed here and not there isn't.
func (s *Service) keepRefusal(in *inspection, no *refusal, requestID string) {
	if no.outcome == unavailable || no.outcome == failed || in.route.source.Refused == provider.RefusedNothing {
		return
	}
	k := keeper{in: in, no: no, secrets: in.secrets(), shown: in.shown()}
	s.kept.Keep(k.record(requestID))
}

// shown is the request's body by the rules of its source, which speak of events. Of
// several their place in it may not be known yet, so that nothing of it is shown.
func (in *inspection) shown() redact.Shown {
	rules := in.route.source.Redact
	if in.isWhole() {
		return rules.Show(event.PrefixRaw+".", event.Event{}, in.body)
	}
	s := rules.Show(event.PrefixRequests+".", event.Event{}, in.body)
	for _, it := range in.items {
		s = s.With(rules.Show(event.PrefixRaw+".", event.Event{}, it.body))
	}
	return s
}

// keeper makes the record of a refused request.
type keeper struct {
	in      *inspection
	no      *refusal
	secrets []config.Secret
	shown   redact.Shown
}

func (k keeper) record(requestID string) kept.Record {
	in, no, src := k.in, k.no, k.in.route.source
	r := kept.Record{
		At: in.now, RequestID: requestID, Source: in.route.name, Account: k.text(in.account), ClaimedID: k.claimedID(),
		Status: no.status, Outcome: string(no.outcome), Check: no.check, Step: no.step, Reason: k.text(no.reason),
		Keys: k.keys(), Method: k.text(in.request.Method), Path: k.text(in.request.URL.Path),
		Body: k.body(), Steps: k.steps(),
	}
	if d := src.Verifier().Tolerance(); d > 0 {
		r.Tolerance = d.String()
	}
	if from, err := in.sender(); err == nil {
		r.From = from.String()
	}
	r.Header, r.Others = k.headers()
	return r
}

// text is a stranger's text without what is secret, bounded.
func (k keeper) text(text string) string {
	text = strings.ToValidUTF8(k.shown.Own(text), "\uFFFD")
	for _, s := range k.secrets { // one that was put into the wrong place is still one
		if v := s.Reveal(); len(v) >= shortestSecret {
			text = strings.ReplaceAll(text, v, redact.Mark)
		}
	}
	if len(text) <= maxKeptValue {
		return text
	}
	cut := maxKeptValue
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// shortestSecret is less than any secret is taken with.
const shortestSecret = 6

// secrets are all that the request might have been signed with.
func (in *inspection) secrets() []config.Secret {
	if in.tenant != nil && len(in.tenant.Secrets) > 0 {
		return slices.Concat(in.tenant.Secrets, in.route.source.Secrets)
	}
	return in.route.source.Secrets
}

// keys says what the signature was tried with.
func (k keeper) keys() []string {
	own, whose := k.in.route.source.Secrets, "secret"
	if k.in.tenant != nil && len(k.in.tenant.Keys()) > 0 {
		own, whose = k.in.tenant.Secrets, "secret of the account"
	}
	var names []string
	for i, s := range own {
		if ref := s.Ref(); ref != "" {
			names = append(names, ref)
		} else {
			names = append(names, fmt.Sprintf("%s %d", whose, i+1))
		}
	}
	return names
}

// claimedID is the id that the request says it has, or "".
func (k keeper) claimedID() string {
	in := k.in
	if len(in.items) == 1 && in.items[0].event.ID != "" {
		return in.items[0].event.ID
	}
	expr := in.route.source.Event.ID
	if !in.isWhole() || len(expr) == 0 || expr.Uses("body") && (len(in.body) > maxKeptBody || field.Valid(in.body) != nil) {
		return ""
	}
	id, err := in.attributeOfRequest(expr)
	if err != nil {
		return ""
	}
	return k.text(id)
}

// headers returns the headers that the source's checks look at, and the names of
// the others. No value of another one is kept, and none that is a secret itself.
func (k keeper) headers() (header map[string]string, others []string) {
	src := k.in.route.source
	may := looksAt(src)
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding", "Date", "User-Agent"} {
		if _, known := may[name]; !known {
			may[name] = true
		}
	}
	for _, name := range src.Redact.Headers() {
		may[http.CanonicalHeaderKey(name)] = false
	}
	header = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(k.in.request.Header)) {
		values := k.in.request.Header[name]
		shown, looked := may[name]
		switch {
		case len(header)+len(others) >= maxKeptHeaders:
			return header, append(others, "…")
		case !looked:
			others = append(others, k.text(name))
		case !shown || never[name]:
			header[name] = fmt.Sprintf("%s, %d bytes", redact.Mark, len(strings.Join(values, "")))
		default:
			header[name] = k.text(strings.Join(values, " | "))
		}
	}
	return header, others
}

// never are headers of which no value is kept, whatever looks at them.
var never = map[string]bool{"Authorization": true, "Proxy-Authorization": true, "Cookie": true}

func (k keeper) body() kept.Body {
	in := k.in
	b := kept.Body{Size: len(in.received)}
	if k.no.check == checkNameBody || in.received == nil {
		return b // not read to its end
	}
	sum := sha256.Sum256(in.received)
	b.SHA256, b.Shape = hex.EncodeToString(sum[:]), kept.ShapeOf(in.body)
	if in.route.source.Refused == provider.RefusedBody {
		b.Text = strings.ToValidUTF8(string(k.shown.Payload[:min(len(k.shown.Payload), maxKeptBody)]), "\uFFFD")
	}
	return b
}

// steps are the checks as [Explain] tells them.
func (k keeper) steps() []kept.Step {
	ex := explainer{in: k.in, route: k.in.route, inside: k.in.checksInside()}
	passed := slices.Concat(doorChecks, ex.inside)
	at := slices.IndexFunc(passed, func(c check) bool { return c.name == k.no.check })
	if at < 0 {
		return nil
	}
	for _, c := range passed[:at] {
		ex.passed(c)
	}
	ex.failed(k.no)
	ex.notReached()
	steps := make([]kept.Step, len(ex.Steps))
	for i, s := range ex.Steps {
		steps[i] = kept.Step{Name: s.Name, Result: string(s.Result), Detail: k.text(s.Detail)}
	}
	return steps
}
