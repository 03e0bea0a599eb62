package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/lookback"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

// listFor bounds the time that one page takes to find, so that a call answers
// well within its own bound. What is behind comes with the next page.
const listFor = 10 * time.Second

// ListEvents lists one page of events, the newest first.
func (s events) ListEvents(ctx context.Context, req *connect.Request[adminv1.ListEventsRequest]) (*connect.Response[adminv1.ListEventsResponse], error) {
	f, err := newEventFilter(req.Msg.GetFilter())
	if err != nil {
		return nil, err
	}
	before, size, err := page(req.Msg)
	if err != nil {
		return nil, err
	}
	l := &listing{API: s.API, ctx: ctx, filter: f, size: size, until: time.Now().Add(listFor), resp: &adminv1.ListEventsResponse{}}
	if l.view, err = s.deps.Index.View(ctx); err != nil {
		return nil, err
	}
	if f.GetId() != "" || f.GetRecordId() != "" {
		err = l.find(before)
	} else {
		err = l.look(before)
	}
	if err != nil {
		return nil, err
	}
	l.resp.NextPageToken = nextPage(req.Msg, l.next)
	return connect.NewResponse(l.resp), nil
}

// listing is a page that is being filled.
type listing struct {
	*API
	ctx    context.Context // the call's, since callbacks have none
	filter eventFilter
	size   int
	until  time.Time
	view   *timeline.View // by which all of the page are told
	resp   *adminv1.ListEventsResponse
	next   uint64
}

// look goes back through the stream.
func (l *listing) look(before uint64) error {
	stream, subjects := l.filter.place()
	var failed error
	next, err := lookback.Read(l.ctx, l.js, lookback.Options{
		Stream: stream, Subjects: subjects, HeadersOnly: true, Before: before, Since: l.filter.since, Until: l.filter.until,
	}, func(m consume.Message) bool {
		l.resp.SearchedBackTo = stamp(m.StoredAt)
		var more bool
		more, failed = l.add(m.Stream, m.Sequence, m.StoredAt, m.Header)
		return more
	})
	if failed != nil {
		return failed
	}
	l.next = next
	return err
}

// find asks the index, which has no more than 200 messages of an id.
func (l *listing) find(before uint64) error {
	q := timeline.Query{ID: l.filter.GetId(), Source: l.filter.GetSource(), Account: l.filter.GetAccount(), Resource: l.filter.GetResource()}
	if q.ID == "" {
		q.ID, q.By = l.filter.GetRecordId(), timeline.ByRecord
	} else {
		q.Resource = "" // triggers have none
	}
	found, err := l.deps.Index.Find(l.ctx, q)
	if err != nil {
		return err
	}
	for _, c := range found.Coverage {
		if c.Behind() && len(found.Messages) == 0 {
			return missing(q.ID, found.Coverage)
		}
	}
	stream, subjects := l.filter.place()
	prefix := strings.Join(strings.Split(subjects[0], ".")[:2], ".") + "."
	for _, m := range slices.Backward(found.Messages) {
		if m.Stream != stream || !strings.HasPrefix(m.Subject, prefix) || before > 0 && m.Sequence >= before || !l.filter.within(m.StoredAt) {
			continue
		}
		more, err := l.add(m.Stream, m.Sequence, m.StoredAt, m.Header)
		if err != nil {
			return err
		}
		if !more {
			l.next = m.Sequence
			break
		}
	}
	return nil
}

// add puts an event on the page, if the filter chooses it, and reports whether
// another may be looked at.
func (l *listing) add(stream string, sequence uint64, at time.Time, h nats.Header) (more bool, err error) {
	e, err := event.FromHeader(h)
	if err != nil { // written by something else
		return true, nil
	}
	if l.filter.chooses(e) {
		t, err := traceIn(l.ctx, l.view, e)
		if err != nil {
			return false, err
		}
		state := status(t.State)
		if state == adminv1.EventStatus_EVENT_STATUS_UNSPECIFIED && t.Behind() && len(l.filter.GetStatus()) > 0 {
			return false, fail(connect.CodeUnavailable, adminv1.Reason_REASON_INDEX_BEHIND,
				"event %q: its status isn't known before the index of messages has read on", e.ID)
		}
		if l.filter.hasStatus(state) {
			l.resp.Events = append(l.resp.Events, &adminv1.Event{
				Attributes: attributes(e), Status: state, Position: position(stream, sequence), StoredAt: stamp(at),
			})
		}
	}
	return len(l.resp.GetEvents()) < l.size && time.Now().Before(l.until), nil
}
