package timeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Bounds of one question.
const (
	defaultEvents = 20
	maxEvents     = 200
	// maxMessages is how many messages of one stream are read for one id.
	maxMessages = 200
	// maxRead is how many are read at all.
	maxRead = 2000
	// readers is how many are read at once.
	readers = 8
)

// Message is one that speaks of what was asked for.
type Message struct {
	Stream   string
	Sequence uint64
	StoredAt time.Time
	Subject  string
	Header   nats.Header
	Data     []byte
	// Event has its attributes, as far as they can be read. A report and a refused
	// request have none.
	Event event.Event
}

// Found is what [Index.Find] has found.
type Found struct {
	// Messages are ordered by stream, from the triggers to the reports, and by
	// sequence.
	Messages []Message
	// More says that there are older ones, which were left out.
	More bool
	// Coverage is how far the index knows the streams.
	Coverage []Coverage
}

// Find returns every message that speaks of an id, in whatever stream it is.
// Each was read, and does; there are none that the stream no longer has. At
// most 200 messages of a stream are returned, the newest.
func (x *Index) Find(ctx context.Context, q Query) (Found, error) {
	var f Found
	var err error
	if f.Coverage, err = x.Coverage(ctx); err != nil {
		return Found{}, err
	}
	r := reader{x: x, read: map[place]Message{}}
	if err := r.lookUp(ctx, q.ID); err != nil {
		return Found{}, err
	}
	f.More = r.more
	for _, m := range r.messages() {
		if q.is(m) {
			f.Messages = append(f.Messages, m)
		}
	}
	return f, nil
}

// Reports returns the reports of a reconciliation run, of which there is one unless
// it was stored twice, the oldest first. It is not all of them, and says so, while
// the index doesn't know their whole stream.
func (x *Index) Reports(ctx context.Context, run string) (found []report.Report, all bool, err error) {
	s := streams[slices.IndexFunc(streams, func(s indexed) bool { return s.name == topology.StreamReports })]
	c, err := x.coverage(ctx, s, time.Now().Add(patience))
	if err != nil {
		return nil, false, err
	}
	r := reader{x: x, read: map[place]Message{}}
	if err := r.lookUp(ctx, run, s.name); err != nil {
		return nil, false, err
	}
	for _, m := range r.messages() {
		rep, ok := reportOf(m)
		of := topology.PrefixReports + "." + event.Escape(rep.Source) + "." + event.Escape(rep.Resource)
		if ok && rep.Run == run && m.Subject == of { // what is found out later about a report stands beside it
			found = append(found, rep)
		}
	}
	return found, !c.Behind() && !r.more, nil
}

// is reports whether a message speaks of what q asks for.
func (q Query) is(m Message) bool {
	if r, ok := reportOf(m); ok {
		return q.isReport(r)
	}
	if r, ok := refusedIn(m); ok {
		return q.isRefused(r)
	}
	e := m.Event
	switch {
	case q.Source != "" && q.Source != e.Source, q.Account != "" && q.Account != e.Account,
		q.Resource != "" && e.Resource != "" && q.Resource != e.Resource:
		return false
	}
	ofEvent, ofDelivery := q.ID == e.ID || q.ID == wholeID(e), q.ID == e.DeliveryID
	ofRecord := q.ID == e.RecordID
	switch q.By {
	case ByEvent:
		return ofEvent
	case ByDelivery:
		return ofDelivery
	case ByRecord:
		return ofRecord
	default:
		return ofEvent || ofDelivery || ofRecord
	}
}

// place is where a message is stored, and the consumer that it is there for, if
// that matters.
type place struct {
	stream, consumer string
	sequence         uint64
}

// reader reads the messages of a question, each once.
type reader struct {
	x    *Index
	read map[place]Message
	more bool
}

// lookUp reads the messages that speak of texts, of some streams or of all.
func (r *reader) lookUp(ctx context.Context, text string, from ...string) error {
	var group errgroup.Group
	group.SetLimit(readers)
	results := map[place]*Message{}
	for _, s := range streams {
		if len(from) > 0 && !slices.Contains(from, s.name) {
			continue
		}
		sequences, more, err := r.x.shelves[s.name].find(text, maxMessages)
		if err != nil {
			return err
		}
		r.more = r.more || more
		for _, seq := range sequences {
			at := place{stream: s.name, sequence: seq}
			if _, known := r.read[at]; known {
				continue
			}
			if len(r.read)+len(results) >= maxRead {
				r.more = true
				break
			}
			m := new(Message)
			results[at] = m
			group.Go(func() (err error) {
				*m, err = r.x.get(ctx, at)
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for at, m := range results {
		if m.Sequence > 0 {
			r.read[at] = *m
		}
	}
	return nil
}

// messages returns what was read, in the order of the streams and sequences.
func (r *reader) messages() []Message {
	rank := map[string]int{}
	for i, s := range streams {
		rank[s.name] = i
	}
	all := make([]Message, 0, len(r.read))
	for _, m := range r.read {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Message) int {
		return cmp.Or(cmp.Compare(rank[a.Stream], rank[b.Stream]), cmp.Compare(a.Sequence, b.Sequence))
	})
	return all
}

// get reads a message; one that is gone is the zero Message.
func (x *Index) get(ctx context.Context, at place) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := x.handle(ctx, at.stream)
	if err != nil {
		return Message{}, err
	}
	raw, err := stream.GetMsg(ctx, at.sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Message{}, nil
	}
	if err != nil {
		return Message{}, fmt.Errorf("read %s %d: %w", at.stream, at.sequence, err)
	}
	m := Message{
		Stream: at.stream, Sequence: raw.Sequence, StoredAt: raw.Time, Subject: raw.Subject, Header: raw.Header, Data: raw.Data,
	}
	m.Event, _ = event.FromHeader(raw.Header) // as much as can be read of it
	return m, nil
}

// handle is a stream, asked for once.
func (x *Index) handle(ctx context.Context, name string) (jetstream.Stream, error) {
	x.mu.Lock()
	stream := x.handles[name]
	x.mu.Unlock()
	if stream != nil {
		return stream, nil
	}
	stream, err := x.deps.JetStream.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.handles[name] = stream
	return stream, nil
}
