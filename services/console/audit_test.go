package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// Every action leaves a record of who, when, from where, what, why and how it
// ended; looking leaves none.
func TestEveryActionIsRecorded(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	p.dead("archive", "no space left", "evt-1")
	until(t, "the warehouse is served", func() bool { return !p.listDestinations()["warehouse"].GetUnserved() })
	order := &adminv1.Resource{Source: "orders", Resource: "order"}
	for name, act := range map[string]struct {
		do      func(reason string) error
		outcome adminv1.AuditOutcome
		request string // in the record
		result  string
	}{
		"SourceService.PauseSource": {func(reason string) error {
			_, err := p.sources.PauseSource(t.Context(), connect.NewRequest(&adminv1.PauseSourceRequest{Source: "orders", Reason: reason}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_DONE, `"source":"orders"`, "{}"},
		"SourceService.ResumeSource": {func(reason string) error {
			_, err := p.sources.ResumeSource(t.Context(), connect.NewRequest(&adminv1.ResumeSourceRequest{Source: "bills", Reason: reason}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED, `"source":"bills"`, "no enricher"},
		"ReconciliationService.RunReconciliation": {func(reason string) error {
			_, err := p.runs.RunReconciliation(t.Context(), connect.NewRequest(&adminv1.RunReconciliationRequest{Resource: order, DryRun: true, Reason: reason}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED, `"dryRun":true`, "no reconciler answers"},
		"ReconciliationService.PauseReconciliation": {func(reason string) error {
			_, err := p.runs.PauseReconciliation(t.Context(), connect.NewRequest(&adminv1.PauseReconciliationRequest{Resource: order, Reason: reason}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_DONE, `"resource":"order"`, "{}"},
		"ReconciliationService.ResumeReconciliation": {func(reason string) error {
			_, err := p.runs.ResumeReconciliation(t.Context(), connect.NewRequest(&adminv1.ResumeReconciliationRequest{Resource: &adminv1.Resource{Source: "nowhere"}, Reason: reason}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED, `"source":"nowhere"`, "none of that name"},
		"ReconciliationService.ResetReconciliation": {func(reason string) error {
			_, err := p.runs.ResetReconciliation(t.Context(), connect.NewRequest(&adminv1.ResetReconciliationRequest{Resource: order, Beginning: true, Reason: reason}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED, `"beginning":true`, "nothing of it has been reconciled"},
		"BackfillService.StartBackfill": {func(reason string) error {
			_, err := p.backfills.StartBackfill(t.Context(), connect.NewRequest(&adminv1.StartBackfillRequest{Resource: order, Rate: 7, Reason: reason}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED, `"rate":7`, "no reconciler answers"},
		"BackfillService.PauseBackfill": {func(reason string) error {
			_, err := p.backfills.PauseBackfill(t.Context(), connect.NewRequest(&adminv1.PauseBackfillRequest{Id: "b9", Reason: reason}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED, `"id":"b9"`, "no such backfill"},
		"BackfillService.ResumeBackfill": {func(reason string) error {
			_, err := p.backfills.ResumeBackfill(t.Context(), connect.NewRequest(&adminv1.ResumeBackfillRequest{Id: "b9", Reason: reason}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED, `"id":"b9"`, "no such backfill"},
		"BackfillService.CancelBackfill": {func(reason string) error {
			_, err := p.backfills.CancelBackfill(t.Context(), connect.NewRequest(&adminv1.CancelBackfillRequest{Id: "b9", Reason: reason}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED, `"id":"b9"`, "no such backfill"},
		"DestinationService.PauseDestination": {func(reason string) error {
			_, err := p.destinations.PauseDestination(t.Context(), connect.NewRequest(&adminv1.PauseDestinationRequest{Destination: "nobody", Reason: reason}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED, `"destination":"nobody"`, "no sink has served it"},
		"DestinationService.ResumeDestination": {func(reason string) error {
			_, err := p.destinations.ResumeDestination(t.Context(), connect.NewRequest(&adminv1.ResumeDestinationRequest{Destination: "warehouse", Reason: reason}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_DONE, `"destination":"warehouse"`, "{}"},
		"DeadLetterService.EditDeadLetter": {func(reason string) error {
			_, err := p.letters.EditDeadLetter(t.Context(), connect.NewRequest(&adminv1.EditDeadLetterRequest{
				Sequence: 1, Patch: `[{"op":"add","path":"/record/planted","value":1}]`, Reason: reason,
			}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_DONE, `"sequence":"1"`, `"edited":true`},
		"DeadLetterService.DiscardDeadLetters": {func(reason string) error {
			_, err := p.letters.DiscardDeadLetters(t.Context(), connect.NewRequest(&adminv1.DiscardDeadLettersRequest{
				Filter: &adminv1.DeadLetterFilter{Destination: "nobody"}, Expected: 1, Reason: reason,
			}))
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_DONE, `"destination":"nobody"`, "{}"},
		"DeadLetterService.ReplayDeadLetters": {func(reason string) error {
			filter := &adminv1.DeadLetterFilter{Destination: "nobody"}
			_, err := p.replayLetters(&adminv1.ReplayDeadLettersRequest{
				Filter: filter, PlanToken: p.planLetters(&adminv1.PlanDeadLetterReplayRequest{Filter: filter}).GetPlanToken(), Reason: reason,
			})
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_DONE, `"destination":"nobody"`, `"done":true`},
		"EventService.ReplayEvents": {func(reason string) error {
			_, err := p.replayEvents(t.Context(), &adminv1.ReplayEventsRequest{Filter: &adminv1.EventFilter{Source: "orders"}, PlanToken: "made up", Reason: reason})
			return err
		}, adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED, `"planToken":"made up"`, "plan again"},
	} {
		reason := "because of " + name
		if err := act.do(reason); (err != nil) != (act.outcome == adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED) {
			t.Errorf("%s: %v", name, err)
		}
		r := p.audit()[0]
		if r.GetMethod() != name || r.GetWho() != "olivia" || r.GetAddress() != "127.0.0.1" || r.GetReason() != reason || r.GetOutcome() != act.outcome ||
			!strings.Contains(r.GetRequest(), act.request) || !strings.Contains(r.GetResult(), act.result) || r.GetEndedAt().AsTime().Before(r.GetBegunAt().AsTime()) {
			t.Errorf("%s is recorded as %v", name, r)
		}
		if strings.Contains(fmt.Sprint(r), "planted") {
			t.Errorf("%s: contents of an event are in the record: %v", name, r)
		}
	}
	operators := 0
	for _, m := range contract(t) {
		if role(m) == adminv1.Role_ROLE_OPERATOR {
			operators++
		}
	}
	if got := p.audit(); len(got) != operators {
		t.Errorf("%d records, want one for each of the %d actions and none for looking", len(got), operators)
	}
	r := p.reader()
	r.signIn(viewerToken)
	shown := r.get("/audit").text
	for _, want := range []string{
		"<dt>plan token</dt><dd>made up</dd>", "plan again", "edited</dt><dd>true</dd>", "<dt>filter, destination</dt><dd>nobody</dd>",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("the page of audit records lacks %s", want)
		}
	}
	if strings.Contains(shown, "{&#34;") || strings.Contains(shown, "{}") {
		t.Error("the page of audit records shows messages as they are stored")
	}
	byMethod := func(req *adminv1.ListAuditRecordsRequest) int {
		resp, err := p.pipeline.ListAuditRecords(t.Context(), connect.NewRequest(req))
		if err != nil {
			t.Fatal(err)
		}
		return len(resp.Msg.GetRecords())
	}
	if byMethod(&adminv1.ListAuditRecordsRequest{Method: "SourceService.PauseSource"}) != 1 || byMethod(&adminv1.ListAuditRecordsRequest{Who: "victor"}) != 0 ||
		byMethod(&adminv1.ListAuditRecordsRequest{Since: timestamppb.Now()}) != 0 {
		t.Error("the records are not narrowed by method, who and since")
	}
}

// Who stops a replay on a page is recorded, and the replay's own record says so.
func TestStoppingAReplayIsRecorded(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t, func(c *consoleConfig, _ *consoleDeps) {
		c.Tokens["olga"] = pipeline.Token{Role: pipeline.Operator, Token: config.NewSecret("another operator's token of a test")}
	}))
	var ids []string
	for i := range 70 { // at one a second it is under way for longer than anything is waited for
		ids = append(ids, fmt.Sprint("evt-", i))
	}
	p.dead("archive", "no space left", ids...)
	p.sick.Delete("archive")
	plan := p.planLetters(&adminv1.PlanDeadLetterReplayRequest{Filter: &adminv1.DeadLetterFilter{Source: "orders"}})
	begins, stops := p.reader(), p.reader()
	begins.signIn(operatorToken)
	stops.signIn("another operator's token of a test")
	under := begins.do(http.MethodPost, "/dead-letters/replay", url.Values{
		"source": {"orders"}, "plan": {plan.GetPlanToken()}, "rate": {"1"}, "reason": {"there is space again"},
	})
	id, ok := strings.CutPrefix(under.path, "/replays/")
	if !ok {
		t.Fatalf("the replay began at %s (%d):\n%s", under.path, under.status, under.text)
	}
	if got := stops.do(http.MethodPost, "/replays/"+id+"/stop", url.Values{}); got.path != "/replays/"+id {
		t.Fatalf("it was stopped at %s (%d):\n%s", got.path, got.status, got.text)
	}
	until(t, "the replay's page says who stopped it", func() bool { return strings.Contains(begins.get("/replays/"+id).text, "stopped by olga") })
	var stop, replay *adminv1.AuditRecord
	until(t, "the end of both is recorded", func() bool {
		got := p.audit()
		if len(got) != 2 {
			t.Fatalf("%d records, want the replay and its stop:\n%v", len(got), got)
		}
		stop, replay = got[0], got[1]
		return replay.GetOutcome() != adminv1.AuditOutcome_AUDIT_OUTCOME_BEGUN
	})
	if stop.GetWho() != "olga" || stop.GetAddress() != "127.0.0.1" || stop.GetMethod() != "Pages.StopReplay" || stop.GetOutcome() != adminv1.AuditOutcome_AUDIT_OUTCOME_DONE ||
		!strings.Contains(stop.GetRequest(), id) || !strings.Contains(stop.GetRequest(), `"begunBy":"olivia"`) {
		t.Errorf("the stop is recorded as %v", stop)
	}
	if replay.GetWho() != "olivia" || replay.GetOutcome() != adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED || !strings.Contains(replay.GetResult(), "stopped by olga") {
		t.Errorf("the replay is recorded as %v", replay)
	}
	stops.do(http.MethodPost, "/replays/"+id+"/stop", url.Values{}) // it is over
	if got := p.audit(); len(got) != 2 {
		t.Errorf("%d records, want none of a stop that stopped nothing", len(got))
	}
}

// What can't be recorded isn't done.
func TestNothingIsDoneWithoutARecord(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	if err := p.js.DeleteStream(t.Context(), topology.StreamAudit); err != nil {
		t.Fatal(err)
	}
	_, err := p.sources.PauseSource(t.Context(), connect.NewRequest(&adminv1.PauseSourceRequest{Source: "orders", Reason: "a test"}))
	if connect.CodeOf(err) != connect.CodeUnavailable || reasonOf(err) != adminv1.Reason_REASON_NOT_RECORDED {
		t.Errorf("PauseSource without a stream for its record: %v, want REASON_NOT_RECORDED", err)
	}
	c, err := p.js.Consumer(t.Context(), topology.StreamRaw, topology.EnrichDurable("orders"))
	if err != nil {
		t.Fatal(err)
	}
	if c.CachedInfo().Paused {
		t.Error("the source was paused")
	}
}

// Why something is done must be said, and shortly.
func TestAnActionWantsAReason(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for name, reason := range map[string]string{"none": "", "blanks": " \t\n", "too long a one": strings.Repeat("x", 1001)} {
		a := f.post(operatorToken, "SourceService/PauseSource", fmt.Sprintf(`{"source":"orders","reason":%q}`, reason))
		if a.status != http.StatusBadRequest || a.reason != "REASON_INVALID_FIELD" || a.field != "reason" {
			t.Errorf("%s: %d %s, want to be asked for a reason", name, a.status, a.text)
		}
	}
	if n := f.messages(topology.StreamAudit); n != 0 {
		t.Errorf("%d records of what was not begun", n)
	}
}
