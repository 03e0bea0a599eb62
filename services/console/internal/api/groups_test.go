package api_test

import (
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/console/internal/access"
	"github.com/tercelhq/tercel/services/console/internal/api"
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
)

// bury stores a dead letter of a trigger.
func bury(t *testing.T, js jetstream.JetStream, sequence uint64) {
	t.Helper()
	e := event.Event{
		ID: fmt.Sprint("evt-", sequence), Source: "orders", Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook, ContentType: "text/plain",
	}
	if _, err := deadletter.Publish(t.Context(), js, deadletter.Letter{
		Stream: topology.StreamRaw, Consumer: topology.EnrichDurable("orders"), OriginalSequence: sequence, Subject: e.RawSubject(), Header: e.Header(),
		MsgID: e.MsgID(), Payload: []byte("{}"), Kind: deadletter.Terminated, DeadAt: time.Now(),
		Reason: consume.Reason{Class: fault.Fatal, Message: "no such order", Attempts: 1},
	}); err != nil {
		t.Fatal(err)
	}
}

// Groups that take long to make are made anew behind those from before, and come
// all the same.
func TestGroupsThatTakeLongAreMadeBehindTheLast(t *testing.T) {
	t.Parallel()
	a, js := setup(t)
	api.SlowGroups(a)
	letters := adminv1connect.NewDeadLetterServiceClient(a.InProcess(), "http://console")
	viewer := access.With(t.Context(), access.Caller{Name: "victor", Role: pipeline.Viewer})
	total := func() uint64 {
		t.Helper()
		got, err := letters.ListDeadLetterGroups(viewer, connect.NewRequest(&adminv1.ListDeadLetterGroupsRequest{}))
		if err != nil || len(got.Msg.GetGroups()) != 1 {
			t.Fatalf("ListDeadLetterGroups() = %v, %v, want one", got, err)
		}
		return got.Msg.GetGroups()[0].GetTotal()
	}
	for n := uint64(1); n <= 3; n++ {
		bury(t, js, n)
		for deadline := time.After(time.Minute); total() != n; {
			select {
			case <-deadline:
				t.Fatalf("%d letters are told after a minute, want %d", total(), n)
			case <-time.After(time.Millisecond):
			}
		}
	}
}
