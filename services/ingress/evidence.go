package ingress

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/provider"
)

// evidence is what of a source's requests is kept beside their bodies, so that
// they can be checked again: see [event.Received].
type evidence struct {
	names    []string // of headers that checks look at
	withheld []string // of those, what must not be stored
	query    bool     // the URL's is signed
	more     bool     // requests say themselves which headers they sign
}

func newEvidence(src *provider.Source) evidence {
	may := looksAt(src)
	if src.Redact.Stored {
		for _, name := range src.Redact.Headers() {
			may[http.CanonicalHeaderKey(name)] = false
		}
	}
	e := evidence{query: src.Verifier().NeedsURL(), more: src.Verifier().NamesHeaders()}
	for name, stored := range may {
		if stored && !never[name] {
			e.names = append(e.names, name)
		} else {
			e.withheld = append(e.withheld, name)
		}
	}
	slices.Sort(e.names)
	slices.Sort(e.withheld)
	return e
}

// looksAt are the headers that the source's checks look at, and of each whether
// its value may be shown.
func looksAt(src *provider.Source) map[string]bool {
	may := src.Verifier().Reads()
	for name := range expressed(src) {
		if _, known := may[name]; !known {
			may[name] = true
		}
	}
	return may
}

// expressed are the headers that an event's attributes are found in.
func expressed(src *provider.Source) map[string]bool {
	names := map[string]bool{}
	for _, e := range slices.Concat(src.Event.ID, src.Event.Type, src.Event.Account, src.Event.Time) {
		for name := range e.Headers() {
			names[http.CanonicalHeaderKey(name)] = true
		}
	}
	return names
}

// keep returns what is kept of a request.
func (e *evidence) keep(in *inspection) string {
	query := ""
	if e.query {
		query = in.request.URL.RawQuery
	}
	b := event.AppendAddress(in.text[:0], in.pathNames, query)
	header := in.request.Header
	for _, name := range e.names {
		b = event.AppendReceived(b, name, header[name])
	}
	for _, name := range e.withheld {
		if len(header[name]) > 0 {
			b = event.AppendWithheld(b, name)
		}
	}
	if e.more {
		for _, name := range in.route.source.Verifier().ReadsMore(header) {
			switch {
			case slices.Contains(e.names, name), slices.Contains(e.withheld, name):
			case never[name]:
				b = event.AppendWithheld(b, name)
			default:
				b = event.AppendReceived(b, name, header[name])
			}
		}
	}
	in.text = b
	return event.ReceivedText(b)
}

// newVerdict is what the checks of a source's requests find in all of them.
func newVerdict(r *route) event.Checked {
	src := r.source
	v := event.Checked{
		Scheme: string(src.Verify.Algorithm), Tolerance: src.Verifier().Tolerance(), Origin: event.OriginAny, Body: event.BodyAny,
		ID: event.IDUnsigned,
	}
	if r.origin != nil {
		v.Origin = event.OriginAllowed
	}
	if r.needsJSON {
		v.Body = event.BodyJSON
	}
	if !src.Request.Schemas.IsZero() {
		v.Schema = event.SchemaMatched
	}
	switch {
	case src.Event.Repeats == provider.RepeatsNever:
		v.ID = event.IDOwn
	case len(src.Event.ID) == 0:
		v.ID = event.IDBody
	case r.idSigned:
		v.ID = event.IDSigned
	}
	return v
}

// note notes in the events what is to be kept of the request and of its checks.
func (in *inspection) note(host string) {
	v := in.route.verdict
	v.Took, v.Read, v.By = time.Since(in.began), in.read, host
	v.Key = in.keyName()
	if v.Tolerance > 0 {
		v.Age = in.now.Sub(in.match.SignedAt)
	}
	in.kept = in.route.evidence.keep(in)
	if in.isWhole() && !in.isKept() {
		in.items[0].event.Received = in.kept
	}
	all := ""
	for i := range in.items {
		it := &in.items[i]
		if it.stray == "" && !(v.ID == event.IDUnsigned && it.event.DeliveryID == "") {
			if all == "" {
				in.text = v.Append(in.text[:0])
				all = string(in.text)
			}
			it.event.Checked = all
			continue
		}
		own := v
		if it.stray != "" {
			own.Schema = it.stray
		}
		if it.event.DeliveryID == "" {
			own.ID = event.IDBody
		}
		it.event.Checked = own.String()
	}
}

// keyName names the secret that the signature was made with, as operators know
// it; it is "" where the source's requests are under none.
func (in *inspection) keyName() string {
	secrets := in.route.source.Secrets
	if in.tenant != nil && len(in.tenant.Keys()) > 0 {
		secrets = in.tenant.Secrets
	}
	i := in.match.Key
	if i < 0 || i >= len(secrets) {
		return ""
	}
	if ref := secrets[i].Ref(); ref != "" {
		return ref
	}
	return strconv.Itoa(i + 1)
}
