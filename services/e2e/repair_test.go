package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
)

// tercel runs the program against the shop's console and returns what it printed
// and how it ended.
func (s *brokenShop) tercel(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, program(t, "tercel"), append(args, "--api", s.console)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("tercel %s: %v", strings.Join(args, " "), err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// lines reads what a command prints with --json, one message a line.
func lines[M proto.Message](t *testing.T, text string, made func() M) (all []M) {
	t.Helper()
	scan := bufio.NewScanner(strings.NewReader(text))
	for scan.Scan() {
		m := made()
		if err := protojson.Unmarshal(scan.Bytes(), m); err != nil {
			t.Fatalf("%v in %s", err, scan.Text())
		}
		all = append(all, m)
	}
	return all
}

// The whole story by the command line: what a person types, and what a program
// reads with --json.
func TestAnOperatorRepairsADestinationByTheCommandLine(t *testing.T) {
	t.Parallel()
	shop := startBrokenShop(t)
	groups := func() []*adminv1.DeadLetterGroup {
		out, errs, code := shop.tercel(t, "dlq", "groups", "--all", "--json")
		if code != 0 {
			t.Fatalf("dlq groups: exit %d\n%s", code, errs)
		}
		return lines(t, out, func() *adminv1.DeadLetterGroup { return &adminv1.DeadLetterGroup{} })
	}
	eventually(t, 2*time.Minute, "two groups of 250", func() error { return twoGroups(groups(), 250) })
	out, _, _ := shop.tercel(t, "dlq", "groups")
	if !strings.Contains(out, "status 400") || !strings.Contains(out, "status 422") || strings.Contains(out, "\x1b") {
		t.Errorf("the groups for people:\n%s", out)
	}
	if out, errs, code := shop.tercel(t, "event", "trace", "evt-000"); code != 0 || !strings.Contains(out, "dead letter") || !strings.Contains(out, "archive") {
		t.Errorf("what happened to one: exit %d\n%s%s", code, out, errs)
	}

	// Nothing is mended: the trial of one comes back, and the rest stays.
	first := groups()[0].GetFingerprint()
	out, errs, code := shop.tercel(t, "dlq", "replay", "--group", first, "--limit", "1", "--reason", "is it mended?")
	if code != 1 || !strings.Contains(errs, "plan: 250 messages") || !strings.Contains(errs, "to: crm 250\n") || strings.Contains(errs, "archive") ||
		!strings.Contains(out, "0 delivered, 1 dead again") {
		t.Errorf("a trial of what isn't mended: exit %d\n%s%s", code, out, errs)
	}
	// Whoever can't be asked is told what to say.
	if _, errs, code := shop.tercel(t, "dlq", "replay", "--group", first); code != 2 || !strings.Contains(errs, "Replay 250 messages?") || !strings.Contains(errs, "--yes") {
		t.Errorf("without a terminal: exit %d\n%s", code, errs)
	}
	shop.crm.mended.Store(true)
	for _, g := range groups() {
		shop.repairGroup(t, g.GetFingerprint())
	}
	shop.hasAll(t)
	if err := dealtWith(groups()); err != nil {
		t.Error(err)
	}
	out, errs, code = shop.tercel(t, "audit", "list", "--method", "DeadLetterService.ReplayDeadLetters")
	if code != 0 || strings.Count(out, "the column is there again") != 4 || strings.Count(out, "is it mended?") != 1 {
		t.Errorf("the audit: exit %d\n%s%s", code, out, errs)
	}
}

// repairGroup tries one letter of a group, and then sends the others.
func (s *brokenShop) repairGroup(t *testing.T, group string) {
	t.Helper()
	out, errs, code := s.tercel(t, "dlq", "replay", "--group", group, "--limit", "1", "--reason", "the column is there again")
	if code != 0 || out != "1/1 sent, 1 delivered, 0 dead again\n" {
		t.Errorf("a trial: exit %d\n%s%s", code, out, errs)
	}
	out, errs, code = s.tercel(t, "dlq", "replay", "--group", group, "--rate", "200", "--yes", "--json", "--reason", "the column is there again")
	plan, told, _ := strings.Cut(out, "\n")
	var planned adminv1.ReplayPlan
	if err := protojson.Unmarshal([]byte(plan), &planned); err != nil || planned.GetCount() != 249 && planned.GetCount() != 250 {
		t.Errorf("the plan is %s, %v", plan, err)
	}
	progress := lines(t, told, func() *adminv1.ReplayDeadLettersResponse { return &adminv1.ReplayDeadLettersResponse{} })
	last := progress[len(progress)-1]
	if code != 0 || len(progress) < 3 || !last.GetProgress().GetDone() || last.GetDelivered() != planned.GetCount() || last.GetDeadAgain() != 0 {
		t.Errorf("all of it: exit %d after %d messages, the last of which is %v\n%s", code, len(progress), last, errs)
	}
}

// twoGroups reports whether there aren't two groups of so many open letters.
func twoGroups(groups []*adminv1.DeadLetterGroup, each uint64) error {
	if len(groups) != 2 || groups[0].GetOpen() != each || groups[1].GetOpen() != each {
		return fmt.Errorf("there are %v", groups)
	}
	return nil
}

// dealtWith reports whether some group isn't. They are closed once they were quiet
// for a while.
func dealtWith(groups []*adminv1.DeadLetterGroup) error {
	for _, g := range groups {
		if g.GetOpen() != 0 || g.GetState() != adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_WATCHED {
			return fmt.Errorf("group %v isn't dealt with", g)
		}
	}
	return nil
}

// The whole story by the API alone, as a program in any language has it: HTTP and
// JSON, and Connect's clients for what is a stream.
func TestAnOperatorRepairsADestinationByTheAPI(t *testing.T) {
	t.Parallel()
	shop := startBrokenShop(t)
	letters := adminv1connect.NewDeadLetterServiceClient(http.DefaultClient, shop.console, connect.WithProtoJSON())
	groups := func() []*adminv1.DeadLetterGroup {
		resp := &adminv1.ListDeadLetterGroupsResponse{}
		shop.post(t, "DeadLetterService/ListDeadLetterGroups", `{}`, resp)
		return resp.GetGroups()
	}
	eventually(t, 2*time.Minute, "two groups of 250", func() error { return twoGroups(groups(), 250) })
	traced := &adminv1.TraceEventResponse{}
	shop.post(t, "EventService/TraceEvent", `{"id": "evt-000"}`, traced)
	if traced.GetStatus() != adminv1.EventStatus_EVENT_STATUS_DEAD_LETTER {
		t.Errorf("what happened to one: %v", traced)
	}
	replay := func(group string, limit uint32) *adminv1.ReplayDeadLettersResponse {
		filter := &adminv1.DeadLetterFilter{Fingerprint: group, State: []adminv1.DeadLetterState{adminv1.DeadLetterState_DEAD_LETTER_STATE_OPEN}}
		plan, err := letters.PlanDeadLetterReplay(t.Context(), connect.NewRequest(&adminv1.PlanDeadLetterReplayRequest{Filter: filter}))
		if err != nil {
			t.Fatal(err)
		}
		p := plan.Msg.GetPlan()
		if d := p.GetDestinations(); p.GetCount() < 249 || p.GetOldest() == nil || len(d) != 1 || d[0].GetDestination() != "crm" {
			t.Errorf("the plan is %v", p)
		}
		stream, err := letters.ReplayDeadLetters(t.Context(), connect.NewRequest(&adminv1.ReplayDeadLettersRequest{
			Filter: filter, PlanToken: p.GetPlanToken(), Limit: limit, Rate: 200, Watch: durationpb.New(time.Minute), Reason: "by the API",
		}))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stream.Close() }()
		last := &adminv1.ReplayDeadLettersResponse{}
		for stream.Receive() {
			last = proto.CloneOf(stream.Msg())
		}
		if err := stream.Err(); err != nil || !last.GetProgress().GetDone() {
			t.Fatalf("it ended with %v, %v", last, err)
		}
		return last
	}
	if last := replay(groups()[0].GetFingerprint(), 1); last.GetDeadAgain() != 1 || last.GetDelivered() != 0 {
		t.Errorf("a trial of what isn't mended: %v", last)
	}
	shop.crm.mended.Store(true)
	for _, g := range groups() {
		if last := replay(g.GetFingerprint(), 1); last.GetDelivered() != 1 || last.GetDeadAgain() != 0 {
			t.Errorf("a trial: %v", last)
		}
		if last := replay(g.GetFingerprint(), 0); last.GetDelivered() != last.GetProgress().GetPlanned() || last.GetDeadAgain() != 0 {
			t.Errorf("all of it: %v", last)
		}
	}
	shop.hasAll(t)
	if err := dealtWith(groups()); err != nil {
		t.Error(err)
	}
	audit := &adminv1.ListAuditRecordsResponse{}
	shop.post(t, "PipelineService/ListAuditRecords", `{"method": "DeadLetterService.ReplayDeadLetters"}`, audit)
	if n := len(audit.GetRecords()); n != 5 || audit.GetRecords()[0].GetReason() != "by the API" {
		t.Errorf("%d records of what was done, want 5", n)
	}
}

// post calls a method with a JSON text.
func (s *brokenShop) post(t *testing.T, method, body string, into proto.Message) {
	t.Helper()
	resp, err := http.Post(s.console+"/tercel.admin.v1."+method, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var text json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&text); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s, %v", method, resp.Status, text, err)
	}
	if err := protojson.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
}
