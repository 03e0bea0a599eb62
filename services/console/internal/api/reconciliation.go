package api

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tercelhq/tercel/pkg/cursor"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/control"
	statuses "github.com/tercelhq/tercel/services/internal/status"
)

// reconciliations is the ReconciliationService.
type reconciliations struct{ *API }

// GetReconciliationStatus tells how far every resource is.
func (s reconciliations) GetReconciliationStatus(ctx context.Context, req *connect.Request[adminv1.GetReconciliationStatusRequest]) (*connect.Response[adminv1.GetReconciliationStatusResponse], error) {
	all, err := statuses.Resources(ctx, s.js, req.Msg.GetSource())
	if err != nil {
		return nil, err
	}
	resp := &adminv1.GetReconciliationStatusResponse{}
	for _, r := range all {
		out := &adminv1.ResourceStatus{
			Resource:        &adminv1.Resource{Source: utf8s(r.Source), Account: utf8s(r.Account), Resource: utf8s(r.Resource)},
			CompleteThrough: stamp(r.Through), LastStartedAt: stamp(r.LastRun), LastFinishedAt: stamp(r.LastOK), NextAt: stamp(r.NextRun),
			UnfinishedWindow: r.Unfinished, Runner: utf8s(r.Runner), Failures: uint32(count(r.Failures)), Completeness: utf8s(r.Completeness),
			Paused: pauses(r.Paused),
		}
		if r.Lag != nil {
			out.Lag = durationpb.New(time.Duration(*r.Lag * float64(time.Second)))
		}
		if w := r.Window; w != nil {
			out.Window = &adminv1.WindowProgress{Run: utf8s(w.Run), Pages: count(w.Pages), Counts: verdicts(w.Counts)}
		}
		if l := r.Last; l.Run != "" {
			out.Last = &adminv1.LastRun{Run: utf8s(l.Run), Complete: l.Complete, Error: utf8s(l.Error), Counts: counts(map[string]int{
				"listed": l.Listed, "missed": l.Missed, "stale": l.Stale, "unreadable": l.Unreadable,
			})}
		}
		resp.Resources = append(resp.Resources, out)
	}
	return connect.NewResponse(resp), nil
}

// pauses are pauses as callers get them.
func pauses(all []cursor.Pause) []*adminv1.ReconciliationPause {
	var out []*adminv1.ReconciliationPause
	for _, p := range all {
		out = append(out, &adminv1.ReconciliationPause{
			Resource: &adminv1.Resource{Source: utf8s(p.Source), Account: utf8s(p.Account), Resource: utf8s(p.Resource)}, Since: stamp(p.Since),
		})
	}
	return out
}

// RunReconciliation asks a reconciler to begin a run.
func (s reconciliations) RunReconciliation(ctx context.Context, req *connect.Request[adminv1.RunReconciliationRequest]) (*connect.Response[adminv1.RunReconciliationResponse], error) {
	r, err := named(req.Msg.GetResource())
	if err != nil {
		return nil, err
	}
	if req.Msg.GetTombstone() && (!req.Msg.GetDeletes() || req.Msg.GetDryRun()) {
		return nil, invalid("tombstone", "it with deletes and without dry_run")
	}
	started, err := control.RunReconcile(ctx, s.deps.Conn, control.Request{
		Source: r.GetSource(), Account: r.GetAccount(), Resource: r.GetResource(), Deletes: req.Msg.GetDeletes(), Tombstone: req.Msg.GetTombstone(),
		DryRun: req.Msg.GetDryRun() || req.Msg.GetDeletes() && !req.Msg.GetTombstone(),
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.RunReconciliationResponse{
		Run:       started.Run,
		Resource:  &adminv1.Resource{Source: started.Source, Account: started.Account, Resource: started.Resource},
		StartedAt: stamp(started.StartedAt),
	}), nil
}

// named checks that a resource is named.
func named(r *adminv1.Resource) (*adminv1.Resource, error) {
	switch {
	case r.GetSource() == "":
		return nil, invalid("resource.source", "the name of a source")
	case r.GetResource() == "":
		return nil, invalid("resource.resource", "the name of a resource")
	}
	return r, short(map[string]string{"resource.source": r.GetSource(), "resource.account": r.GetAccount(), "resource.resource": r.GetResource()})
}
