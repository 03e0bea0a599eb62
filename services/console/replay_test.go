package console_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	eventv1 "github.com/tercelhq/tercel/proto/tercel/event/v1"
)

func (p *pipe) planEvents(f *adminv1.EventFilter) *adminv1.ReplayPlan {
	p.Helper()
	resp, err := p.events.PlanEventReplay(p.Context(), connect.NewRequest(&adminv1.PlanEventReplayRequest{Filter: f}))
	if err != nil {
		p.Fatal(err)
	}
	return resp.Msg.GetPlan()
}

// replayEvents returns the last progress, and how the stream ended.
func (p *pipe) replayEvents(ctx context.Context, req *adminv1.ReplayEventsRequest) (*adminv1.ReplayProgress, error) {
	p.Helper()
	stream, err := p.events.ReplayEvents(ctx, connect.NewRequest(req))
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	var last *adminv1.ReplayProgress
	for stream.Receive() {
		last = stream.Msg().GetProgress()
	}
	return last, stream.Err()
}

// A plan says what a replay would do, and the replay does just that: what came
// after the plan isn't sent, and what is sent has its event id under a fresh
// message id.
func TestEventsAreReplayedAsPlanned(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	var first uint64
	for _, id := range []string{"evt-1", "evt-2", "evt-3"} {
		if seq := p.store(trigger(id, "order.paid"), `{"id":"`+id+`"}`); first == 0 {
			first = seq
		}
	}
	p.store(trigger("evt-4", "order.shipped"), `{}`)
	p.awaitStatus("evt-4", adminv1.EventStatus_EVENT_STATUS_DELIVERED)
	filter := &adminv1.EventFilter{Source: "orders", Type: "order.paid"}
	before := p.messages(topology.StreamRaw)
	plan := p.planEvents(filter)
	if plan.GetCount() != 3 || plan.GetReplayedBefore() != 0 || plan.GetTruncated() || !plan.GetOldest().AsTime().Before(plan.GetNewest().AsTime()) {
		t.Errorf("the plan is %v", plan)
	}
	var destinations []string
	for _, d := range plan.GetDestinations() {
		destinations = append(destinations, d.GetDestination())
		if d.GetCount() != 3 || d.GetVersioned() != (d.GetDestination() == "warehouse") {
			t.Errorf("the plan for %s is %v", d.GetDestination(), d)
		}
	}
	if got := strings.Join(destinations, " "); got != "archive warehouse" {
		t.Errorf("destinations %q, want those that take orders", got)
	}
	if n := p.messages(topology.StreamRaw); n != before {
		t.Errorf("planning stored %d messages", n-before)
	}
	p.store(trigger("evt-5", "order.paid"), `{}`)
	req := &adminv1.ReplayEventsRequest{Filter: filter, PlanToken: plan.GetPlanToken(), Rate: 1000, Reason: "the warehouse was restored from a backup"}
	last, err := p.replayEvents(t.Context(), req)
	if err != nil || !last.GetDone() || last.GetPlanned() != 3 || last.GetReplayed() != 3 || last.GetFailed() != 0 || last.GetStoppedBecause() != "" {
		t.Errorf("the last progress is %v, %v", last, err)
	}
	if n := p.messages(topology.StreamRaw); n != before+4 {
		t.Errorf("%d messages were sent again, want 3", n-before-1)
	}
	got, err := p.events.GetEvent(t.Context(), connect.NewRequest(&adminv1.GetEventRequest{Id: "evt-1"}))
	if err != nil || len(got.Msg.GetTriggers()) != 2 {
		t.Fatalf("evt-1 has the triggers %v, %v; want two", got.Msg.GetTriggers(), err)
	}
	again := got.Msg.GetTriggers()[1]
	if a := again.GetAttributes(); string(again.GetPayload()) != `{"id":"evt-1"}` || a.GetOrigin().String() != "ORIGIN_REPLAY" || a.GetTriggerSequence() != first {
		t.Errorf("sent again was %v", again)
	}
	p.awaitStatus("evt-1", adminv1.EventStatus_EVENT_STATUS_DELIVERED)
	if plan := p.planEvents(&adminv1.EventFilter{Id: "evt-1"}); plan.GetCount() != 1 || plan.GetReplayedBefore() != 1 {
		t.Errorf("the next plan is %v, want to hear of the replay, and nothing sent for it", plan)
	}
	// However often they are replayed, they don't multiply.
	for range 2 {
		plan := p.planEvents(filter)
		last, err := p.replayEvents(t.Context(), &adminv1.ReplayEventsRequest{Filter: filter, PlanToken: plan.GetPlanToken(), Rate: 1000, Reason: "once more"})
		if err != nil || plan.GetCount() != 4 || last.GetPlanned() != 4 || last.GetReplayed() != 4 {
			t.Errorf("the plan is %v, what came of it %v, %v; want each of the four once", plan, last, err)
		}
	}
	if plan := p.planEvents(&adminv1.EventFilter{Source: "orders", Origin: []eventv1.Origin{eventv1.Origin_ORIGIN_REPLAY}}); plan.GetCount() != 4 || plan.GetReplayedBefore() != 4 {
		t.Errorf("of replays alone the plan is %v, want one of each of the four", plan)
	}
	if plan := p.planEvents(&adminv1.EventFilter{Resource: "order", RecordId: "1"}); plan.GetCount() != 1 {
		t.Errorf("by record the plan is %v, want the first trigger alone", plan)
	}
}

// Nothing is replayed without a plan of the same filter that is still good.
func TestAReplayWantsItsPlan(t *testing.T) {
	t.Parallel()
	now := newClock()
	p := setupPipe(setup(t, func(_ *consoleConfig, d *consoleDeps) { d.Now = now.read }))
	p.store(trigger("evt-1", "order.paid"), `{}`)
	p.awaitStatus("evt-1", adminv1.EventStatus_EVENT_STATUS_DELIVERED)
	before := p.messages(topology.StreamRaw)
	filter := &adminv1.EventFilter{Source: "orders"}
	token := p.planEvents(filter).GetPlanToken()
	page, err := p.events.ListEvents(t.Context(), connect.NewRequest(&adminv1.ListEventsRequest{Filter: filter, PageSize: 1}))
	if err != nil {
		t.Fatal(err)
	}
	for name, req := range map[string]*adminv1.ReplayEventsRequest{
		"no plan":        {Filter: filter},
		"another filter": {Filter: &adminv1.EventFilter{Source: "orders", Since: timestamppb.New(time.Unix(0, 0))}, PlanToken: token},
		"made up":        {Filter: filter, PlanToken: "AAAA"},
		"a changed one":  {Filter: filter, PlanToken: changed(token)},
		"a page's token": {Filter: filter, PlanToken: page.Msg.GetNextPageToken()},
	} {
		req.Reason = "a test"
		if _, err := p.replayEvents(t.Context(), req); connect.CodeOf(err) != connect.CodeFailedPrecondition || reasonOf(err) != adminv1.Reason_REASON_INVALID_PLAN {
			t.Errorf("%s: %v, want REASON_INVALID_PLAN", name, err)
		}
	}
	now.add(15 * time.Minute)
	if _, err := p.replayEvents(t.Context(), &adminv1.ReplayEventsRequest{Filter: filter, PlanToken: token, Reason: "a test"}); reasonOf(err) != adminv1.Reason_REASON_INVALID_PLAN {
		t.Errorf("after 15 minutes: %v, want REASON_INVALID_PLAN", err)
	}
	if n := p.messages(topology.StreamRaw); n != before {
		t.Errorf("%d messages were sent without a plan", n-before)
	}
	for name, f := range map[string]*adminv1.EventFilter{"everything": nil, "by status": {Source: "orders", Status: []adminv1.EventStatus{1}}} {
		_, err := p.events.PlanEventReplay(t.Context(), connect.NewRequest(&adminv1.PlanEventReplayRequest{Filter: f}))
		if reasonOf(err) != adminv1.Reason_REASON_INVALID_FIELD {
			t.Errorf("a plan of %s: %v, want REASON_INVALID_FIELD", name, err)
		}
	}
}

// A replay stops when its caller goes; what was not sent stays unsent.
func TestAReplayEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	for _, id := range []string{"evt-1", "evt-2", "evt-3", "evt-4", "evt-5"} {
		p.store(trigger(id, "order.paid"), `{}`)
	}
	before := p.messages(topology.StreamRaw)
	filter := &adminv1.EventFilter{Source: "orders"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := p.events.ReplayEvents(ctx, connect.NewRequest(&adminv1.ReplayEventsRequest{
		Filter: filter, PlanToken: p.planEvents(filter).GetPlanToken(), Rate: 1, Reason: "a test",
	}))
	if err != nil || !stream.Receive() || stream.Msg().GetProgress().GetDone() {
		t.Fatalf("the first progress is %v, %v", stream.Msg(), err)
	}
	cancel()
	_ = stream.Close()
	var record *adminv1.AuditRecord
	until(t, "the end is recorded", func() bool {
		record = p.audit()[0]
		return record.GetOutcome() != adminv1.AuditOutcome_AUDIT_OUTCOME_BEGUN
	})
	if record.GetOutcome() != adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED {
		t.Errorf("the record is %v, want a failed action", record)
	}
	if n := p.messages(topology.StreamRaw); n >= before+5 {
		t.Errorf("all %d were sent although the caller had gone", n-before)
	}
}

// What the stream has lost since the plan is told as skipped, not as failed.
func TestAReplayPassesOverWhatIsGone(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	seq := p.store(trigger("evt-1", "order.paid"), `{}`)
	p.awaitStatus("evt-1", adminv1.EventStatus_EVENT_STATUS_DELIVERED)
	filter := &adminv1.EventFilter{RecordId: "1"} // its event is there, the trigger won't be
	token := p.planEvents(filter).GetPlanToken()
	s, err := p.js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), seq); err != nil {
		t.Fatal(err)
	}
	last, err := p.replayEvents(t.Context(), &adminv1.ReplayEventsRequest{Filter: filter, PlanToken: token, Reason: "a test"})
	if err != nil || last.GetSkipped() != 1 || last.GetReplayed() != 0 || last.GetFailed() != 0 {
		t.Errorf("the last progress is %v, %v, want one skipped", last, err)
	}
}

// An event whose trigger was edited names that as it was before, which isn't sent for it.
func TestAReplayByRecordLeavesEditedTriggersOut(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	edited := trigger("evt-1", "order.paid")
	edited.TriggerSequence = p.store(edited, `{}`)
	edited.Resource, edited.RecordID, edited.Version, edited.ObservedAt, edited.Edited = "order", "7", "1", time.Now(), true
	m := message(edited, `{}`)
	m.Subject = edited.EnrichedSubject()
	if _, err := p.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if n := p.planEvents(&adminv1.EventFilter{RecordId: "7"}).GetCount(); n != 0 {
		t.Errorf("%d triggers are planned, want none", n)
	}
}

// Promise 3: what has a trigger's sequence since the stream was made anew isn't sent in
// its place; it is chosen by its own event.
func TestAReplaySendsNoOtherTrigger(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	lost := trigger("evt-lost", "order.paid")
	lost.ReceivedAt = lost.ReceivedAt.Add(-time.Hour)
	lost.Resource, lost.RecordID, lost.Version, lost.ObservedAt, lost.TriggerSequence = "order", "7", "1", time.Now(), 1
	m := message(lost, `{}`)
	m.Subject = lost.EnrichedSubject()
	if _, err := p.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if seq := p.store(trigger("evt-1", "order.paid"), `{}`); seq != lost.TriggerSequence {
		t.Fatalf("evt-1 has sequence %d: the case is not the one meant", seq)
	}
	p.awaitStatus("evt-1", adminv1.EventStatus_EVENT_STATUS_DELIVERED)
	p.checks()
	before := p.messages(topology.StreamRaw)
	for _, stage := range []adminv1.ReplayStage{adminv1.ReplayStage_REPLAY_STAGE_ENRICH, verifyStage} {
		for _, tt := range []struct {
			filter            *adminv1.EventFilter
			replayed, skipped uint64
		}{{&adminv1.EventFilter{RecordId: "7"}, 0, 1}, {&adminv1.EventFilter{Source: "orders", Resource: "order"}, 1, 0}} {
			plan, err := p.events.PlanEventReplay(t.Context(), connect.NewRequest(&adminv1.PlanEventReplayRequest{Filter: tt.filter, Stage: stage}))
			if err != nil {
				t.Fatal(err)
			}
			got := p.replayTriggers(&adminv1.ReplayEventsRequest{
				Filter: tt.filter, Stage: stage, PlanToken: plan.Msg.GetPlan().GetPlanToken(), Reason: "a test",
			})
			if pr := got.last.GetProgress(); got.err != nil || pr.GetReplayed() != tt.replayed || pr.GetSkipped() != tt.skipped || pr.GetFailed() != 0 {
				t.Errorf("%v from %v: %v, %v; want %d sent and %d skipped", tt.filter, stage, got.last, got.err, tt.replayed, tt.skipped)
			}
			before += tt.replayed
			if n := p.messages(topology.StreamRaw); n != before {
				t.Errorf("%v from %v: %d messages are stored, want %d", tt.filter, stage, n, before)
			}
		}
	}
}

// Headers that the server obeys don't come along.
func TestAReplayCopiesNoOrders(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := setupPipe(f)
	e := trigger("evt-1", "order.paid")
	m := message(e, `{}`)
	m.Header.Set("Nats-Expected-Last-Subject-Sequence", "0")
	if _, err := p.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	p.awaitStatus("evt-1", adminv1.EventStatus_EVENT_STATUS_DELIVERED)
	filter := &adminv1.EventFilter{Id: "evt-1"}
	last, err := p.replayEvents(t.Context(), &adminv1.ReplayEventsRequest{Filter: filter, PlanToken: p.planEvents(filter).GetPlanToken(), Reason: "a test"})
	if err != nil || last.GetReplayed() != 1 {
		t.Errorf("the last progress is %v, %v, want one sent", last, err)
	}
}

// changed is a token with one bit that differs.
func changed(token string) string {
	b := []byte(token)
	if b[20]++; b[20] > 'Z' {
		b[20] = 'A'
	}
	return string(b)
}
