package api_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/console/internal/access"
	"github.com/tercelhq/tercel/services/console/internal/api"
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

// setup is an API over a server of its own.
func setup(t *testing.T) (*api.API, jetstream.JetStream) {
	t.Helper()
	nc := natstest.Start(t, false).Connect()
	js, err := jetstream.New(nc, natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	index, err := timeline.New(timeline.Config{}, timeline.Deps{JetStream: js, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	gate, err := access.New(access.Config{Console: pipeline.Console{Listen: "127.0.0.1:0"}, Open: true}, access.Deps{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	a, err := api.New(api.Config{Version: "v1"}, api.Deps{Conn: nc, Log: log, Gate: gate, Index: index})
	if err != nil {
		t.Fatal(err)
	}
	return a, js
}

// Calls from the same process pass the same checks and leave the same records,
// as whoever the context names.
func TestCallsFromTheSameProcess(t *testing.T) {
	t.Parallel()
	a, _ := setup(t)
	pipelines := adminv1connect.NewPipelineServiceClient(a.InProcess(), "http://console")
	sources := adminv1connect.NewSourceServiceClient(a.InProcess(), "http://console")
	if _, err := pipelines.GetCaller(t.Context(), connect.NewRequest(&adminv1.GetCallerRequest{})); err == nil {
		t.Error("nobody was let in")
	}
	viewer := access.With(t.Context(), access.Caller{Name: "victor", Role: pipeline.Viewer})
	operator := access.With(t.Context(), access.Caller{Name: "olivia", Role: pipeline.Operator, Address: "192.0.2.1"})
	who, err := pipelines.GetCaller(viewer, connect.NewRequest(&adminv1.GetCallerRequest{}))
	if err != nil || who.Msg.GetName() != "victor" || who.Msg.GetRole() != adminv1.Role_ROLE_VIEWER {
		t.Errorf("GetCaller() = %v, %v", who, err)
	}
	pause := connect.NewRequest(&adminv1.PauseSourceRequest{Source: "orders", Reason: "a test"})
	if _, err := sources.PauseSource(viewer, pause); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("PauseSource() by a viewer = %v, want CodePermissionDenied", err)
	}
	if _, err := sources.PauseSource(operator, pause); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("PauseSource() = %v, want CodeNotFound", err)
	}
	records, err := pipelines.ListAuditRecords(viewer, connect.NewRequest(&adminv1.ListAuditRecordsRequest{}))
	if err != nil || len(records.Msg.GetRecords()) != 1 || records.Msg.GetRecords()[0].GetWho() != "olivia" || records.Msg.GetRecords()[0].GetAddress() != "192.0.2.1" {
		t.Errorf("ListAuditRecords() = %v, %v, want the operator's action", records, err)
	}
}

// broken is a request's body that panics.
type broken struct{}

func (broken) Read([]byte) (int, error) { panic("a fault of the program") }
func (broken) Close() error             { return nil }

// A panic outside of a method ends its call and not the process.
func TestAPanicEndsOnlyItsCall(t *testing.T) {
	t.Parallel()
	a, _ := setup(t)
	viewer := access.With(t.Context(), access.Caller{Name: "victor", Role: pipeline.Viewer})
	const path = "http://console" + adminv1connect.PipelineServiceGetCallerProcedure
	req, err := http.NewRequestWithContext(viewer, http.MethodPost, path, broken{})
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.InProcess().Do(req)
	if err != nil || resp.StatusCode != http.StatusInternalServerError {
		t.Fatalf("the call got %v, %v; want 500", resp, err)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("its answer is taken for whole")
	}
	_ = resp.Body.Close()
	pipelines := adminv1connect.NewPipelineServiceClient(a.InProcess(), "http://console")
	if _, err := pipelines.GetCaller(viewer, connect.NewRequest(&adminv1.GetCallerRequest{})); err != nil {
		t.Errorf("the next call got %v", err)
	}
}

// A stream ends with its context, when it is closed, and when streams are ended.
func TestStreamsFromTheSameProcessEnd(t *testing.T) {
	t.Parallel()
	a, js := setup(t)
	events := adminv1connect.NewEventServiceClient(a.InProcess(), "http://console")
	viewer := access.With(t.Context(), access.Caller{Name: "victor", Role: pipeline.Viewer})
	open := func(ctx context.Context) *connect.ServerStreamForClient[adminv1.TailEventsResponse] {
		t.Helper()
		tail, err := events.TailEvents(ctx, connect.NewRequest(&adminv1.TailEventsRequest{}))
		if err != nil || !tail.Receive() {
			t.Fatalf("TailEvents() = %v", err)
		}
		return tail
	}
	consumers := func() int {
		s, err := js.Stream(t.Context(), topology.StreamEnriched)
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.Consumers
	}
	until := func(n int) {
		t.Helper()
		for deadline := time.After(time.Minute); consumers() != n; {
			select {
			case <-deadline:
				t.Fatalf("%d consumers after a minute, want %d", consumers(), n)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	_ = open(viewer).Close()
	until(0)
	ctx, cancel := context.WithCancel(viewer)
	tail := open(ctx)
	cancel()
	if tail.Receive() {
		t.Error("a message after the context's end")
	}
	until(0)
	_ = tail.Close()
	tail = open(viewer)
	var ended sync.WaitGroup
	ended.Go(a.EndStreams)
	if tail.Receive() || connect.CodeOf(tail.Err()) != connect.CodeUnavailable {
		t.Errorf("after EndStreams() the tail has %v", tail.Err())
	}
	ended.Wait()
	until(0)
	_ = tail.Close()
}
