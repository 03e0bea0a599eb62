package console_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/control"
)

const verifyStage = adminv1.ReplayStage_REPLAY_STAGE_VERIFY

// checks answers for an ingress: it accepts and sends all but what has "forged" in
// its id.
func (p *pipe) checks() {
	p.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		_ = control.ServeVerify(ctx, p.nc, func(ctx context.Context, r control.VerifyRequest) (v control.Verified, err error) {
			s, err := p.js.Stream(ctx, topology.StreamRaw)
			if err != nil {
				return v, err
			}
			m, err := s.GetMsg(ctx, r.Sequence)
			if err != nil {
				return v, control.ErrGone
			}
			if strings.Contains(m.Header.Get(event.HeaderID), "forged") {
				v.Checks = []event.Verdict{{Check: "path", Result: event.Passed}, {Check: "signature match", Result: event.Failed, Detail: "mismatch: none of the keys"}}
				return v, nil
			}
			e, err := event.FromHeader(m.Header)
			if err != nil {
				return v, err
			}
			if !r.Of.Answers(e) {
				return v, control.ErrGone
			}
			e.Origin, e.TriggerSequence, e.Destinations = event.Replay, r.Sequence, r.Destinations
			again := message(e, string(m.Data))
			v = control.Verified{Accepted: true, Subject: again.Subject, MsgID: event.AgainID(e.MsgID(), event.Replay), Stream: topology.StreamRaw}
			v.Checks = []event.Verdict{{Check: "origin", Result: event.NotRepeated}}
			again.Header.Set(jetstream.MsgIDHeader, v.MsgID)
			ack, err := p.js.PublishMsg(ctx, again)
			if err == nil {
				v.Sequence = ack.Sequence
			}
			return v, err
		})
	})
	p.Cleanup(func() { stop(); running.Wait() })
	until(p.T, "the checks are answered for", func() bool { return control.AwaitIngress(p.Context(), p.nc) == nil })
}

// Stored triggers and dead letters begin at the checks: what these refuse isn't
// sent, and its failure has each verdict.
func TestReplaysFromTheChecks(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	p.sick.Store("warehouse", "the disk is full")
	for _, id := range []string{"evt-1", "evt-forged", "evt-3"} {
		p.store(trigger(id, "order.paid"), `{}`)
		p.awaitStatus(id, adminv1.EventStatus_EVENT_STATUS_DEAD_LETTER)
	}
	p.sick.Delete("warehouse")
	filter := &adminv1.EventFilter{Source: "orders"}
	planEvents := &adminv1.PlanEventReplayRequest{Filter: filter, Stage: verifyStage}
	planLetters := &adminv1.PlanDeadLetterReplayRequest{Filter: &adminv1.DeadLetterFilter{Source: "orders"}, Stage: verifyStage}
	if _, err := p.events.PlanEventReplay(t.Context(), connect.NewRequest(planEvents)); reasonOf(err) != adminv1.Reason_REASON_NOBODY_ANSWERS {
		t.Errorf("a plan without an ingress: %v, want REASON_NOBODY_ANSWERS", err)
	}
	if _, err := p.letters.PlanDeadLetterReplay(t.Context(), connect.NewRequest(planLetters)); reasonOf(err) != adminv1.Reason_REASON_NOBODY_ANSWERS {
		t.Errorf("a plan without an ingress: %v, want REASON_NOBODY_ANSWERS", err)
	}
	p.checks()

	letters, err := p.letters.PlanDeadLetterReplay(t.Context(), connect.NewRequest(planLetters))
	if err != nil || letters.Msg.GetPlan().GetCount() != 3 {
		t.Fatalf("the plan is %v, %v", letters, err)
	}
	stream, err := p.letters.ReplayDeadLetters(t.Context(), connect.NewRequest(&adminv1.ReplayDeadLettersRequest{
		Filter: planLetters.GetFilter(), Stage: verifyStage, PlanToken: letters.Msg.GetPlan().GetPlanToken(), Reason: "the secret was changed",
	}))
	if err != nil {
		t.Fatal(err)
	}
	var failures []*adminv1.ReplayFailure
	var last *adminv1.ReplayDeadLettersResponse
	for stream.Receive() {
		last = stream.Msg()
		failures = append(failures, last.GetProgress().GetFailures()...)
	}
	if pr := last.GetProgress(); stream.Err() != nil || pr.GetReplayed() != 2 || pr.GetFailed() != 1 || pr.GetNotRepeated() != 2 || last.GetDelivered() != 2 {
		t.Errorf("%v, %v; want two delivered and one refused", last, stream.Err())
	}
	wantRefusal(t, failures)

	plan, err := p.events.PlanEventReplay(t.Context(), connect.NewRequest(&adminv1.PlanEventReplayRequest{
		Filter: &adminv1.EventFilter{Id: "evt-forged"}, Stage: verifyStage,
	}))
	if err != nil || plan.Msg.GetPlan().GetCount() != 1 {
		t.Fatalf("the plan is %v, %v", plan, err)
	}
	ask := &adminv1.ReplayEventsRequest{
		Filter: &adminv1.EventFilter{Id: "evt-forged"}, Stage: verifyStage, PlanToken: plan.Msg.GetPlan().GetPlanToken(), Reason: "a look",
	}
	got := p.replayTriggers(ask)
	if pr := got.last.GetProgress(); got.err != nil || pr.GetFailed() != 1 || pr.GetReplayed() != 0 {
		t.Errorf("%v, %v; want it refused", got.last, got.err)
	}
	wantRefusal(t, got.failures)
	ask.Stage = adminv1.ReplayStage_REPLAY_STAGE_ENRICH
	if got := p.replayTriggers(ask); reasonOf(got.err) != adminv1.Reason_REASON_INVALID_PLAN {
		t.Errorf("the plan of another stage: %v, want REASON_INVALID_PLAN", got.err)
	}
	planEvents.Stage = adminv1.ReplayStage_REPLAY_STAGE_DELIVER
	if _, err := p.events.PlanEventReplay(t.Context(), connect.NewRequest(planEvents)); reasonOf(err) != adminv1.Reason_REASON_INVALID_FIELD {
		t.Errorf("triggers from deliver: %v, want REASON_INVALID_FIELD", err)
	}
}

func wantRefusal(t *testing.T, failures []*adminv1.ReplayFailure) {
	t.Helper()
	if len(failures) != 1 || len(failures[0].GetChecks()) != 2 || failures[0].GetChecks()[1].GetResult() != "failed" ||
		!strings.Contains(failures[0].GetError(), "not accepted: signature match: mismatch") {
		t.Errorf("failures %v, want one with the verdict of each check", failures)
	}
}

// triggersReplayed is all that a replay of triggers told.
type triggersReplayed struct {
	last     *adminv1.ReplayEventsResponse
	failures []*adminv1.ReplayFailure
	err      error
}

func (p *pipe) replayTriggers(ask *adminv1.ReplayEventsRequest) (r triggersReplayed) {
	p.Helper()
	stream, err := p.events.ReplayEvents(p.Context(), connect.NewRequest(ask))
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		r.last = stream.Msg()
		r.failures = append(r.failures, r.last.GetProgress().GetFailures()...)
	}
	r.err = stream.Err()
	return r
}

// What becomes of replayed triggers is watched as that of dead letters is: a cause
// that isn't mended stops them, and a trial with one is a trial with one.
func TestReplayedTriggersAreWatched(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	const n = 30
	for i := range n {
		p.store(trigger("evt-"+string(rune('a'+i)), "order.paid"), `{}`)
	}
	p.awaitStatus("evt-"+string(rune('a'+n-1)), adminv1.EventStatus_EVENT_STATUS_DELIVERED)
	ask := &adminv1.ReplayEventsRequest{
		Filter: &adminv1.EventFilter{Source: "orders"}, PlanToken: p.planEvents(&adminv1.EventFilter{Source: "orders"}).GetPlanToken(), Reason: "a test", Rate: 20,
	}
	ask.Limit = 1
	if got := p.replayTriggers(ask); got.err != nil || got.last.GetProgress().GetReplayed() != 1 || got.last.GetDelivered() != 1 {
		t.Errorf("a trial: %v, %v; want one delivered", got.last, got.err)
	}
	p.sick.Store("warehouse", "the disk is full")
	ask.Limit, ask.MaxFailures = 0, 3
	got := p.replayTriggers(ask)
	if pr := got.last.GetProgress(); got.err != nil || got.last.GetDeadAgain() < 3 || pr.GetReplayed() >= n || !strings.Contains(pr.GetStoppedBecause(), "have failed") || !pr.GetDone() {
		t.Errorf("with a cause that isn't mended: %v, %v; want it stopped after 3 dead letters", got.last, got.err)
	}
	p.sick.Delete("warehouse")
	ask.MaxFailures, ask.Rate = 0, 1000
	if got := p.replayTriggers(ask); got.err != nil || got.last.GetProgress().GetReplayed() != n || got.last.GetDelivered() != n {
		t.Errorf("mended: %v, %v; want all delivered", got.last, got.err)
	}
}
