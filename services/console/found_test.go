package console_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// asked counts the requests that anybody makes of the server's API from now on.
func (f *fixture) asked(request string) (count func() int) {
	f.Helper()
	sub, err := f.nc.SubscribeSync("$JS.API." + request)
	if err != nil {
		f.Fatal(err)
	}
	return func() int {
		f.Helper()
		if err := f.nc.Flush(); err != nil {
			f.Fatal(err)
		}
		n, _, err := sub.Pending()
		if err != nil {
			f.Fatal(err)
		}
		return n
	}
}

// The letters of one event come from the index: with millions of others, reading
// them all would take longer than a call may.
func TestLettersOfAnEventAreFoundWithoutReadingTheOthers(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	p.sick.Store("warehouse", "out of order")
	p.sick.Store("archive", "no space left")
	for _, id := range []string{"evt-1", "evt-2", "evt-3"} {
		p.store(trigger(id, "order.paid"), `{}`)
	}
	until(t, "each has two letters", func() bool { return p.messages(topology.StreamDLQ) == 6 })
	scans := p.asked("CONSUMER.CREATE.TERCEL_DLQ.>")
	var got []string
	until(t, "no letter is read but those of the event", func() bool {
		before := scans()
		got = p.listLetters(&adminv1.DeadLetterFilter{EventId: "evt-2"}, 1)
		return scans() == before // else the index is behind
	})
	if strings.Join(got, " ") != "evt-2 evt-2" {
		t.Errorf("letters of the event, in pages of one: %v", got)
	}
	for name, tt := range map[string]struct {
		filter *adminv1.DeadLetterFilter
		want   int
	}{
		"by delivery":       {&adminv1.DeadLetterFilter{EventId: "delivery-evt-2"}, 2},
		"of a destination":  {&adminv1.DeadLetterFilter{EventId: "evt-2", Destination: "archive"}, 1},
		"of another source": {&adminv1.DeadLetterFilter{EventId: "evt-2", Source: "bills"}, 0},
		"of a record":       {&adminv1.DeadLetterFilter{EventId: "2"}, 0},
		"open ones":         {&adminv1.DeadLetterFilter{EventId: "evt-2", State: []adminv1.DeadLetterState{adminv1.DeadLetterState_DEAD_LETTER_STATE_OPEN}}, 2},
		"discarded ones":    {&adminv1.DeadLetterFilter{EventId: "evt-2", State: []adminv1.DeadLetterState{adminv1.DeadLetterState_DEAD_LETTER_STATE_DISCARDED}}, 0},
		"of the future":     {&adminv1.DeadLetterFilter{EventId: "evt-2", Since: timestamppb.New(time.Now().Add(time.Hour))}, 0},
		"of nothing":        {&adminv1.DeadLetterFilter{EventId: "evt-9"}, 0},
	} {
		if got := p.listLetters(tt.filter, 0); len(got) != tt.want {
			t.Errorf("%s: %v, want %d", name, got, tt.want)
		}
	}
}

// A report is found by its run however many have come since.
func TestAReportIsFoundWithoutReadingTheOthers(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for i := range 5 {
		if err := report.Publish(t.Context(), p.js, report.Report{
			Run: fmt.Sprint("run-", i), Source: "orders", Account: "_", Resource: "order", Trigger: report.Schedule, To: at, StartedAt: at, EndedAt: at,
		}); err != nil {
			t.Fatal(err)
		}
	}
	scans := p.asked("CONSUMER.CREATE.TERCEL_REPORTS.>")
	find := func(q *adminv1.ListReconciliationReportsRequest) (runs []string) {
		t.Helper()
		resp, err := p.runs.ListReconciliationReports(t.Context(), connect.NewRequest(q))
		if err != nil || resp.Msg.GetNextPageToken() != "" {
			t.Fatalf("ListReconciliationReports(%v) = %v, %v", q, resp, err)
		}
		for _, r := range resp.Msg.GetReports() {
			runs = append(runs, r.GetRun())
		}
		return runs
	}
	var got []string
	until(t, "no report is read but the one", func() bool {
		before := scans()
		got = find(&adminv1.ListReconciliationReportsRequest{Run: "run-1"})
		return scans() == before // else the index is behind
	})
	if strings.Join(got, " ") != "run-1" {
		t.Errorf("by its run: %v", got)
	}
	for name, q := range map[string]*adminv1.ListReconciliationReportsRequest{
		"of another source":   {Run: "run-1", Source: "bills"},
		"of another resource": {Run: "run-1", Source: "orders", Resource: "customer"},
		"with gaps":           {Run: "run-1", GapsOnly: true},
		"of no run":           {Run: "run-9"},
	} {
		if got := find(q); len(got) != 0 {
			t.Errorf("%s: %v, want none", name, got)
		}
	}
}

// Where the stages are is asked once for a page of events, not for each of them.
func TestAPageOfEventsAsksOnceForTheStages(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	for i := range 10 {
		p.store(trigger(fmt.Sprint("evt-", i), "order.paid"), `{}`)
	}
	p.awaitStatus("evt-9", adminv1.EventStatus_EVENT_STATUS_DELIVERED)
	lists := p.asked("CONSUMER.LIST.TERCEL_RAW")
	if ids, _ := p.list(nil, 0); len(ids) != 10 {
		t.Fatalf("listed %v", ids)
	}
	if n := lists(); n != 1 {
		t.Errorf("asked %d times for the consumers of the triggers, want once", n)
	}
}
