package console_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/report"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/control"
)

// A backfill is told with all its accounts and what holds it up, and what the
// API asks a reconciler for is what its caller asked for.
func TestBackfills(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	ctx := t.Context()
	get := func(id string) (*adminv1.GetBackfillResponse, error) {
		resp, err := p.backfills.GetBackfill(ctx, connect.NewRequest(&adminv1.GetBackfillRequest{Id: id}))
		if err != nil {
			return nil, err
		}
		return resp.Msg, nil
	}
	if _, err := get("b1"); reasonOf(err) != adminv1.Reason_REASON_NOT_FOUND {
		t.Errorf("one that isn't there: %v", err)
	}
	if _, err := get(strings.Repeat("b", 2000)); infoOf(err).GetField() != "id" {
		t.Errorf("a long id: %v", err)
	}
	store, err := cursor.OpenBackfills(ctx, p.js)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	for _, b := range []cursor.Backfill{
		{ID: "b1", Source: "orders", Resource: "order", Accounts: 2, Slices: 1, Rate: 100, State: cursor.Running, StartedAt: begun, To: begun},
		{ID: "b0", Source: "orders", Resource: "order", Accounts: 1, State: cursor.Ended, StartedAt: begun.Add(-time.Hour), EndedAt: begun, To: begun},
	} {
		if _, err := store.Save(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	for account, done := range map[string]bool{"north": true, "south": false} {
		st := cursor.Stretch{Account: account, Run: "run-" + account, To: begun, Slices: []cursor.Window{{Pages: 3, Share: 0.5, Done: done, Counts: report.Counts{Listed: 20, Missed: 4, Repaired: 4}}}}
		if done {
			st.EndedAt, st.Complete = begun, true
		} else {
			st.Error, st.RetryAt = "status 503", begun
		}
		if _, err := store.SaveStretch(ctx, "b1", st); err != nil {
			t.Fatal(err)
		}
	}
	all := &adminv1.Resource{Source: "orders"}
	if _, err := p.runs.PauseReconciliation(ctx, connect.NewRequest(&adminv1.PauseReconciliationRequest{Resource: all, Reason: "a test"})); err != nil {
		t.Fatal(err)
	}
	got, err := get("b1")
	if err != nil {
		t.Fatal(err)
	}
	b := got.GetBackfill()
	if b.GetCounts()["listed"] != 40 || b.GetCounts()["repaired"] != 8 || b.GetPages() != 6 || b.GetShare() != 0.75 || b.GetAccountsDone() != 1 || b.GetComplete() ||
		b.GetState() != adminv1.BackfillState_BACKFILL_STATE_RUNNING || b.GetEndedAt() != nil || b.GetWorked().AsDuration() < time.Minute || b.GetLeft().AsDuration() == 0 ||
		!slices.ContainsFunc(b.GetReasons(), func(s string) bool { return strings.Contains(s, "status 503") }) ||
		!slices.ContainsFunc(b.GetReasons(), func(s string) bool { return strings.Contains(s, "reconciliation of orders is paused") }) {
		t.Errorf("the backfill is %v", b)
	}
	if a := got.GetAccounts(); len(a) != 2 || a[0].GetAccount() != "north" || a[0].GetEndedAt() == nil || a[1].GetError() != "status 503" || a[1].GetCounts()["missed"] != 4 {
		t.Errorf("its accounts are %v", a)
	}
	for active, want := range map[bool]string{false: "b0 b1", true: "b1"} {
		resp, err := p.backfills.ListBackfills(ctx, connect.NewRequest(&adminv1.ListBackfillsRequest{ActiveOnly: active}))
		var ids []string
		for _, b := range resp.Msg.GetBackfills() {
			ids = append(ids, b.GetId())
		}
		if err != nil || strings.Join(ids, " ") != want {
			t.Errorf("active only %t: %v, %v, want %s", active, ids, err, want)
		}
	}
	paused, err := p.backfills.PauseBackfill(ctx, connect.NewRequest(&adminv1.PauseBackfillRequest{Id: "b1", Reason: "a test"})) // no reconciler runs
	if err != nil || paused.Msg.GetBackfill().GetState() != adminv1.BackfillState_BACKFILL_STATE_PAUSED || paused.Msg.GetBackfill().GetPages() != 6 {
		t.Errorf("paused: %v, %v", paused, err)
	}
	if stored, err := store.Load(ctx, "b1"); err != nil || stored.State != cursor.Paused {
		t.Errorf("it is stored as %s, %v", stored.State, err)
	}
	over := cursor.Backfill{ID: "over", Source: "orders", Resource: "order", State: cursor.Ended, StartedAt: time.Now(), EndedAt: time.Now(), To: time.Now()}
	if _, err := store.Save(ctx, over); err != nil {
		t.Fatal(err)
	}
	_, err = p.backfills.PauseBackfill(ctx, connect.NewRequest(&adminv1.PauseBackfillRequest{Id: "over", Reason: "a test"}))
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || reasonOf(err) != adminv1.Reason_REASON_ALREADY_DONE {
		t.Errorf("to pause one that has ended = %v, want that there is nothing to pause", err)
	}
	if _, err := p.backfills.PauseBackfill(ctx, connect.NewRequest(&adminv1.PauseBackfillRequest{Id: "b9", Reason: "a test"})); reasonOf(err) != adminv1.Reason_REASON_NOT_FOUND {
		t.Errorf("pause of what isn't there: %v", err)
	}
	p.asksForBackfills()
}

// asksForBackfills plays the reconciler and looks what it is asked for.
func (p *pipe) asksForBackfills() {
	p.Helper()
	asked := make(chan control.BackfillRequest, 1)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- control.ServeBackfills(ctx, p.nc, func(_ context.Context, r control.BackfillRequest) (cursor.Backfill, error) {
			select {
			case asked <- r:
			default:
			}
			switch r.Resource {
			case "moon":
				return cursor.Backfill{}, fmt.Errorf("%w %q", control.ErrUnknown, r.Resource)
			case "busy":
				return cursor.Backfill{}, fmt.Errorf("%w: b1", control.ErrRunning)
			case "timeless":
				return cursor.Backfill{}, fmt.Errorf("%w: no filter", control.ErrRange)
			}
			return cursor.Backfill{ID: "b1", Source: "orders", Resource: "order", State: cursor.Paused, StartedAt: time.Now(), To: time.Now()}, nil
		})
	}()
	p.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			p.Error(err)
		}
	})
	from := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	start := func(resource string) error {
		_, err := p.backfills.StartBackfill(p.Context(), connect.NewRequest(&adminv1.StartBackfillRequest{
			Resource: &adminv1.Resource{Source: "orders", Account: "north", Resource: resource}, From: timestamppb.New(from), To: timestamppb.New(from.Add(time.Hour)),
			Slices: 3, Rate: 7, DryRun: true, Reason: "a test",
		}))
		return err
	}
	until(p, "a backfill is begun", func() bool { return start("order") == nil })
	want := control.BackfillRequest{
		Action: control.Start, Source: "orders", Account: "north", Resource: "order", From: from, To: from.Add(time.Hour), Slices: 3, Rate: 7, DryRun: true,
	}
	if got := <-asked; got != want {
		p.Errorf("asked for %+v, want %+v", got, want)
	}
	for resource, reason := range map[string]adminv1.Reason{
		"moon": adminv1.Reason_REASON_NOT_FOUND, "busy": adminv1.Reason_REASON_RUNNING, "timeless": adminv1.Reason_REASON_INVALID_FIELD, "": adminv1.Reason_REASON_INVALID_FIELD,
	} {
		if err := start(resource); reasonOf(err) != reason {
			p.Errorf("of %q: %v, want %s", resource, err, reason)
		}
	}
	for action, do := range map[control.Action]func(id string) error{
		control.Resume: func(id string) error {
			_, err := p.backfills.ResumeBackfill(p.Context(), connect.NewRequest(&adminv1.ResumeBackfillRequest{Id: id, Reason: "a test"}))
			return err
		},
		control.Cancel: func(id string) error {
			_, err := p.backfills.CancelBackfill(p.Context(), connect.NewRequest(&adminv1.CancelBackfillRequest{Id: id, Reason: "a test"}))
			return err
		},
	} {
		if len(asked) > 0 {
			<-asked
		}
		if err := do("b1"); err != nil {
			p.Errorf("%s: %v", action, err)
			continue
		}
		if got := <-asked; got.Action != action || got.ID != "b1" {
			p.Errorf("asked for %+v, want to %s it", got, action)
		}
		if err := do("b9"); reasonOf(err) != adminv1.Reason_REASON_NOT_FOUND {
			p.Errorf("%s of what isn't there: %v", action, err)
		}
	}
}

// listDestinations lists destinations by name.
func (p *pipe) listDestinations() map[string]*adminv1.Destination {
	p.Helper()
	resp, err := p.destinations.ListDestinations(p.Context(), connect.NewRequest(&adminv1.ListDestinationsRequest{}))
	if err != nil {
		p.Fatal(err)
	}
	byName := map[string]*adminv1.Destination{}
	for _, d := range resp.Msg.GetDestinations() {
		byName[d.GetName()] = d
	}
	return byName
}

// Destinations are told with what waits for them, and paused and resumed.
func TestDestinations(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	list := p.listDestinations
	until(t, "both are served", func() bool { return !list()["warehouse"].GetUnserved() && !list()["archive"].GetUnserved() })
	all := list()
	if d := all["warehouse"]; d.GetKind() != "sqlite" || !d.GetVersioned() || d.GetPausedUntil() != nil {
		t.Errorf("the warehouse is %v", d)
	}
	if d := all["archive"]; d.GetKind() != "files" || d.GetVersioned() || strings.Join(d.GetSubjects(), " ") != "tercel.enriched.orders.>" {
		t.Errorf("the archive is %v", d)
	}
	if d := all["nobody"]; !d.GetUnserved() {
		t.Errorf("what no sink serves is %v", d)
	}
	pause := func(name string) error {
		_, err := p.destinations.PauseDestination(t.Context(), connect.NewRequest(&adminv1.PauseDestinationRequest{Destination: name, Reason: "it is being moved"}))
		return err
	}
	if err := pause("warehouse"); err != nil {
		t.Fatal(err)
	}
	p.store(trigger("evt-1", "order.paid"), `{}`)
	until(t, "an event waits", func() bool { return list()["warehouse"].GetPending() == 1 })
	if d := list()["warehouse"]; d.GetPausedUntil() == nil || !d.GetPausedUntilResumed() {
		t.Errorf("the paused one is %v", d)
	}
	_, err := p.destinations.ResumeDestination(t.Context(), connect.NewRequest(&adminv1.ResumeDestinationRequest{Destination: "warehouse", Reason: "it was moved"}))
	if err != nil {
		t.Fatal(err)
	}
	p.awaitStatus("evt-1", adminv1.EventStatus_EVENT_STATUS_DELIVERED)
	if err := pause("wharehouse"); reasonOf(err) != adminv1.Reason_REASON_NOT_FOUND || !strings.Contains(err.Error(), "there are: archive, nobody, warehouse") {
		t.Errorf("one that isn't there: %v", err)
	}
	if err := pause("nobody"); reasonOf(err) != adminv1.Reason_REASON_NOBODY_ANSWERS {
		t.Errorf("one that no sink has served: %v", err)
	}
	records := p.audit()
	if len(records) != 4 || records[2].GetMethod() != "DestinationService.ResumeDestination" || records[3].GetReason() != "it is being moved" {
		t.Errorf("the audit has %v", records)
	}
}

// Findings are listed newest first, page by page.
func TestFindings(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	for i := range 3 {
		f := report.Finding{At: time.Now(), Kind: report.StreamPurged, Name: "TERCEL_RAW", Count: i, Detail: "messages were deleted", Repaired: i == 1}
		if err := report.PublishFinding(t.Context(), p.js, f, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	var got []uint64
	req := &adminv1.ListFindingsRequest{PageSize: 2}
	for {
		resp, err := p.pipeline.ListFindings(t.Context(), connect.NewRequest(req))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range resp.Msg.GetFindings() {
			if got = append(got, f.GetCount()); f.GetKind() != "stream_purged" || f.GetRepaired() != (f.GetCount() == 1) {
				t.Errorf("the finding is %v", f)
			}
		}
		if req.PageToken = resp.Msg.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if !slices.Equal(got, []uint64{2, 1, 0}) {
		t.Errorf("found %v, want 2, 1, 0", got)
	}
	late, err := p.pipeline.ListFindings(t.Context(), connect.NewRequest(&adminv1.ListFindingsRequest{Since: timestamppb.New(time.Now().Add(time.Hour))}))
	if err != nil || len(late.Msg.GetFindings()) != 0 {
		t.Errorf("of the future: %v, %v", late, err)
	}
}
