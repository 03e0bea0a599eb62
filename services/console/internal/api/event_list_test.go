package api_test

import (
	"errors"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/console/internal/access"
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
)

// Promise 8: while nobody knows what became of an event, it is listed so, and a
// list by status is refused rather than without it.
func TestPromise8AListByStatusNeedsTheIndex(t *testing.T) {
	t.Parallel()
	a, js := setup(t) // whose index reads nothing
	e := event.Event{
		ID: "evt-1", Source: "orders", Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook, ContentType: "application/json", ReceivedAt: time.Now(),
	}
	m := nats.NewMsg(e.RawSubject())
	m.Header, m.Data = e.Header(), []byte(`{}`)
	if _, err := js.PublishMsg(t.Context(), m, jetstream.WithMsgID(e.MsgID())); err != nil {
		t.Fatal(err)
	}
	events := adminv1connect.NewEventServiceClient(a.InProcess(), "http://console")
	viewer := access.With(t.Context(), access.Caller{Name: "victor", Role: pipeline.Viewer})
	list, err := events.ListEvents(viewer, connect.NewRequest(&adminv1.ListEventsRequest{}))
	if err != nil || len(list.Msg.GetEvents()) != 1 || list.Msg.GetEvents()[0].GetStatus() != adminv1.EventStatus_EVENT_STATUS_UNSPECIFIED {
		t.Errorf("ListEvents() = %v, %v; want the event without a status", list, err)
	}
	list, err = events.ListEvents(viewer, connect.NewRequest(&adminv1.ListEventsRequest{
		Filter: &adminv1.EventFilter{Status: []adminv1.EventStatus{adminv1.EventStatus_EVENT_STATUS_PENDING}},
	}))
	var refused *connect.Error
	if !errors.As(err, &refused) || len(refused.Details()) != 1 {
		t.Fatalf("by status: %v, %v; want a refusal with its reason", list, err)
	}
	info, err := refused.Details()[0].Value()
	if why, ok := info.(*adminv1.ErrorInfo); !ok || why.GetReason() != adminv1.Reason_REASON_INDEX_BEHIND {
		t.Errorf("by status: %v, %v; want REASON_INDEX_BEHIND", info, err)
	}
}
