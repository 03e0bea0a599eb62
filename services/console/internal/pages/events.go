package pages

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// shownBytes is how much of a payload a page shows.
const shownBytes = 64 << 10

// eventsPage is a search for events.
type eventsPage struct {
	Form   eventForm
	Events []*adminv1.Event
	Next   string // the address of the next page, or ""
	Back   *timestamppb.Timestamp
}

// eventForm is what was searched for, as it was filled in.
type eventForm struct {
	ID, Record, Source, Account, Type, Resource, Status, Since string
}

// spans are the choices of how far back a search goes.
var spans = map[string]time.Duration{"1h": time.Hour, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour}

var eventStatuses = map[string]adminv1.EventStatus{
	"pending": adminv1.EventStatus_EVENT_STATUS_PENDING, "delivered": adminv1.EventStatus_EVENT_STATUS_DELIVERED,
	"dead letter": adminv1.EventStatus_EVENT_STATUS_DEAD_LETTER, "dropped": adminv1.EventStatus_EVENT_STATUS_DROPPED,
	"discarded": adminv1.EventStatus_EVENT_STATUS_DISCARDED,
}

func readEventForm(r *request) (eventForm, *adminv1.EventFilter, error) {
	get := func(name string) string { return strings.TrimSpace(r.FormValue(name)) }
	f := eventForm{
		get("id"), get("record"), get("source"), get("account"), get("type"), get("resource"), get("status"), get("since"),
	}
	filter := &adminv1.EventFilter{
		Id: f.ID, RecordId: f.Record, Source: f.Source, Account: f.Account, Type: f.Type, Resource: f.Resource,
	}
	if f.Status != "" {
		status, ok := eventStatuses[f.Status]
		if !ok {
			return f, nil, badForm("status: want pending, delivered, dead letter, discarded or dropped")
		}
		filter.Status = append(filter.Status, status)
	}
	if f.Since != "" {
		span, ok := spans[f.Since]
		if !ok {
			return f, nil, badForm("since: want 1h, 24h or 7d")
		}
		filter.Since = timestamppb.New(r.p.deps.Now().Add(-span))
	}
	return f, filter, nil
}

func (f eventForm) query(more ...string) string {
	return query(append([]string{
		"id", f.ID, "record", f.Record, "source", f.Source, "account", f.Account, "type", f.Type, "resource", f.Resource,
		"status", f.Status, "since", f.Since,
	}, more...)...)
}

func (p *Pages) events(r *request) error {
	form, filter, err := readEventForm(r)
	if err != nil {
		return err
	}
	// The token belongs to the filter, whose time must not have moved on.
	if since := r.FormValue("from"); since != "" {
		at, err := time.Parse(time.RFC3339Nano, since)
		if err != nil {
			return badForm("from: want an RFC 3339 time")
		}
		filter.Since = timestamppb.New(at)
	}
	got, err := p.api.events.ListEvents(r.Context(), connect.NewRequest(&adminv1.ListEventsRequest{Filter: filter, PageToken: r.FormValue("page")}))
	if err != nil {
		return err
	}
	page := eventsPage{Form: form, Events: got.Msg.GetEvents(), Back: got.Msg.GetSearchedBackTo()}
	if next := got.Msg.GetNextPageToken(); next != "" {
		from := ""
		if filter.GetSince() != nil {
			from = filter.GetSince().AsTime().Format(time.RFC3339Nano)
		}
		page.Next = "/events?" + form.query("page", next, "from", from)
	}
	return r.show("events.html", frame{Title: "Events", Path: "/events", Data: page})
}

// eventPage is one event, or one record's events: what happened to them.
type eventPage struct {
	Trace *adminv1.TraceEventResponse
	// Event is nil where a record was asked for.
	Event *adminv1.GetEventResponse
	ID    string
	// Letters are the dead letters of the event, Missing says why there are none.
	Letters []*adminv1.DeadLetter
	Missing string
}

func (p *Pages) event(r *request) error {
	get := func(name string) string { return strings.TrimSpace(r.FormValue(name)) }
	ask := &adminv1.TraceEventRequest{Id: get("id"), Source: get("source"), Account: get("account"), Resource: get("resource")}
	if record := r.FormValue("record"); record != "" {
		ask.Id, ask.Kind = record, adminv1.IdKind_ID_KIND_RECORD
	}
	trace, err := p.api.events.TraceEvent(r.Context(), connect.NewRequest(ask))
	if err != nil {
		return err
	}
	page := eventPage{Trace: trace.Msg, ID: ask.GetId()}
	if ask.GetKind() != adminv1.IdKind_ID_KIND_RECORD {
		got, err := p.api.events.GetEvent(r.Context(), connect.NewRequest(&adminv1.GetEventRequest{
			Id: ask.GetId(), Source: ask.GetSource(), Account: ask.GetAccount(), MaxPayloadBytes: shownBytes,
		}))
		if err == nil { // the id may be of a record, or of a request that was refused
			page.Event = got.Msg
		}
		letters, err := p.api.deadLetters.ListDeadLetters(r.Context(), connect.NewRequest(&adminv1.ListDeadLettersRequest{
			Filter: &adminv1.DeadLetterFilter{EventId: ask.GetId(), Source: ask.GetSource(), Account: ask.GetAccount()}, PageSize: 20,
		}))
		if err == nil {
			page.Letters = letters.Msg.GetDeadLetters()
		} else {
			page.Missing = "dead letters: " + told(err)
		}
	}
	return r.show("event.html", frame{Title: page.ID, Path: "/events", Refresh: 5, Data: page})
}

// tailPage shows events as they come.
type tailPage struct {
	Form   eventForm
	Stream string
	// Address is where the script gets them.
	Address string
}

func (p *Pages) tail(r *request) error {
	form, _, err := readEventForm(r)
	if err != nil {
		return err
	}
	stream := r.FormValue("stream")
	if stream != "raw" {
		stream = "enriched"
	}
	form.Status, form.Since = "", ""
	return r.show("tail.html", frame{Title: "Live events", Path: "/events", Data: tailPage{
		Form: form, Stream: stream, Address: "/events/tail/stream?" + form.query("stream", stream),
	}})
}

// tailStream sends events as rows of a table, as server-sent events.
func (p *Pages) tailStream(r *request) error {
	_, filter, err := readEventForm(r)
	if err != nil {
		return err
	}
	filter.Status, filter.Since = nil, nil
	stream := adminv1.TailStream_TAIL_STREAM_ENRICHED
	if r.FormValue("stream") == "raw" {
		stream = adminv1.TailStream_TAIL_STREAM_RAW
	}
	tail, err := p.api.events.TailEvents(r.Context(), connect.NewRequest(&adminv1.TailEventsRequest{
		Stream: stream, Filter: filter, Age: durationpb.New(0),
	}))
	if err != nil {
		return err
	}
	defer func() { _ = tail.Close() }()
	control := http.NewResponseController(r.w)
	r.w.Header().Set("Content-Type", "text/event-stream")
	_, _ = fmt.Fprint(r.w, ": begun\n\n")
	_ = control.Flush()
	for tail.Receive() {
		text := ": alive\n\n"
		if m := tail.Msg().GetMessage(); m != nil {
			row, err := p.row(m)
			if err != nil {
				return p.over(r, err)
			}
			text = "data: " + row + "\n\n"
		}
		_ = control.SetWriteDeadline(time.Now().Add(tailWrite))
		if _, err := io.WriteString(r.w, text); err != nil || control.Flush() != nil {
			return nil // the reader has gone
		}
	}
	if err := tail.Err(); err != nil && r.Context().Err() == nil {
		return p.over(r, err)
	}
	return nil
}

// over ends a tail with the reason, which has begun and can't become a page.
func (p *Pages) over(r *request, err error) error {
	_, _ = fmt.Fprintf(r.w, "event: over\ndata: %s\n\n", oneLine(told(err)))
	p.deps.Log.LogAttrs(r.Context(), slog.LevelWarn, "live tail ended", slog.Any("err", err))
	return nil
}

// tailWrite bounds how long a row may wait for its reader.
const tailWrite = 10 * time.Second

// row is an event as a row of the tail's table.
func (p *Pages) row(m *adminv1.StoredMessage) (string, error) {
	var b strings.Builder
	err := p.views["tail.html"].ExecuteTemplate(&b, "row", m)
	return oneLine(b.String()), err
}

// oneLine is a text as one line of a server-sent event.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
