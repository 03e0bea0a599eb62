package console_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// dead stores triggers whose events a destination refuses, and waits for their
// letters.
func (p *pipe) dead(destination, why string, ids ...string) {
	p.Helper()
	before := p.messages(topology.StreamDLQ)
	p.sick.Store(destination, why)
	for _, id := range ids {
		p.store(trigger(id, "order.paid"), fmt.Sprintf(`{"id":%q,"amount":1,"card":"4000 0000 0000 0002"}`, id))
	}
	until(p, "the letters are there", func() bool { return p.messages(topology.StreamDLQ) == before+uint64(len(ids)) })
}

func (p *pipe) letter(sequence uint64) *adminv1.GetDeadLetterResponse {
	p.Helper()
	resp, err := p.letters.GetDeadLetter(p.Context(), connect.NewRequest(&adminv1.GetDeadLetterRequest{Sequence: sequence}))
	if err != nil {
		p.Fatal(err)
	}
	return resp.Msg
}

func (p *pipe) listLetters(f *adminv1.DeadLetterFilter, size uint32) (events []string) {
	p.Helper()
	token := ""
	for {
		resp, err := p.letters.ListDeadLetters(p.Context(), connect.NewRequest(&adminv1.ListDeadLettersRequest{Filter: f, PageSize: size, PageToken: token}))
		if err != nil {
			p.Fatal(err)
		}
		for _, l := range resp.Msg.GetDeadLetters() {
			events = append(events, l.GetAttributes().GetId())
		}
		if token = resp.Msg.GetNextPageToken(); token == "" {
			return events
		}
	}
}

func (p *pipe) planLetters(req *adminv1.PlanDeadLetterReplayRequest) *adminv1.ReplayPlan {
	p.Helper()
	resp, err := p.letters.PlanDeadLetterReplay(p.Context(), connect.NewRequest(req))
	if err != nil {
		p.Fatal(err)
	}
	return resp.Msg.GetPlan()
}

func (p *pipe) replayLetters(req *adminv1.ReplayDeadLettersRequest) (*adminv1.ReplayDeadLettersResponse, error) {
	p.Helper()
	stream, err := p.letters.ReplayDeadLetters(p.Context(), connect.NewRequest(req))
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	last := &adminv1.ReplayDeadLettersResponse{}
	for stream.Receive() {
		last = stream.Msg()
	}
	return last, stream.Err()
}

// A destination was down for two reasons. Each becomes a group, one is fixed:
// a dry run on one letter, then all of the group, which is closed by it.
func TestDeadLettersAreRepairedAsIncidents(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	p.dead("archive", "no space left on 10.0.0.7", "evt-1", "evt-2", "evt-3")
	p.dead("archive", "permission denied", "evt-4")
	groups, err := p.letters.ListDeadLetterGroups(t.Context(), connect.NewRequest(&adminv1.ListDeadLetterGroupsRequest{PageSize: 1}))
	if err != nil || len(groups.Msg.GetGroups()) != 1 || groups.Msg.GetNextPageToken() == "" {
		t.Fatalf("the first page of groups is %v, %v", groups.Msg, err)
	}
	groups, err = p.letters.ListDeadLetterGroups(t.Context(), connect.NewRequest(&adminv1.ListDeadLetterGroupsRequest{PageSize: 1, PageToken: groups.Msg.GetNextPageToken()}))
	if err != nil || len(groups.Msg.GetGroups()) != 1 || groups.Msg.GetNextPageToken() != "" {
		t.Fatalf("the second page of groups is %v, %v", groups.Msg, err)
	}
	g := groups.Msg.GetGroups()[0]
	if g.GetOpen() != 3 || g.GetTotal() != 3 || g.GetDestination() != "archive" || g.GetStage() != "deliver" || !strings.Contains(g.GetMessage(), "no space left") ||
		strings.Contains(g.GetMessage(), "10.0.0.7") || len(g.GetHourly()) != 24 || g.GetState() != adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_OPEN {
		t.Errorf("the group is %v", g)
	}
	for _, size := range []uint32{1, 2, 0} {
		if got := p.listLetters(&adminv1.DeadLetterFilter{Fingerprint: g.GetFingerprint()}, size); len(got) != 3 || slices.Contains(got, "evt-4") {
			t.Errorf("letters of the group, in pages of %d: %v", size, got)
		}
	}
	choose := &adminv1.PlanDeadLetterReplayRequest{Filter: &adminv1.DeadLetterFilter{Fingerprint: g.GetFingerprint()}}
	plan := p.planLetters(choose)
	p.dead("archive", "no space left on 10.0.0.9", "evt-5") // after the plan
	p.sick.Delete("archive")                                // fixed
	if plan.GetCount() != 3 || len(plan.GetDestinations()) != 1 || plan.GetDestinations()[0].GetDestination() != "archive" || plan.GetDestinations()[0].GetVersioned() {
		t.Errorf("the plan is %v", plan)
	}
	req := &adminv1.ReplayDeadLettersRequest{Filter: choose.GetFilter(), PlanToken: plan.GetPlanToken(), Limit: 1, Rate: 1000, Reason: "there is space again"}
	last, err := p.replayLetters(req)
	if err != nil || last.GetProgress().GetReplayed() != 1 || last.GetDelivered() != 1 || !last.GetProgress().GetDone() {
		t.Fatalf("the dry run on one: %v, %v", last, err)
	}
	req.Limit = 0
	last, err = p.replayLetters(req)
	if err != nil || last.GetProgress().GetReplayed() != 2 || last.GetDelivered() != 2 || last.GetDeadAgain() != 0 {
		t.Fatalf("the rest: %v, %v", last, err)
	}
	groups, err = p.letters.ListDeadLetterGroups(t.Context(), connect.NewRequest(&adminv1.ListDeadLetterGroupsRequest{Filter: choose.GetFilter()}))
	if err != nil || len(groups.Msg.GetGroups()) != 1 || groups.Msg.GetGroups()[0].GetOpen() != 1 {
		t.Errorf("afterwards the group is %v, %v; want what came after the plan open", groups.Msg.GetGroups(), err)
	}
	if plan = p.planLetters(choose); plan.GetCount() != 1 || plan.GetReplayedBefore() != 3 {
		t.Errorf("the next plan is %v, want to hear what was replayed", plan)
	}
	if last, err = p.replayLetters(&adminv1.ReplayDeadLettersRequest{Filter: choose.GetFilter(), PlanToken: plan.GetPlanToken(), Reason: "the last one"}); err != nil || last.GetDelivered() != 1 {
		t.Fatalf("the last one: %v, %v", last, err)
	}
	groups, err = p.letters.ListDeadLetterGroups(t.Context(), connect.NewRequest(&adminv1.ListDeadLetterGroupsRequest{Filter: choose.GetFilter()}))
	if err != nil || groups.Msg.GetGroups()[0].GetState() != adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_WATCHED {
		t.Errorf("in the end the group is %v, %v", groups.Msg.GetGroups(), err)
	}
}

// A replay stops when its messages die again, before all are sent.
func TestAReplayOfLettersStopsWhenErrorsComeBack(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	var ids []string
	for i := range 40 {
		ids = append(ids, fmt.Sprintf("evt-%d", i))
	}
	p.dead("archive", "no space left", ids...)
	choose := &adminv1.PlanDeadLetterReplayRequest{Filter: &adminv1.DeadLetterFilter{Source: "orders"}}
	last, err := p.replayLetters(&adminv1.ReplayDeadLettersRequest{
		Filter: choose.GetFilter(), PlanToken: p.planLetters(choose).GetPlanToken(), Rate: 10, MaxFailures: 2, Reason: "a hope",
	})
	if err != nil || last.GetProgress().GetStoppedBecause() == "" || last.GetDeadAgain() < 2 || last.GetProgress().GetReplayed() >= 40 {
		t.Errorf("the replay ended with %v, %v; want it stopped", last, err)
	}
}

// A letter is shown, edited and discarded; what is redacted is nowhere.
func TestALetterIsShownEditedAndDiscarded(t *testing.T) {
	t.Parallel()
	const secret = "4000 0000 0000 0002"
	p := setupPipe(setup(t))
	p.dead("archive", "card "+secret+" is refused", "evt-1", "evt-2")
	one := p.letter(1)
	if l := one.GetDeadLetter(); l.GetState() != adminv1.DeadLetterState_DEAD_LETTER_STATE_OPEN || l.GetStage() != "deliver" || l.GetName() != "archive" ||
		l.GetFingerprint() == "" || l.GetAttempts() != 1 || l.GetErrorClass() != "permanent" || !one.GetRedacted() {
		t.Errorf("the letter is %v", one)
	}
	list, err := p.letters.ListDeadLetters(t.Context(), connect.NewRequest(&adminv1.ListDeadLettersRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	groups, err := p.letters.ListDeadLetterGroups(t.Context(), connect.NewRequest(&adminv1.ListDeadLetterGroupsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(patch string, dry bool) (*adminv1.EditDeadLetterResponse, error) {
		resp, err := p.letters.EditDeadLetter(t.Context(), connect.NewRequest(&adminv1.EditDeadLetterRequest{
			Sequence: 1, Patch: patch, DryRun: dry, Reason: "the amount was wrong",
		}))
		if err != nil {
			return nil, err
		}
		return resp.Msg, nil
	}
	const patch = `[{"op":"replace","path":"/record/amount","value":12345678901234567890},{"op":"copy","from":"/record/card","path":"/record/copied"}]`
	dry, err := edit(patch, true)
	if err != nil {
		t.Fatal(err)
	}
	var changes []string
	for _, c := range dry.GetChanges() {
		changes = append(changes, c.GetPath()+" "+c.GetBefore()+" "+c.GetAfter())
	}
	if got := strings.Join(changes, "; "); !strings.Contains(got, "/record/amount 1 12345678901234567890") || len(changes) != 2 {
		t.Errorf("the changes are %s", got)
	}
	if p.letter(1).GetDeadLetter().GetEdited() {
		t.Error("a dry run was kept")
	}
	kept, err := edit(patch, false)
	if err != nil || !kept.GetDeadLetter().GetEdited() {
		t.Fatalf("the edit: %v, %v", kept, err)
	}
	shown := p.letter(1)
	if !strings.Contains(string(shown.GetEditedPayload()), "12345678901234567890") || strings.Contains(string(shown.GetPayload()), "12345678901234567890") || shown.GetPatch() == "" {
		t.Errorf("the letter with its edit is %v", shown)
	}
	for _, bad := range []string{"[", `{"op":"add"}`, `[{"op":"remove","path":"/nowhere"}]`, `[{"op":"fly","path":"/record"}]`} {
		if _, err := edit(bad, false); connect.CodeOf(err) != connect.CodeInvalidArgument || reasonOf(err) != adminv1.Reason_REASON_INVALID_FIELD {
			t.Errorf("the patch %s: %v, want REASON_INVALID_FIELD", bad, err)
		}
	}
	discard := func(expected uint32) (*adminv1.DiscardDeadLettersResponse, error) {
		resp, err := p.letters.DiscardDeadLetters(t.Context(), connect.NewRequest(&adminv1.DiscardDeadLettersRequest{
			Filter: &adminv1.DeadLetterFilter{Destination: "archive"}, Expected: expected, Reason: "tests of the shop",
		}))
		if err != nil {
			return nil, err
		}
		return resp.Msg, nil
	}
	if _, err := discard(1); reasonOf(err) != adminv1.Reason_REASON_TOO_MANY {
		t.Errorf("discarding more than was expected: %v, want REASON_TOO_MANY", err)
	}
	if p.letter(2).GetDeadLetter().GetState() != adminv1.DeadLetterState_DEAD_LETTER_STATE_OPEN {
		t.Error("it was discarded nevertheless")
	}
	if resp, err := discard(2); err != nil || resp.GetDiscarded() != 2 {
		t.Errorf("discarding: %v, %v", resp, err)
	}
	if l := p.letter(2).GetDeadLetter(); l.GetState() != adminv1.DeadLetterState_DEAD_LETTER_STATE_DISCARDED || l.GetDiscardReason() != "tests of the shop" || l.GetDiscardedAt() == nil {
		t.Errorf("the discarded letter is %v", l)
	}
	if got := p.listLetters(&adminv1.DeadLetterFilter{State: []adminv1.DeadLetterState{adminv1.DeadLetterState_DEAD_LETTER_STATE_OPEN}}, 0); len(got) != 0 {
		t.Errorf("open letters: %v", got)
	}
	event, err := p.events.GetEvent(t.Context(), connect.NewRequest(&adminv1.GetEventRequest{Id: "evt-1"}))
	if err != nil {
		t.Fatal(err)
	}
	timeline, err := p.events.TraceEvent(t.Context(), connect.NewRequest(&adminv1.TraceEventRequest{Id: "evt-1"}))
	if err != nil {
		t.Fatal(err)
	}
	everything := fmt.Sprint(one, list.Msg, groups.Msg, dry, kept, shown, event.Msg, timeline.Msg, p.audit(), p.log)
	if strings.Contains(everything, secret) {
		t.Error("what the source's rules leave out was shown")
	}
	if !strings.Contains(everything, "redacted") || strings.Contains(fmt.Sprint(p.audit()), "/record/amount") {
		t.Errorf("want a mark where it was, and no patch in the audit records:\n%s", fmt.Sprint(p.audit()))
	}
}

func TestLettersThatArentThere(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	_, err := p.letters.GetDeadLetter(t.Context(), connect.NewRequest(&adminv1.GetDeadLetterRequest{Sequence: 7}))
	if connect.CodeOf(err) != connect.CodeNotFound || reasonOf(err) != adminv1.Reason_REASON_NOT_FOUND {
		t.Errorf("GetDeadLetter: %v, want REASON_NOT_FOUND", err)
	}
	_, err = p.letters.EditDeadLetter(t.Context(), connect.NewRequest(&adminv1.EditDeadLetterRequest{Sequence: 7, Patch: "[]", Reason: "a test"}))
	if reasonOf(err) != adminv1.Reason_REASON_NOT_FOUND {
		t.Errorf("EditDeadLetter: %v, want REASON_NOT_FOUND", err)
	}
	for name, req := range map[string]*adminv1.ReplayDeadLettersRequest{
		"no plan":                 {},
		"a watch without an end":  {Watch: durationpb.New(time.Hour)},
		"an unknown destination":  {Destinations: []string{"moon"}},
		"a rate beyond the bound": {Rate: 1_000_000},
	} {
		req.Reason = "a test"
		if req.PlanToken == "" && name != "no plan" {
			req.PlanToken = p.planLetters(&adminv1.PlanDeadLetterReplayRequest{}).GetPlanToken()
		}
		want := adminv1.Reason_REASON_INVALID_FIELD
		if name == "no plan" {
			want = adminv1.Reason_REASON_INVALID_PLAN
		}
		if _, err := p.replayLetters(req); reasonOf(err) != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

func (p *pipe) groups(req *adminv1.ListDeadLetterGroupsRequest) *adminv1.ListDeadLetterGroupsResponse {
	p.Helper()
	resp, err := p.letters.ListDeadLetterGroups(p.Context(), connect.NewRequest(req))
	if err != nil {
		p.Fatal(err)
	}
	return resp.Msg
}

func (p *pipe) discard(sequence uint64) {
	p.Helper()
	if _, err := p.letters.DiscardDeadLetters(p.Context(), connect.NewRequest(&adminv1.DiscardDeadLettersRequest{
		Filter: &adminv1.DeadLetterFilter{Sequence: []uint64{sequence}}, Expected: 1, Reason: "a test",
	})); err != nil {
		p.Fatal(err)
	}
}

// However many closed causes have later letters, the open one is on the first page
// of those that are not closed.
func TestAnOpenCauseIsNotBehindClosedOnes(t *testing.T) {
	t.Parallel()
	now := newClock()
	p := setupPipe(setup(t, func(_ *consoleConfig, d *consoleDeps) { d.Now = now.read }))
	p.dead("archive", "the first cause", "evt-1")
	for i, why := range []string{"the second cause", "the third cause"} {
		p.dead("archive", why, fmt.Sprint("evt-", i+2))
		p.discard(uint64(i + 2))
	}
	now.add(2 * time.Hour)
	unclosed := []adminv1.DeadLetterGroupState{
		adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_OPEN, adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_WATCHED,
	}
	got := p.groups(&adminv1.ListDeadLetterGroupsRequest{State: unclosed, PageSize: 1})
	if len(got.GetGroups()) != 1 || !strings.Contains(got.GetGroups()[0].GetMessage(), "the first cause") || got.GetNextPageToken() != "" {
		t.Errorf("those that aren't closed: %v, want the first cause alone", got)
	}
	if got = p.groups(&adminv1.ListDeadLetterGroupsRequest{PageSize: 1}); len(got.GetGroups()) != 1 || !strings.Contains(got.GetGroups()[0].GetMessage(), "the third cause") ||
		got.GetNextPageToken() == "" {
		t.Errorf("all of them begin with %v, want the latest", got)
	}
	r := p.reader()
	r.signIn(viewerToken)
	for path, want := range map[string]string{"/dead-letters": "first", "/dead-letters?all=1": "first second third"} {
		var shown []string
		for _, cause := range []string{"first", "second", "third"} {
			if strings.Contains(r.get(path).text, "the "+cause+" cause") {
				shown = append(shown, cause)
			}
		}
		if got := strings.Join(shown, " "); got != want {
			t.Errorf("%s shows the causes %q, want %q", path, got, want)
		}
	}
	_, err := p.letters.ListDeadLetterGroups(t.Context(), connect.NewRequest(&adminv1.ListDeadLetterGroupsRequest{
		State: []adminv1.DeadLetterGroupState{99},
	}))
	if infoOf(err).GetField() != "state" {
		t.Errorf("a state that there isn't: %v", err)
	}
}

// All who look at groups share one reading of the letters, until something has
// come or was done.
func TestGroupsAreMadeOnceForAllWhoLook(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	p.dead("archive", "no space left", "evt-1", "evt-2")
	scans := p.asked("CONSUMER.CREATE.TERCEL_DLQ.>")
	open := func() uint64 {
		t.Helper()
		all := p.groups(&adminv1.ListDeadLetterGroupsRequest{}).GetGroups()
		if len(all) != 1 {
			t.Fatalf("groups are %v", all)
		}
		return all[0].GetOpen()
	}
	if n := open(); n != 2 {
		t.Errorf("%d letters are open, want 2", n)
	}
	before := scans()
	for range 10 {
		open()
	}
	if n := scans() - before; n != 0 {
		t.Errorf("the letters were read %d times more, although nothing had changed", n)
	}
	p.discard(1)
	if n := open(); n != 1 {
		t.Errorf("once one was discarded %d are open, want 1", n)
	}
	p.dead("archive", "no space left", "evt-3")
	until(t, "the next letter is told", func() bool { return open() == 2 })
}
