package console_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	eventv1 "github.com/tercelhq/tercel/proto/tercel/event/v1"
)

// list returns the ids of all pages, and how many pages there were.
func (p *pipe) list(filter *adminv1.EventFilter, size uint32) (ids []string, pages int) {
	p.Helper()
	token := ""
	for {
		resp, err := p.events.ListEvents(p.Context(), connect.NewRequest(&adminv1.ListEventsRequest{Filter: filter, PageSize: size, PageToken: token}))
		if err != nil {
			p.Fatalf("ListEvents(%s): %v", filter, err)
		}
		for _, e := range resp.Msg.GetEvents() {
			ids = append(ids, e.GetAttributes().GetId())
		}
		pages++
		if token = resp.Msg.GetNextPageToken(); token == "" {
			return ids, pages
		}
	}
}

func (p *pipe) status(id string) adminv1.EventStatus {
	p.Helper()
	resp, err := p.events.GetEvent(p.Context(), connect.NewRequest(&adminv1.GetEventRequest{Id: id}))
	if err != nil {
		return adminv1.EventStatus_EVENT_STATUS_UNSPECIFIED
	}
	return resp.Msg.GetEvent().GetStatus()
}

func (p *pipe) awaitStatus(id string, want adminv1.EventStatus) {
	p.Helper()
	until(p, fmt.Sprintf("%s is %s", id, want), func() bool { return p.status(id) == want })
}

// What is listed is what was stored, by each field of a filter and over pages of
// any size.
func TestEventsAreListedNewestFirstByEveryField(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	delivered := func(id string) { p.awaitStatus(id, adminv1.EventStatus_EVENT_STATUS_DELIVERED) }
	p.store(trigger("evt-1", "order.paid"), `{"n":1}`)
	delivered("evt-1") // so that events have the order of their triggers
	p.store(trigger("evt-2", "order.shipped"), `{"n":2}`)
	delivered("evt-2")
	between := time.Now()
	other := trigger("evt-3", "bill.sent.again")
	other.Source, other.Account = "bills", "acct 1" // nobody enriches it
	p.store(other, `{"n":3}`)
	repaired := trigger("evt-4", "order.paid")
	repaired.Origin = event.Reconcile
	p.store(repaired, `{"n":4}`)
	delivered("evt-4")
	for name, tt := range map[string]struct {
		filter *adminv1.EventFilter
		want   string
	}{
		"everything":           {nil, "evt-4 evt-3 evt-2 evt-1"},
		"by source":            {&adminv1.EventFilter{Source: "orders"}, "evt-4 evt-2 evt-1"},
		"by account":           {&adminv1.EventFilter{Account: "acct 1"}, "evt-3"},
		"by no account":        {&adminv1.EventFilter{Account: "_"}, "evt-4 evt-2 evt-1"},
		"by type":              {&adminv1.EventFilter{Type: "order.paid"}, "evt-4 evt-1"},
		"by a pattern":         {&adminv1.EventFilter{Type: "*.paid"}, "evt-4 evt-1"},
		"by a longer pattern":  {&adminv1.EventFilter{Type: "bill.>"}, "evt-3"},
		"by no such type":      {&adminv1.EventFilter{Type: "order"}, ""},
		"by a type too long":   {&adminv1.EventFilter{Type: "order.paid.b.c.d.e.f.g.h.i.j.k"}, ""},
		"by id":                {&adminv1.EventFilter{Id: "evt-2"}, "evt-2"},
		"by id and type":       {&adminv1.EventFilter{Id: "evt-2", Type: "order.paid"}, ""},
		"by delivery":          {&adminv1.EventFilter{Id: "delivery-evt-2"}, "evt-2"},
		"by resource":          {&adminv1.EventFilter{Resource: "order"}, "evt-4 evt-2 evt-1"},
		"by record":            {&adminv1.EventFilter{Resource: "order", RecordId: "2"}, "evt-2"},
		"by a record alone":    {&adminv1.EventFilter{RecordId: "4"}, "evt-4"},
		"by origin":            {&adminv1.EventFilter{Origin: []eventv1.Origin{eventv1.Origin_ORIGIN_RECONCILE}}, "evt-4"},
		"since":                {&adminv1.EventFilter{Since: timestamppb.New(between)}, "evt-4 evt-3"},
		"until":                {&adminv1.EventFilter{Until: timestamppb.New(between)}, "evt-2 evt-1"},
		"by status":            {&adminv1.EventFilter{Status: []adminv1.EventStatus{adminv1.EventStatus_EVENT_STATUS_PENDING}}, "evt-3"},
		"by status and source": {&adminv1.EventFilter{Status: []adminv1.EventStatus{adminv1.EventStatus_EVENT_STATUS_PENDING}, Source: "orders"}, ""},
		"by what isn't there":  {&adminv1.EventFilter{Source: "no such"}, ""},
		"by a hostile source":  {&adminv1.EventFilter{Source: "*.> \r\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []uint32{0, 1, 2, 500} {
				ids, pages := p.list(tt.filter, size)
				if got := strings.Join(ids, " "); got != tt.want {
					t.Errorf("pages of %d: %q, want %q", size, got, tt.want)
				}
				if size == 1 && len(ids) > 1 && pages < len(ids) {
					t.Errorf("%d pages of one for %d events", pages, len(ids))
				}
			}
		})
	}
}

// An event is found with all that is stored of it, by its own and by the
// provider's id.
func TestGetEvent(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	body := `{"text":"<script>` + strings.Repeat("x", 300) + `"}`
	seq := p.store(trigger("evt-1", "order.paid"), body)
	p.awaitStatus("evt-1", adminv1.EventStatus_EVENT_STATUS_DELIVERED)
	for _, id := range []string{"evt-1", "delivery-evt-1"} {
		resp, err := p.events.GetEvent(t.Context(), connect.NewRequest(&adminv1.GetEventRequest{Id: id, MaxPayloadBytes: 100}))
		if err != nil {
			t.Fatal(err)
		}
		e := resp.Msg
		if len(e.GetTriggers()) != 1 || len(e.GetEnriched()) != 1 || e.GetEvent().GetPosition().GetSequence() != seq {
			t.Fatalf("%s: %v", id, e)
		}
		got := e.GetTriggers()[0]
		if string(got.GetPayload()) != body[:100] || !got.GetTruncated() || got.GetPayloadBytes() != uint64(len(body)) || got.GetRedacted() ||
			got.GetTraceId() != "4bf92f3577b34da6a3ce929d0e0e4736" || got.GetContentType() != "application/json" || got.GetAttributes().GetDeliveryId() != "delivery-evt-1" {
			t.Errorf("the trigger is %v", got)
		}
		if e.GetEvent().GetAttributes().GetResource() != "order" || e.GetEnriched()[0].GetAttributes().GetTriggerSequence() != seq {
			t.Errorf("the event is %v, enriched %v", e.GetEvent(), e.GetEnriched())
		}
	}
	_, err := p.events.GetEvent(t.Context(), connect.NewRequest(&adminv1.GetEventRequest{Id: "evt-1", Source: "bills"}))
	if connect.CodeOf(err) != connect.CodeNotFound || reasonOf(err) != adminv1.Reason_REASON_NOT_FOUND {
		t.Errorf("of another source: %v, want REASON_NOT_FOUND", err)
	}
}

// A timeline goes from the webhook to each destination, and a record's has all
// its events.
func TestTraceEvent(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	p.sick.Store("archive", "no space left")
	p.store(trigger("evt-1", "order.paid"), `{}`)
	p.awaitStatus("evt-1", adminv1.EventStatus_EVENT_STATUS_DEAD_LETTER)
	for name, req := range map[string]*adminv1.TraceEventRequest{
		"by event":  {Id: "evt-1"},
		"by record": {Id: "1", Kind: adminv1.IdKind_ID_KIND_RECORD, Source: "orders", Resource: "order"},
	} {
		resp, err := p.events.TraceEvent(t.Context(), connect.NewRequest(req))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		kinds := map[string]bool{}
		for _, s := range resp.Msg.GetSteps() {
			kinds[s.GetKind()] = true
			if s.GetKind() == "dead_lettered" && (s.GetName() != "archive" || !strings.Contains(s.GetText(), "no space left")) {
				t.Errorf("%s: the dead letter's step is %v", name, s)
			}
		}
		if !kinds["stored"] || !kinds["enriched"] || !kinds["delivered"] || !kinds["dead_lettered"] {
			t.Errorf("%s: steps of the kinds %v", name, slices.Sorted(maps.Keys(kinds)))
		}
		if resp.Msg.GetStatus() != adminv1.EventStatus_EVENT_STATUS_DEAD_LETTER || len(resp.Msg.GetEvents()) != 1 || len(resp.Msg.GetCoverage()) == 0 {
			t.Errorf("%s: %v", name, resp.Msg)
		}
	}
	_, err := p.events.TraceEvent(t.Context(), connect.NewRequest(&adminv1.TraceEventRequest{Id: "evt-9"}))
	if reasonOf(err) != adminv1.Reason_REASON_NOT_FOUND {
		t.Errorf("of what isn't there: %v", err)
	}
}

// Promise 8: an event whose dead letter was discarded isn't told as delivered, and
// found by what it is.
func TestPromise8ADiscardedEventIsFoundAsSuch(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	p.dead("archive", "no space left", "evt-1")
	p.awaitStatus("evt-1", adminv1.EventStatus_EVENT_STATUS_DEAD_LETTER)
	p.discard(1)
	p.awaitStatus("evt-1", adminv1.EventStatus_EVENT_STATUS_DISCARDED)
	for status, want := range map[adminv1.EventStatus]int{
		adminv1.EventStatus_EVENT_STATUS_DISCARDED: 1, adminv1.EventStatus_EVENT_STATUS_DELIVERED: 0, adminv1.EventStatus_EVENT_STATUS_DEAD_LETTER: 0,
	} {
		filter := &adminv1.EventFilter{Status: []adminv1.EventStatus{status}}
		until(p, fmt.Sprintf("%d are listed as %s", want, status), func() bool { // while the index is behind, none is
			list, err := p.events.ListEvents(t.Context(), connect.NewRequest(&adminv1.ListEventsRequest{Filter: filter}))
			return err == nil && len(list.Msg.GetEvents()) == want
		})
	}
	trace, err := p.events.TraceEvent(t.Context(), connect.NewRequest(&adminv1.TraceEventRequest{Id: "evt-1"}))
	if err != nil || trace.Msg.GetStatus() != adminv1.EventStatus_EVENT_STATUS_DISCARDED {
		t.Errorf("TraceEvent() = %v, %v; want it discarded", trace, err)
	}
	r := p.reader()
	r.signIn(viewerToken)
	for _, path := range []string{"/events?status=discarded", "/events/one?id=evt-1"} {
		if got := r.get(path); got.status != 200 || !strings.Contains(got.text, "evt-1") || !strings.Contains(got.text, `<span class="tag discarded">discarded</span>`) {
			t.Errorf("%s answers %d: %s", path, got.status, got.text)
		}
	}
}

// A tail has what comes after its first message, of what its filter chooses, and
// leaves nothing at the server when its reader goes.
func TestTailEvents(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	p.store(trigger("evt-old", "order.paid"), `{}`)
	p.awaitStatus("evt-old", adminv1.EventStatus_EVENT_STATUS_DELIVERED)
	raw, err := p.events.TailEvents(t.Context(), connect.NewRequest(&adminv1.TailEventsRequest{
		Stream: adminv1.TailStream_TAIL_STREAM_RAW, Filter: &adminv1.EventFilter{Type: "order.paid"}, MaxPayloadBytes: 3,
	}))
	if err != nil || !raw.Receive() || raw.Msg().GetMessage() != nil {
		t.Fatalf("the first message is %v, %v; want a sign of life", raw.Msg(), err)
	}
	enriched, err := p.events.TailEvents(t.Context(), connect.NewRequest(&adminv1.TailEventsRequest{Age: durationpb.New(time.Hour)}))
	if err != nil || !enriched.Receive() {
		t.Fatal(err)
	}
	p.store(trigger("evt-1", "order.shipped"), `{}`)
	p.awaitStatus("evt-1", adminv1.EventStatus_EVENT_STATUS_DELIVERED) // events of different records overtake each other
	p.store(trigger("evt-2", "order.paid"), `{"n":2}`)
	if !raw.Receive() || raw.Msg().GetMessage().GetAttributes().GetId() != "evt-2" || string(raw.Msg().GetMessage().GetPayload()) != `{"n` || raw.Msg().GetMessage().GetPayloadBytes() != 7 {
		t.Errorf("the tail has %v, %v", raw.Msg(), raw.Err())
	}
	for _, want := range []string{"evt-old", "evt-1", "evt-2"} {
		if !enriched.Receive() {
			t.Fatal(enriched.Err())
		}
		m := enriched.Msg().GetMessage()
		if m.GetAttributes().GetId() != want || len(m.GetPayload()) > 0 || m.GetPayloadBytes() == 0 {
			t.Errorf("the tail from an hour ago has %v, want %s without its payload", m, want)
		}
	}
	consumers := func() int {
		s, err := p.js.Stream(t.Context(), topology.StreamEnriched)
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.Consumers
	}
	before := consumers()
	_ = enriched.Close()
	until(t, "the tail's consumer is gone", func() bool { return consumers() == before-1 })
	_ = raw.Close()
}

// A stopping console ends tails, and says so.
func TestATailEndsWithItsConsole(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := setupPipe(f)
	tail, err := p.events.TailEvents(t.Context(), connect.NewRequest(&adminv1.TailEventsRequest{}))
	if err != nil || !tail.Receive() {
		t.Fatal(err)
	}
	f.stop()
	if tail.Receive() || connect.CodeOf(tail.Err()) != connect.CodeUnavailable {
		t.Errorf("after the end of the console the tail has %v, %v; want CodeUnavailable", tail.Msg(), tail.Err())
	}
}

// A tail whose stream is removed ends and says so, rather than wait for what can't
// come.
func TestATailEndsWithItsStream(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tail, err := p.events.TailEvents(ctx, connect.NewRequest(&adminv1.TailEventsRequest{Stream: adminv1.TailStream_TAIL_STREAM_RAW}))
	if err != nil || !tail.Receive() {
		t.Fatal(err)
	}
	if err := p.js.DeleteStream(ctx, topology.StreamRaw); err != nil {
		t.Fatal(err)
	}
	for tail.Receive() {
	}
	if err := tail.Err(); connect.CodeOf(err) != connect.CodeUnavailable { // else it was only cut off
		t.Errorf("the tail ends with %v, want CodeUnavailable within a minute", err)
	}
}
