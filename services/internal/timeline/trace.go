package timeline

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/outcome"
	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/pkg/refusal"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Trace returns the timeline of what q asks for. Nothing found is no error: the
// timeline has no events then, and its Coverage says whether that means anything.
// It changes nothing, and takes some milliseconds plus one for each message.
func (x *Index) Trace(ctx context.Context, q Query) (Timeline, error) {
	v, err := x.View(ctx)
	if err != nil {
		return Timeline{}, err
	}
	return v.Trace(ctx, q)
}

// View is where every stage was at one moment, for the timelines of many events at
// the price of one. It is safe for concurrent use.
type View struct {
	x *Index
	stages
	rules    redact.Set
	coverage []Coverage
}

// View looks at the stages, which takes some milliseconds.
func (x *Index) View(ctx context.Context) (*View, error) {
	v := &View{x: x, rules: x.deps.Redact}
	// In this order, and before the messages of an event are read, what moves
	// meanwhile is seen twice rather than not at all.
	var err error
	if v.stages, err = x.stages(ctx); err != nil {
		return nil, err
	}
	if v.rules == nil {
		v.rules = redact.FromConsumers(slices.Collect(maps.Values(v.consumers)))
	}
	if v.coverage, err = x.Coverage(ctx); err != nil {
		return nil, err
	}
	return v, nil
}

// behind reports whether the index has yet to read some of the named streams.
func (v *View) behind(names ...string) bool {
	return slices.ContainsFunc(v.coverage, func(c Coverage) bool { return c.Behind() && slices.Contains(names, c.Stream) })
}

// Trace is [Index.Trace] with the stages where they were at the time of the view.
func (v *View) Trace(ctx context.Context, q Query) (Timeline, error) {
	if q.ID == "" {
		return Timeline{}, errors.New("timeline: no id")
	}
	t := &tracer{View: v, q: q, reader: reader{x: v.x, read: map[place]Message{}}, letters: map[place]deadletter.Letter{}}
	t.out = Timeline{ID: q.ID, Events: []Event{}, Entries: []Entry{}, Coverage: slices.Clone(v.coverage)}
	for _, step := range []func(context.Context) error{t.find, t.findAround, t.readLetters} {
		if err := step(ctx); err != nil {
			return Timeline{}, err
		}
	}
	t.readTries()
	t.tell()
	return t.out, nil
}

// tracer makes one timeline.
type tracer struct {
	*View
	q Query
	reader

	ways    []*way // the oldest first
	letters map[place]deadletter.Letter
	tries   map[place][]outcome.Record
	all     []Message // once everything is read
	out     Timeline
}

// way is one event on its way.
type way struct {
	key
	newest   time.Time // of the messages by which it was found
	byRecord bool      // only the record's part of it is wanted
	event    Event

	waiting, dead, dropped, enriched int
	// The last message of each passage that got through it, whose dead letter was
	// discarded, or that was given up without one.
	through, discarded, givenUp map[passage]uint64
}

// passage is an event's way through one stage. What is sent again takes the same
// one, the parts of an event have their own.
type passage struct{ consumer, id string }

// lost reports whether one of the messages in stopped is lost: nothing that was
// sent since got through its passage.
func (w *way) lost(stopped map[passage]uint64) bool {
	for p, sequence := range stopped {
		if sequence > w.through[p] {
			return true
		}
	}
	return false
}

// key is what an event is known by: ids are the providers' own.
type key struct{ source, account, id string }

func keyOf(e event.Event) key { return key{e.Source, e.Account, wholeID(e)} }

// find finds the events.
func (t *tracer) find(ctx context.Context) error {
	if err := t.lookUp(ctx, t.q.ID); err != nil {
		return err
	}
	ways := map[key]*way{}
	for _, m := range t.messages() {
		e := m.Event
		if !t.q.is(m) || e.ID == "" || strings.HasPrefix(m.Subject, event.PrefixRequests+".") {
			continue
		}
		k := keyOf(e)
		w := ways[k]
		if w == nil {
			w = &way{
				key: k, byRecord: true, through: map[passage]uint64{}, discarded: map[passage]uint64{}, givenUp: map[passage]uint64{},
			}
			ways[k] = w
			t.ways = append(t.ways, w)
		}
		if m.StoredAt.After(w.newest) {
			w.newest = m.StoredAt
		}
		w.byRecord = w.byRecord && t.q.ID == e.RecordID && t.q.ID != e.ID && t.q.ID != k.id && t.q.ID != e.DeliveryID
	}
	most := t.q.Events
	if most <= 0 {
		most = defaultEvents
	}
	slices.SortStableFunc(t.ways, func(a, b *way) int { return a.newest.Compare(b.newest) })
	if most = min(most, maxEvents); len(t.ways) > most {
		t.ways, t.more = t.ways[len(t.ways)-most:], true
	}
	return nil
}

// findAround reads what else there is of the events that were found, and of
// their records.
func (t *tracer) findAround(ctx context.Context) error {
	for _, w := range t.ways {
		if err := t.lookUp(ctx, w.id, eventStreams...); err != nil {
			return err
		}
	}
	around := map[string][]string{} // by text, the streams
	for _, m := range t.messages() {
		if t.wayOf(m) == nil {
			continue
		}
		for id, stream := range map[string]string{
			m.Event.Request: topology.StreamRaw, m.Event.RecordID: topology.StreamReports, m.Event.DeliveryID: topology.StreamRefused,
		} {
			if id != "" && !slices.Contains(around[id], stream) {
				around[id] = append(around[id], stream)
			}
		}
	}
	for text, from := range around {
		if err := t.lookUp(ctx, text, from...); err != nil {
			return err
		}
	}
	t.out.More, t.all = t.more, t.messages()
	return nil
}

// eventStreams have an event's own messages.
var eventStreams = []string{topology.StreamRaw, topology.StreamEnriched, topology.StreamDLQ, topology.StreamOutcomes}

// wayOf returns the event that a message is of, if it is one of those wanted.
func (t *tracer) wayOf(m Message) *way {
	if m.Event.ID == "" {
		return nil
	}
	k := keyOf(m.Event)
	for _, w := range t.ways {
		if w.key == k && (!w.byRecord || m.Event.RecordID == "" || m.Event.RecordID == t.q.ID) {
			return w
		}
	}
	return nil
}

// readLetters reads what became of the dead letters that were found.
func (t *tracer) readLetters(ctx context.Context) error {
	for _, m := range t.all {
		if m.Stream != topology.StreamDLQ || t.wayOf(m) == nil {
			continue
		}
		l, err := deadletter.Get(ctx, t.View.x.deps.JetStream, m.Sequence)
		if errors.Is(err, deadletter.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		l = l.Redacted(t.rules)
		t.letters[place{l.Stream, l.Consumer, l.OriginalSequence}] = l
	}
	return nil
}

// readTries reads what is noted of tries.
func (t *tracer) readTries() {
	t.tries = map[place][]outcome.Record{}
	for _, m := range t.all {
		if m.Stream != topology.StreamOutcomes || t.wayOf(m) == nil {
			continue
		}
		if r, err := outcome.Decode(m.Data); err == nil {
			at := place{r.Stream, r.Consumer, r.Sequence}
			t.tries[at] = append(t.tries[at], r)
		}
	}
}

// records returns the records that the events speak of.
func (t *tracer) records() map[recordKey]bool {
	all := map[recordKey]bool{}
	for _, m := range t.all {
		if e := m.Event; e.RecordID != "" && t.wayOf(m) != nil {
			all[recordKey{e.Source, e.Account, e.Resource, e.RecordID}] = true
		}
	}
	return all
}

type recordKey struct{ source, account, resource, id string }

// reportOf returns the reconciliation report that a message is.
func reportOf(m Message) (report.Report, bool) {
	if m.Stream != topology.StreamReports {
		return report.Report{}, false
	}
	r, err := report.Decode(m.Data)
	return r, err == nil
}

// refusedIn returns the refused request that a message is.
func refusedIn(m Message) (refusal.Record, bool) {
	if m.Stream != topology.StreamRefused {
		return refusal.Record{}, false
	}
	r, err := refusal.Decode(m.Data)
	return r, err == nil
}

// isRefused reports whether a refused request has the id that q asks for, by its
// own word or by that of its answer.
func (q Query) isRefused(r refusal.Record) bool {
	if q.Source != "" && q.Source != r.Source || q.Account != "" && q.Account != r.Account || q.Resource != "" {
		return false
	}
	return q.By != ByRecord && (q.ID == r.ClaimedID || q.ID == r.RequestID)
}

// isReport reports whether a report names what q asks for.
func (q Query) isReport(r report.Report) bool {
	if q.Source != "" && q.Source != r.Source || q.Account != "" && q.Account != r.Account || q.Resource != "" && q.Resource != r.Resource {
		return false
	}
	return (q.By == Any || q.By == ByRecord) &&
		slices.ContainsFunc(r.Records, func(rec report.Record) bool { return rec.ID == q.ID })
}

// TraceID is the trace in a message's W3C traceparent, which is
// version-traceid-spanid-flags, or "".
func TraceID(h nats.Header) string {
	parts := strings.Split(h.Get(event.HeaderTraceParent), "-")
	if len(parts) != 4 || len(parts[1]) != 32 {
		return ""
	}
	return parts[1]
}
