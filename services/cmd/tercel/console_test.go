package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
)

// The all-in-one serves the admin API to whoever is on the machine, and what the
// API tells is what the pipeline did.
func TestUpServesTheAdminAPI(t *testing.T) {
	t.Parallel()
	shop := startShop(t)
	shop.put("7", 1)
	p := startLive(t, shop, liveOptions{})
	id := p.send("d-1", `{"id":"7","type":"order.paid"}`)
	events := adminv1connect.NewEventServiceClient(http.DefaultClient, p.ConsoleURL)
	until(t, "the event is delivered by the API's word", func() bool {
		resp, err := events.GetEvent(t.Context(), connect.NewRequest(&adminv1.GetEventRequest{Id: id}))
		return err == nil && resp.Msg.GetEvent().GetStatus() == adminv1.EventStatus_EVENT_STATUS_DELIVERED
	})
	sources := adminv1connect.NewSourceServiceClient(http.DefaultClient, p.ConsoleURL)
	if _, err := sources.PauseSource(t.Context(), connect.NewRequest(&adminv1.PauseSourceRequest{Source: "orders", Reason: "a test"})); err != nil {
		t.Fatal(err)
	}
	records, err := adminv1connect.NewPipelineServiceClient(http.DefaultClient, p.ConsoleURL).
		ListAuditRecords(t.Context(), connect.NewRequest(&adminv1.ListAuditRecordsRequest{}))
	if err != nil || len(records.Msg.GetRecords()) != 1 || records.Msg.GetRecords()[0].GetWho() != "local" {
		t.Errorf("ListAuditRecords() = %v, %v, want the pause by who is on the machine", records, err)
	}
}

// The health command says what /readyz does, for which it needs the address only.
func TestHealthAsksThePipelineThatRuns(t *testing.T) {
	t.Parallel()
	p := startLive(t, startShop(t), liveOptions{})
	address := strings.TrimPrefix(p.TelemetryURL, "http://")
	until(t, "tercel health exits 0", func() bool { return tercel(t, "", "health", "--health", address).code == 0 })
	if o := tercel(t, "", "health", "--health", strings.TrimPrefix(p.ConsoleURL, "http://")); o.code != 1 || !strings.Contains(o.err, "not ready") {
		t.Errorf("health of another server: exit code %d, %q, want 1 and that it isn't ready", o.code, o.err)
	}
}

// The document that is printed is the one that is served.
func TestContractOpenAPI(t *testing.T) {
	t.Parallel()
	out := ok(t, "contract", "openapi")
	if !json.Valid([]byte(out)) || !strings.Contains(out, "/tercel.admin.v1.EventService/TailEvents") {
		t.Fatalf("contract openapi printed %d bytes, want the API's methods as JSON", len(out))
	}
	p := startLive(t, startShop(t), liveOptions{})
	resp, err := http.Get(p.ConsoleURL + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	served, err := io.ReadAll(resp.Body)
	if err != nil || string(served) != out {
		t.Errorf("/openapi.json has %d bytes (%v), want the %d that are printed", len(served), err, len(out))
	}
}
