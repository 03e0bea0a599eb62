package api

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/report"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/control"
)

// backfills is the BackfillService.
type backfills struct{ *API }

// ListBackfills lists the backfills that are kept.
func (s backfills) ListBackfills(ctx context.Context, req *connect.Request[adminv1.ListBackfillsRequest]) (*connect.Response[adminv1.ListBackfillsResponse], error) {
	store, err := cursor.OpenBackfills(ctx, s.js)
	if err != nil {
		return nil, err
	}
	all, err := store.List(ctx)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.ListBackfillsResponse{}
	for _, b := range all {
		if req.Msg.GetActiveOnly() && !b.Active() {
			continue
		}
		out, err := s.stand(ctx, store, b)
		if err != nil {
			return nil, err
		}
		resp.Backfills = append(resp.Backfills, out)
	}
	return connect.NewResponse(resp), nil
}

// GetBackfill returns one backfill with its accounts.
func (s backfills) GetBackfill(ctx context.Context, req *connect.Request[adminv1.GetBackfillRequest]) (*connect.Response[adminv1.GetBackfillResponse], error) {
	if err := backfillID(req.Msg.GetId()); err != nil {
		return nil, err
	}
	store, err := cursor.OpenBackfills(ctx, s.js)
	if err != nil {
		return nil, err
	}
	b, err := store.Load(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	stretches, err := store.Stretches(ctx, b.ID)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.GetBackfillResponse{}
	if resp.Backfill, err = s.told(ctx, b, stretches); err != nil {
		return nil, err
	}
	holder, err := cursor.Holder(ctx, s.js, cursor.BackfillLease(b.ID))
	if err != nil {
		return nil, err
	}
	resp.Runner = utf8s(holder)
	for _, st := range stretches {
		total := st.Total()
		total.Counts.Repaired += st.RepairedBefore
		resp.Accounts = append(resp.Accounts, &adminv1.BackfillAccount{
			Account: utf8s(st.Account), Run: utf8s(st.Run), Pages: count(total.Pages), Counts: verdicts(total.Counts), EndedAt: stamp(st.EndedAt), Error: utf8s(st.Error),
			Share: total.Share, Complete: st.Complete,
		})
	}
	return connect.NewResponse(resp), nil
}

// StartBackfill asks a reconciler to begin one.
func (s backfills) StartBackfill(ctx context.Context, req *connect.Request[adminv1.StartBackfillRequest]) (*connect.Response[adminv1.StartBackfillResponse], error) {
	r, err := named(req.Msg.GetResource())
	if err != nil {
		return nil, err
	}
	from, err := moment("from", req.Msg.GetFrom())
	if err != nil {
		return nil, err
	}
	to, err := moment("to", req.Msg.GetTo())
	if err != nil {
		return nil, err
	}
	out, err := s.ask(ctx, control.BackfillRequest{
		Action: control.Start, Source: r.GetSource(), Resource: r.GetResource(), Account: r.GetAccount(), AllAccounts: req.Msg.GetAllAccounts(),
		From: from, To: to, Slices: int(req.Msg.GetSlices()), Rate: int(req.Msg.GetRate()), DryRun: req.Msg.GetDryRun(),
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.StartBackfillResponse{Backfill: out}), nil
}

// PauseBackfill has one stop at its last pages. No reconciler has to run for that: it
// is noted where each of them sees it.
func (s backfills) PauseBackfill(ctx context.Context, req *connect.Request[adminv1.PauseBackfillRequest]) (*connect.Response[adminv1.PauseBackfillResponse], error) {
	if err := backfillID(req.Msg.GetId()); err != nil {
		return nil, err
	}
	store, err := cursor.OpenBackfills(ctx, s.js)
	if err != nil {
		return nil, err
	}
	b, err := store.Pause(ctx, req.Msg.GetId(), s.deps.Now())
	if err != nil {
		return nil, err
	}
	out, err := s.stand(ctx, store, b)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.PauseBackfillResponse{Backfill: out}), nil
}

// ResumeBackfill goes on with one.
func (s backfills) ResumeBackfill(ctx context.Context, req *connect.Request[adminv1.ResumeBackfillRequest]) (*connect.Response[adminv1.ResumeBackfillResponse], error) {
	out, err := s.change(ctx, req.Msg.GetId(), control.Resume)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.ResumeBackfillResponse{Backfill: out}), nil
}

// CancelBackfill gives one up.
func (s backfills) CancelBackfill(ctx context.Context, req *connect.Request[adminv1.CancelBackfillRequest]) (*connect.Response[adminv1.CancelBackfillResponse], error) {
	out, err := s.change(ctx, req.Msg.GetId(), control.Cancel)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.CancelBackfillResponse{Backfill: out}), nil
}

func backfillID(id string) error {
	if id == "" {
		return invalid("id", "the id of a backfill")
	}
	return short(map[string]string{"id": id})
}

func (s backfills) change(ctx context.Context, id string, action control.Action) (*adminv1.Backfill, error) {
	if err := backfillID(id); err != nil {
		return nil, err
	}
	store, err := cursor.OpenBackfills(ctx, s.js)
	if err != nil {
		return nil, err
	}
	if _, err := store.Load(ctx, id); err != nil { // which says so whether a reconciler runs or not
		return nil, err
	}
	return s.ask(ctx, control.BackfillRequest{Action: action, ID: id})
}

// ask asks a reconciler and returns the backfill as it is then.
func (s backfills) ask(ctx context.Context, req control.BackfillRequest) (*adminv1.Backfill, error) {
	b, err := control.Backfill(ctx, s.deps.Conn, req)
	if err != nil {
		return nil, err
	}
	store, err := cursor.OpenBackfills(ctx, s.js)
	if err != nil {
		return nil, err
	}
	return s.stand(ctx, store, b)
}

// stand is a backfill with how far it has come.
func (s backfills) stand(ctx context.Context, store *cursor.Backfills, b cursor.Backfill) (*adminv1.Backfill, error) {
	stretches, err := store.Stretches(ctx, b.ID)
	if err != nil {
		return nil, err
	}
	return s.told(ctx, b, stretches)
}

var backfillStates = map[cursor.BackfillState]adminv1.BackfillState{
	cursor.Running: adminv1.BackfillState_BACKFILL_STATE_RUNNING, cursor.Paused: adminv1.BackfillState_BACKFILL_STATE_PAUSED,
	cursor.Cancelled: adminv1.BackfillState_BACKFILL_STATE_CANCELLED, cursor.Ended: adminv1.BackfillState_BACKFILL_STATE_ENDED,
}

// told is a backfill as callers get it, with what holds it up.
func (s backfills) told(ctx context.Context, b cursor.Backfill, stretches []cursor.Stretch) (*adminv1.Backfill, error) {
	p := b.Progress(stretches, s.deps.Now())
	if b.Active() {
		held, err := s.held(ctx, b)
		if err != nil {
			return nil, err
		}
		p.Reasons = append(p.Reasons, held...)
	}
	out := &adminv1.Backfill{
		Id: b.ID, Resource: &adminv1.Resource{Source: utf8s(b.Source), Account: utf8s(b.Account), Resource: utf8s(b.Resource)},
		From: stamp(b.From), To: stamp(b.To), Slices: uint32(count(b.Slices)), Rate: uint32(count(b.Rate)), DryRun: b.DryRun, State: backfillStates[b.State],
		StartedAt: stamp(b.StartedAt), EndedAt: stamp(b.EndedAt), Accounts: uint32(count(b.Accounts)), AccountsBegun: uint32(count(p.Begun)),
		AccountsDone: uint32(count(p.Done)), Pages: count(p.Pages), Counts: verdicts(p.Counts), Worked: durationpb.New(seconds(p.Worked)),
		PerSecond: p.PerSecond, Share: p.Share, Left: took(seconds(p.Left)), Complete: p.Complete,
	}
	for _, why := range p.Reasons {
		out.Reasons = append(out.Reasons, utf8s(why))
	}
	return out, nil
}

// held says which pauses of reconciliation hold a backfill up.
func (s backfills) held(ctx context.Context, b cursor.Backfill) ([]string, error) {
	store, err := cursor.Open(ctx, s.js)
	if err != nil {
		return nil, err
	}
	pauses, err := store.Pauses(ctx)
	var reasons []string
	for _, p := range pauses {
		if p.Meets(cursor.Scope{Source: b.Source, Account: b.Account, Resource: b.Resource}) {
			reasons = append(reasons, fmt.Sprintf("reconciliation of %s is paused", p.Scope))
		}
	}
	return reasons, err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// verdicts are numbers of records as callers get them.
func verdicts(c report.Counts) map[string]uint64 {
	return counts(map[string]int{
		"listed": c.Listed, "matched": c.Matched, "missed": c.Missed, "stale": c.Stale, "ahead": c.Ahead, "duplicates": c.Duplicates, "dropped": c.Dropped,
		"orphaned": c.Orphaned, "repaired": c.Repaired, "redelivered": c.Redelivered, "skipped_young": c.SkippedYoung, "unreadable": c.Unreadable,
	})
}
