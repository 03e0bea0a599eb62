package api

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

// events is the EventService.
type events struct{ *API }

// Bounds of payloads in answers.
const (
	defaultPayload = 64 << 10
	maxPayload     = 4 << 20
	maxTailPayload = 1 << 20
	maxMessages    = 20 // of one kind in one answer
	maxTraced      = 200
)

// GetEvent finds an event with its messages.
func (s events) GetEvent(ctx context.Context, req *connect.Request[adminv1.GetEventRequest]) (*connect.Response[adminv1.GetEventResponse], error) {
	limit, err := payloadLimit(req.Msg.GetMaxPayloadBytes())
	if err != nil {
		return nil, err
	}
	q := timeline.Query{ID: req.Msg.GetId(), Source: req.Msg.GetSource(), Account: req.Msg.GetAccount()}
	if err := checkQuery(q); err != nil {
		return nil, err
	}
	found, err := s.deps.Index.Find(ctx, q)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.GetEventResponse{}
	var newest *timeline.Message
	for i, m := range found.Messages {
		if m.Event.ID != q.ID && m.Event.DeliveryID != q.ID {
			continue
		}
		switch {
		case strings.HasPrefix(m.Subject, event.PrefixRaw+"."):
			resp.Triggers = append(resp.Triggers, s.stored(m, limit))
		case m.Stream == topology.StreamEnriched:
			resp.Enriched = append(resp.Enriched, s.stored(m, limit))
		default:
			continue
		}
		newest = &found.Messages[i]
	}
	if newest == nil {
		return nil, missing(q.ID, found.Coverage)
	}
	resp.Triggers, resp.Enriched = last(resp.Triggers), last(resp.Enriched)
	resp.Event = &adminv1.Event{Attributes: attributes(newest.Event), Position: position(newest.Stream, newest.Sequence), StoredAt: stamp(newest.StoredAt)}
	if n := len(resp.GetTriggers()); n > 0 {
		t := resp.GetTriggers()[n-1]
		resp.Event.Position, resp.Event.StoredAt = t.GetPosition(), t.GetStoredAt()
	}
	resp.Event.Status, err = s.state(ctx, newest.Event)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

// TraceEvent tells the way of an event, or of a record's events.
func (s events) TraceEvent(ctx context.Context, req *connect.Request[adminv1.TraceEventRequest]) (*connect.Response[adminv1.TraceEventResponse], error) {
	kinds := map[adminv1.IdKind]timeline.By{
		adminv1.IdKind_ID_KIND_UNSPECIFIED: timeline.Any, adminv1.IdKind_ID_KIND_EVENT: timeline.ByEvent,
		adminv1.IdKind_ID_KIND_DELIVERY: timeline.ByDelivery, adminv1.IdKind_ID_KIND_RECORD: timeline.ByRecord,
	}
	by, ok := kinds[req.Msg.GetKind()]
	if !ok {
		return nil, invalid("kind", "one of the kinds of the contract")
	}
	q := timeline.Query{
		ID: req.Msg.GetId(), By: by, Source: req.Msg.GetSource(), Account: req.Msg.GetAccount(), Resource: req.Msg.GetResource(),
		Events: int(req.Msg.GetMaxEvents()),
	}
	if err := checkQuery(q); err != nil {
		return nil, err
	}
	if q.Events > maxTraced {
		return nil, invalid("max_events", "at most 200")
	}
	t, err := s.deps.Index.Trace(ctx, q)
	if err != nil {
		return nil, err
	}
	if len(t.Events) == 0 && len(t.Entries) == 0 {
		return nil, missing(q.ID, t.Coverage)
	}
	return connect.NewResponse(traced(t)), nil
}

func checkQuery(q timeline.Query) error {
	if q.ID == "" {
		return invalid("id", "the id of an event, a delivery or a record")
	}
	return short(map[string]string{"id": q.ID, "source": q.Source, "account": q.Account, "resource": q.Resource})
}

// missing says that nothing was found, or that this can't be told yet.
func missing(id string, coverage []timeline.Coverage) error {
	for _, c := range coverage {
		if c.Behind() {
			return fail(connect.CodeUnavailable, adminv1.Reason_REASON_INDEX_BEHIND,
				"event %q: not found among the first %d messages of %s, and the index has yet to read %d more", id, c.Through, c.Stream, c.Last-c.Through)
		}
	}
	return notFound("event %q: nothing stored has this id; it may be older than the streams keep, or was refused", id)
}

// state is what became of one event. One that has just left the streams has
// none.
func (a *API) state(ctx context.Context, e event.Event) (adminv1.EventStatus, error) {
	v, err := a.deps.Index.View(ctx)
	if err != nil {
		return 0, err
	}
	t, err := traceIn(ctx, v, e)
	return status(t.State), err
}

// traceIn is the timeline of one event, by a view.
func traceIn(ctx context.Context, v *timeline.View, e event.Event) (timeline.Timeline, error) {
	return v.Trace(ctx, timeline.Query{ID: e.ID, By: timeline.ByEvent, Source: e.Source, Account: e.Account, Events: 1})
}

func payloadLimit(asked uint32) (int, error) {
	switch {
	case asked > maxPayload:
		return 0, invalid("max_payload_bytes", "at most 4 MiB")
	case asked == 0:
		return defaultPayload, nil
	default:
		return int(asked), nil
	}
}

// head is the beginning of a payload.
func head(payload []byte, limit int) []byte { return payload[:min(len(payload), limit)] }

// last keeps the newest messages.
func last(all []*adminv1.StoredMessage) []*adminv1.StoredMessage {
	return all[max(0, len(all)-maxMessages):]
}

func position(stream string, sequence uint64) *adminv1.Position {
	return &adminv1.Position{Stream: stream, Sequence: sequence}
}

// stored is a message as callers get it. A limit of 0 leaves the payload out.
func (a *API) stored(m timeline.Message, limit int) *adminv1.StoredMessage {
	out := &adminv1.StoredMessage{
		Position: position(m.Stream, m.Sequence), StoredAt: stamp(m.StoredAt), Subject: utf8s(m.Subject), Attributes: attributes(m.Event),
		ContentType: utf8s(m.Event.ContentType), PayloadBytes: payloadSize(m), TraceId: utf8s(timeline.TraceID(m.Header)),
	}
	if limit > 0 {
		shown := a.cfg.Redact.Of(m.Event.Source).Show(m.Subject, m.Event, m.Data).Payload
		out.Payload, out.Truncated, out.Redacted = head(shown, limit), len(shown) > limit, !bytes.Equal(shown, m.Data)
	}
	return out
}

// payloadSize is how many bytes the payload has. Of a message without its body
// the server tells it.
func payloadSize(m timeline.Message) uint64 {
	if n, err := strconv.ParseUint(m.Header.Get(nats.MsgSize), 10, 64); err == nil && len(m.Data) == 0 {
		return n
	}
	return uint64(len(m.Data))
}

// checkVerdicts are what checks found, as callers get it.
func checkVerdicts(all []event.Verdict) []*adminv1.CheckVerdict {
	var out []*adminv1.CheckVerdict
	for _, v := range all {
		out = append(out, &adminv1.CheckVerdict{Check: utf8s(v.Check), Result: string(v.Result), Detail: utf8s(v.Detail)})
	}
	return out
}

// traced is a timeline as callers get it.
func traced(t timeline.Timeline) *adminv1.TraceEventResponse {
	resp := &adminv1.TraceEventResponse{Status: status(t.State), Truncated: t.More}
	for _, e := range t.Events {
		out := &adminv1.TracedEvent{
			Id: utf8s(e.ID), DeliveryId: utf8s(e.DeliveryID), Source: utf8s(e.Source), Account: utf8s(e.Account), Type: utf8s(e.Type), Status: status(e.State),
		}
		for _, r := range e.Records {
			out.Records = append(out.Records, &adminv1.TracedRecord{
				Resource: utf8s(r.Resource), Id: utf8s(r.ID), Version: utf8s(string(r.Version)), Deleted: r.Deleted,
			})
		}
		resp.Events = append(resp.Events, out)
	}
	for _, e := range t.Entries {
		step := &adminv1.TimelineStep{
			At: stamp(e.At), Kind: string(e.Kind), Stage: e.Stage, Name: utf8s(e.Name), EventId: utf8s(e.Event), Text: utf8s(e.Text),
			Derived: e.Known == timeline.Derived, Attempt: uint32(e.Attempt), Took: took(e.Took), HttpStatus: uint32(e.Status), TraceId: utf8s(e.TraceID),
			Checks: checkVerdicts(e.Checks),
		}
		if e.Stream != "" {
			step.Position = position(e.Stream, e.Sequence)
		}
		resp.Steps = append(resp.Steps, step)
	}
	for _, c := range t.Coverage {
		resp.Coverage = append(resp.Coverage, &adminv1.IndexCoverage{Stream: c.Stream, Through: c.Through, At: stamp(c.At), Last: c.Last})
	}
	return resp
}
