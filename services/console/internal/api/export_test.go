package api

import (
	"google.golang.org/protobuf/proto"

	"github.com/tercelhq/tercel/pkg/event"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// Filter is a checked filter, for fuzzing.
type Filter struct{ f eventFilter }

// NewFilter checks a filter.
func NewFilter(f *adminv1.EventFilter) (Filter, error) {
	out, err := newEventFilter(f)
	return Filter{out}, err
}

// Chooses reports whether the filter chooses an event.
func (f Filter) Chooses(e event.Event) bool { return f.f.chooses(e) }

// Subjects are those that hold what the filter chooses.
func (f Filter) Subjects(prefix string) []string { return f.f.subjects(prefix) }

// NextPage is the token of a page.
func NextPage(req *adminv1.ListEventsRequest, before uint64) string { return nextPage(req, before) }

// Page reads a page's token.
func Page(req *adminv1.ListEventsRequest) (before uint64, size int, err error) { return page(req) }

// Recorded is a message as an audit record has it.
func Recorded(m proto.Message) string { return recorded(m) }

// Cut is a text as an audit record has it.
func Cut(text string) string { return cut(text) }

// SlowGroups has all groups of letters taken for such as take long to make.
func SlowGroups(a *API) { a.groups.slow = 0 }

// Changes are what differs between two JSON texts.
func Changes(before, after []byte) ([]*adminv1.PayloadChange, bool) { return changes(before, after) }
