package api

import (
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// eventFilter is a filter that has been checked.
type eventFilter struct {
	*adminv1.EventFilter
	since, until time.Time
}

// newEventFilter checks a filter. A nil one chooses all.
func newEventFilter(f *adminv1.EventFilter) (eventFilter, error) {
	if f == nil {
		f = &adminv1.EventFilter{}
	}
	out := eventFilter{EventFilter: f}
	err := short(map[string]string{
		"filter.source": f.GetSource(), "filter.account": f.GetAccount(), "filter.type": f.GetType(), "filter.resource": f.GetResource(),
		"filter.record_id": f.GetRecordId(), "filter.id": f.GetId(),
	})
	if err != nil {
		return out, err
	}
	if out.since, err = moment("filter.since", f.GetSince()); err != nil {
		return out, err
	}
	if out.until, err = moment("filter.until", f.GetUntil()); err != nil {
		return out, err
	}
	switch {
	case f.GetType() != "" && !typePattern(f.GetType()):
		return out, invalid("filter.type", wantType)
	case f.GetUntil() != nil && f.GetSince() != nil && !out.since.Before(out.until):
		return out, invalid("filter.until", "later than since")
	}
	for _, s := range f.GetStatus() {
		if _, known := adminv1.EventStatus_name[int32(s)]; !known || s == 0 {
			return out, invalid("filter.status", "statuses of the contract")
		}
	}
	for _, o := range f.GetOrigin() {
		if o.Descriptor().Values().ByNumber(o.Number()) == nil || o == 0 {
			return out, invalid("filter.origin", "origins of the contract")
		}
	}
	return out, nil
}

const wantType = `a type, in which "*" stands for one part between dots and ">" at the end for one or more`

// typePattern reports whether wildcards stand where they have a meaning.
func typePattern(p string) bool {
	parts := strings.Split(p, ".")
	for i, part := range parts {
		if part == ">" && i != len(parts)-1 {
			return false
		}
	}
	return true
}

// byRecord says that enriched events are looked at, not triggers.
func (f eventFilter) byRecord() bool { return f.GetResource() != "" || f.GetRecordId() != "" }

// place is the stream to look at, and its subjects.
func (f eventFilter) place() (stream string, subjects []string) {
	stream, prefix := topology.StreamRaw, event.PrefixRaw
	if f.byRecord() {
		stream, prefix = topology.StreamEnriched, event.PrefixEnriched
	}
	return stream, f.subjects(prefix)
}

// subjects are those below a prefix that hold all that is chosen and not much
// else.
func (f eventFilter) subjects(prefix string) []string {
	source, account := "*", "*"
	if f.GetSource() != "" {
		source = event.Escape(f.GetSource())
	}
	if f.GetAccount() != "" {
		account = event.AccountToken(f.GetAccount())
	}
	return []string{prefix + "." + source + "." + account + "." + typeSubject(f.GetType())}
}

// Bounds of a pattern as subject tokens, under those where long types are cut.
const (
	maxPatternParts = 10
	maxPatternBytes = 200
)

// typeSubject is a pattern of types as subject tokens.
func typeSubject(pattern string) string {
	if pattern == "" || len(pattern) > maxPatternBytes {
		return ">"
	}
	parts := strings.Split(pattern, ".")
	if len(parts) > maxPatternParts {
		return ">"
	}
	for i, p := range parts {
		if p != "*" && p != ">" {
			parts[i] = event.Escape(p)
		}
	}
	if tokens := strings.Join(parts, "."); len(tokens) <= maxPatternBytes {
		return tokens
	}
	return ">"
}

// chooses holds an event against all of the filter but its status and times.
func (f eventFilter) chooses(e event.Event) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(f.GetSource(), e.Source) && is(f.GetAccount(), e.Account) && is(f.GetResource(), e.Resource) && is(f.GetRecordId(), e.RecordID) &&
		(f.GetId() == "" || f.GetId() == e.ID || f.GetId() == e.DeliveryID) &&
		(f.GetType() == "" || event.Match(f.GetType(), e.Type)) &&
		(len(f.GetOrigin()) == 0 || slices.Contains(f.GetOrigin(), origin(e.Origin)))
}

// within holds a message's time against the filter.
func (f eventFilter) within(t time.Time) bool {
	return (f.since.IsZero() || !t.Before(f.since)) && (f.until.IsZero() || t.Before(f.until))
}

// hasStatus holds what became of an event against the filter.
func (f eventFilter) hasStatus(s adminv1.EventStatus) bool {
	return len(f.GetStatus()) == 0 || slices.Contains(f.GetStatus(), s)
}
