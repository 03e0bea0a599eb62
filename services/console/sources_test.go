package console_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/refusal"
	"github.com/tercelhq/tercel/pkg/report"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/control"
)

func (p *pipe) source(name string) *adminv1.Source {
	p.Helper()
	resp, err := p.sources.ListSources(p.Context(), connect.NewRequest(&adminv1.ListSourcesRequest{}))
	if err != nil {
		p.Fatal(err)
	}
	for _, s := range resp.Msg.GetSources() {
		if s.GetName() == name {
			return s
		}
	}
	p.Fatalf("source %s is not listed: %v", name, resp.Msg)
	return nil
}

// A source is told with when a webhook of it came last and what was refused, and
// is paused and resumed.
func TestSources(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	if s := p.source("orders"); s.GetLastSeenAt() != nil || s.GetAccepted() != 0 {
		t.Errorf("a source that never sent is %v", s)
	}
	p.store(trigger("evt-1", "order.paid"), `{}`)
	seen := time.Now()
	repaired := trigger("evt-2", "order.paid")
	repaired.Origin = event.Reconcile // not from the source
	p.store(repaired, `{}`)
	log := intake.New(p.js, time.Now, []string{"orders"}, []string{"accepted", "duplicate", "signature"})
	for outcome, n := range map[string]int{"accepted": 3, "duplicate": 1, "signature": 2} {
		for range n {
			log.Count("orders", outcome)
		}
	}
	if err := log.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := p.source("orders")
	if s.GetAccepted() != 4 || s.GetRefused()["signature"] != 2 || len(s.GetRefused()) != 1 || s.GetLastSeenAt() == nil || s.GetLastSeenAt().AsTime().After(seen) ||
		strings.Join(s.GetResources(), " ") != "order" || s.GetPausedUntil() != nil {
		t.Errorf("the source is %v", s)
	}
	act := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := p.sources.PauseSource(t.Context(), connect.NewRequest(&adminv1.PauseSourceRequest{Source: "orders", Reason: "the API is being moved"}))
	act(err)
	if s := p.source("orders"); !s.GetPausedByOperator() || s.GetPausedUntil() == nil {
		t.Errorf("the paused source is %v", s)
	}
	p.store(trigger("evt-3", "order.paid"), `{}`)
	until(t, "a trigger waits", func() bool { return p.source("orders").GetPending() == 1 })
	_, err = p.sources.ResumeSource(t.Context(), connect.NewRequest(&adminv1.ResumeSourceRequest{Source: "orders", Reason: "it was moved"}))
	act(err)
	p.awaitStatus("evt-3", adminv1.EventStatus_EVENT_STATUS_DELIVERED)
	if s := p.source("orders"); s.GetPausedUntil() != nil {
		t.Errorf("the resumed source is %v", s)
	}
	_, err = p.sources.PauseSource(t.Context(), connect.NewRequest(&adminv1.PauseSourceRequest{Source: "no.>", Reason: "a test"}))
	if reasonOf(err) != adminv1.Reason_REASON_NOT_FOUND {
		t.Errorf("pausing what isn't there: %v", err)
	}
	for _, window := range []time.Duration{-time.Second, 8 * 24 * time.Hour} {
		_, err := p.sources.ListSources(t.Context(), connect.NewRequest(&adminv1.ListSourcesRequest{Window: durationpb.New(window)}))
		if infoOf(err).GetField() != "window" {
			t.Errorf("a window of %s: %v", window, err)
		}
	}
}

// Refused requests are listed by source and by what they claim to be.
func TestRefusals(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	log := refusal.NewLog(p.js, slog.New(slog.DiscardHandler))
	for i, source := range []string{"orders", "bills", "orders"} {
		log.Keep(refusal.Record{
			At: time.Now(), RequestID: fmt.Sprint("r", i), Source: source, Account: "_", ClaimedID: fmt.Sprint("evt-", i), Status: 401, Outcome: "signature",
			Check: "signature", Step: "compare", Reason: "no key fits", Steps: []refusal.Step{{Name: "signature", Result: "failed", Detail: "\xff"}},
			Method: "POST", Path: "/v1/" + source, Header: map[string]string{"X-Timestamp": "1"}, Others: []string{"Accept"},
			Body: refusal.Body{Size: 7, Shape: refusal.ShapeOf([]byte(`{"a":1}`))},
		})
	}
	log.Close()
	one, err := p.sources.ListRefusals(t.Context(), connect.NewRequest(&adminv1.ListRefusalsRequest{Sequence: 2}))
	if err != nil || len(one.Msg.GetRefusals()) != 1 || one.Msg.GetRefusals()[0].GetRequestId() != "r1" {
		t.Errorf("the second is %v, %v", one, err)
	}
	if _, err := p.sources.ListRefusals(t.Context(), connect.NewRequest(&adminv1.ListRefusalsRequest{Sequence: 9})); reasonOf(err) != adminv1.Reason_REASON_NOT_FOUND {
		t.Errorf("one that isn't kept: %v", err)
	}
	for name, tt := range map[string]struct {
		req  *adminv1.ListRefusalsRequest
		want string
	}{
		"all":       {&adminv1.ListRefusalsRequest{}, "r2 r1 r0"},
		"by source": {&adminv1.ListRefusalsRequest{Source: "orders"}, "r2 r0"},
		"by claim":  {&adminv1.ListRefusalsRequest{ClaimedId: "evt-1"}, "r1"},
		"none":      {&adminv1.ListRefusalsRequest{Since: timestamppb.New(time.Now().Add(time.Hour))}, ""},
	} {
		for _, size := range []uint32{1, 0} {
			var got []string
			tt.req.PageSize, tt.req.PageToken = size, ""
			for {
				resp, err := p.sources.ListRefusals(t.Context(), connect.NewRequest(tt.req))
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range resp.Msg.GetRefusals() {
					got = append(got, r.GetRequestId())
					if r.GetReason() != "no key fits" || r.GetBodyShape() == "" || r.GetHeaders()["X-Timestamp"] != "1" || len(r.GetChecks()) != 1 {
						t.Errorf("%s: %v", name, r)
					}
				}
				if tt.req.PageToken = resp.Msg.GetNextPageToken(); tt.req.PageToken == "" {
					break
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%s in pages of %d: %v, want %s", name, size, got, tt.want)
			}
		}
	}
}

// Reconciliation is told, run, paused, resumed and reset.
func TestReconciliations(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- control.ServeReconcile(ctx, p.nc, func(_ context.Context, r control.Request) (control.Started, error) {
			if r.Resource != "order" {
				return control.Started{}, fmt.Errorf("%w %q", control.ErrUnknown, r.Resource)
			}
			return control.Started{Run: "run-1", Source: r.Source, Account: "_", Resource: r.Resource, StartedAt: time.Now()}, nil
		})
	}()
	run := func(resource string) (*adminv1.RunReconciliationResponse, error) {
		resp, err := p.runs.RunReconciliation(t.Context(), connect.NewRequest(&adminv1.RunReconciliationRequest{
			Resource: &adminv1.Resource{Source: "orders", Resource: resource}, Reason: "a test",
		}))
		if err != nil {
			return nil, err
		}
		return resp.Msg, nil
	}
	until(t, "a run begins", func() bool {
		r, err := run("order")
		return err == nil && r.GetRun() == "run-1" && r.GetResource().GetAccount() == "_"
	})
	if _, err := run("moon"); reasonOf(err) != adminv1.Reason_REASON_NOT_FOUND {
		t.Errorf("a run of what isn't there: %v", err)
	}
	_, err := p.runs.RunReconciliation(t.Context(), connect.NewRequest(&adminv1.RunReconciliationRequest{
		Resource: &adminv1.Resource{Source: "orders", Resource: "order"}, Tombstone: true, Reason: "a test",
	}))
	if infoOf(err).GetField() != "tombstone" {
		t.Errorf("tombstones without a scan: %v", err)
	}
	if _, err := run(""); infoOf(err).GetField() != "resource.resource" {
		t.Errorf("a run of nothing: %v", err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if _, err := run("order"); connect.CodeOf(err) != connect.CodeUnavailable || reasonOf(err) != adminv1.Reason_REASON_NOBODY_ANSWERS {
		t.Errorf("a run without a reconciler: %v", err)
	}

	store, err := cursor.Open(t.Context(), p.js)
	if err != nil {
		t.Fatal(err)
	}
	key := cursor.Key{Source: "orders", Account: "_", Resource: "order"}
	e, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	through := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	window := cursor.Cursor{Window: &cursor.Window{Run: "run-1", To: through, Done: true}}
	if e, err = store.Save(t.Context(), e, window); err != nil {
		t.Fatal(err)
	}
	if _, err = store.Save(t.Context(), e, cursor.Cursor{Through: through, OKAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	status := func() *adminv1.ResourceStatus {
		resp, err := p.runs.GetReconciliationStatus(t.Context(), connect.NewRequest(&adminv1.GetReconciliationStatusRequest{Source: "orders"}))
		if err != nil || len(resp.Msg.GetResources()) != 1 {
			t.Fatalf("status: %v, %v", resp, err)
		}
		return resp.Msg.GetResources()[0]
	}
	if s := status(); !s.GetCompleteThrough().AsTime().Equal(through) || s.GetLag().AsDuration() < time.Hour || s.GetResource().GetResource() != "order" || len(s.GetPaused()) != 0 {
		t.Errorf("the status is %v", s)
	}
	all := &adminv1.Resource{Source: "orders"}
	if _, err := p.runs.PauseReconciliation(t.Context(), connect.NewRequest(&adminv1.PauseReconciliationRequest{Resource: all, Reason: "a test"})); err != nil {
		t.Fatal(err)
	}
	if s := status(); len(s.GetPaused()) != 1 || s.GetPaused()[0].GetResource().GetResource() != "" {
		t.Errorf("the paused status is %v", s)
	}
	resumed, err := p.runs.ResumeReconciliation(t.Context(), connect.NewRequest(&adminv1.ResumeReconciliationRequest{Resource: all, Reason: "a test"}))
	if err != nil || len(resumed.Msg.GetEnded()) != 1 || len(status().GetPaused()) != 0 {
		t.Errorf("resumed: %v, %v", resumed, err)
	}
	plan, err := p.runs.PlanReconciliationReset(t.Context(), connect.NewRequest(&adminv1.PlanReconciliationResetRequest{Resource: all, Beginning: true}))
	if err != nil || len(plan.Msg.GetResources()) != 1 || !plan.Msg.GetResources()[0].GetCompleteThrough().AsTime().Equal(through) {
		t.Errorf("the plan of a reset is %v, %v", plan, err)
	}
	if e, err := store.Load(t.Context(), key); err != nil || !e.Through.Equal(through) {
		t.Errorf("after a plan it is complete through %s, %v; want it left alone", e.Through, err)
	}
	reset := func(req *adminv1.ResetReconciliationRequest) error {
		req.Resource, req.Reason = all, "a test"
		_, err := p.runs.ResetReconciliation(t.Context(), connect.NewRequest(req))
		return err
	}
	if err := reset(&adminv1.ResetReconciliationRequest{}); infoOf(err).GetField() != "to" {
		t.Errorf("a reset to no time: %v", err)
	}
	if err := reset(&adminv1.ResetReconciliationRequest{To: timestamppb.Now()}); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a reset to what was not reached: %v", err)
	}
	further := cursor.Key{Source: "orders", Account: "Alps", Resource: "order"} // the first of the two
	if e, err = store.Load(t.Context(), further); err == nil {
		e, err = store.Save(t.Context(), e, cursor.Cursor{Window: &cursor.Window{Run: "run-2", To: through.Add(time.Hour), Done: true}})
	}
	if err == nil {
		_, err = store.Save(t.Context(), e, cursor.Cursor{Through: through.Add(time.Hour)})
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := reset(&adminv1.ResetReconciliationRequest{To: timestamppb.New(through.Add(time.Minute))}); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a reset to what one of two has not reached: %v", err)
	}
	if e, err := store.Load(t.Context(), further); err != nil || !e.Through.Equal(through.Add(time.Hour)) {
		t.Errorf("the other one is complete through %s, %v; want it left alone", e.Through, err)
	}
	all.Account = "_"
	back := through.Add(-time.Hour)
	if err := reset(&adminv1.ResetReconciliationRequest{To: timestamppb.New(back)}); err != nil {
		t.Errorf("a reset: %v", err)
	}
	if e, err := store.Load(t.Context(), key); err != nil || !e.Through.Equal(back) {
		t.Errorf("after a reset it is complete through %s, %v; want %s", e.Through, err, back)
	}
}

// Reports are listed newest first with all that they say.
func TestReports(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	for i := range 5 {
		r := report.Report{
			Run: fmt.Sprint("run-", i), Source: "orders", Account: "_", Resource: "order", Trigger: report.Schedule, To: time.Now(), StartedAt: time.Now(), EndedAt: time.Now(),
			Counts: report.Counts{Listed: 10, Matched: 10 - i, Missed: i}, Complete: true, CaughtUp: true,
			Destinations: map[string]report.Destination{"warehouse": {Matched: 10}},
			Evidence:     report.Evidence{Causes: map[report.Cause]int{report.NeverSent: i}, Refused: map[string]int64{"signature": 1}},
		}
		if i > 2 {
			r.Records = []report.Record{{ID: "7", Version: "1", Verdict: "missed", Cause: report.NeverSent, Repaired: true}}
		}
		if err := report.Publish(t.Context(), p.js, r); err != nil {
			t.Fatal(err)
		}
	}
	list := func(req *adminv1.ListReconciliationReportsRequest) (all []*adminv1.ReconciliationReport) {
		for {
			resp, err := p.runs.ListReconciliationReports(t.Context(), connect.NewRequest(req))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, resp.Msg.GetReports()...)
			if req.PageToken = resp.Msg.GetNextPageToken(); req.PageToken == "" {
				return all
			}
		}
	}
	for _, size := range []uint32{0, 2, 5} {
		got := list(&adminv1.ListReconciliationReportsRequest{PageSize: size, Source: "orders"})
		if len(got) != 5 || got[0].GetRun() != "run-4" || got[4].GetRun() != "run-0" {
			t.Errorf("pages of %d: %v", size, got)
		}
	}
	gaps := list(&adminv1.ListReconciliationReportsRequest{GapsOnly: true})
	if len(gaps) != 2 || len(list(&adminv1.ListReconciliationReportsRequest{Run: "run-1"})) != 1 || len(list(&adminv1.ListReconciliationReportsRequest{Account: "other"})) != 0 {
		t.Errorf("narrowed: %v", gaps)
	}
	late := report.Revision{
		Run: "run-3", Source: "orders", Account: "_", Resource: "order", RevisedAt: time.Now(),
		Records: []report.Revised{{ID: "7", Version: "1", Cause: report.Late, ArrivedAt: time.Now()}},
	}
	if err := report.Revise(t.Context(), p.js, late, "run-4"); err != nil {
		t.Fatal(err)
	}
	for _, resource := range []string{"", "order"} {
		revised := list(&adminv1.ListReconciliationReportsRequest{Run: "run-3", Resource: resource})
		if len(revised) != 1 || revised[0].GetRecords()[0].GetCause() != "late" || revised[0].GetRecords()[0].GetArrivedAt() == nil || revised[0].GetCauses()["late"] != 1 {
			t.Errorf("what a later run found out isn't told: %v", revised)
		}
	}
	r := gaps[0]
	if r.GetCounts()["missed"] != 4 || r.GetCounts()["listed"] != 10 || r.GetCauses()["never_sent"] != 4 || r.GetRefused()["signature"] != 1 || r.GetStatement() == "" ||
		r.GetDestinations()["warehouse"].GetCounts()["matched"] != 10 || len(r.GetRecords()) != 1 || !r.GetRecords()[0].GetRepaired() || len(r.GetListed().GetDigest()) != 32 {
		t.Errorf("the report is %v", r)
	}
}
