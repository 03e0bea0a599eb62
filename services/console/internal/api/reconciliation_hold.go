package api

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/report"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// scope checks what resources are named, of a source that the pipeline file has.
func (s reconciliations) scope(r *adminv1.Resource) (cursor.Scope, error) {
	scope := cursor.Scope{Source: r.GetSource(), Account: r.GetAccount(), Resource: r.GetResource()}
	if err := short(map[string]string{"resource.account": scope.Account, "resource.resource": scope.Resource}); err != nil {
		return scope, err
	}
	source, ok := s.cfg.Sources[scope.Source]
	if !ok {
		return scope, notFound("source %q: the pipeline file has none of that name; there are: %s", scope.Source, names(s.cfg.Sources))
	}
	if scope.Resource == "" || scope.Resource == provider.EventsResource && source.Events != nil {
		return scope, nil
	}
	if res, ok := source.Resources[scope.Resource]; !ok || res.Reconcile == nil {
		return scope, notFound("resource %q of source %q: the pipeline file has none of that name that is reconciled", scope.Resource, scope.Source)
	}
	return scope, nil
}

// PauseReconciliation keeps resources from being reconciled.
func (s reconciliations) PauseReconciliation(ctx context.Context, req *connect.Request[adminv1.PauseReconciliationRequest]) (*connect.Response[adminv1.PauseReconciliationResponse], error) {
	scope, err := s.scope(req.Msg.GetResource())
	if err != nil {
		return nil, err
	}
	store, err := cursor.Open(ctx, s.js)
	if err != nil {
		return nil, err
	}
	before, err := store.Pause(ctx, scope, s.deps.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.PauseReconciliationResponse{Before: pauses(before)}), nil
}

// ResumeReconciliation ends pauses.
func (s reconciliations) ResumeReconciliation(ctx context.Context, req *connect.Request[adminv1.ResumeReconciliationRequest]) (*connect.Response[adminv1.ResumeReconciliationResponse], error) {
	scope, err := s.scope(req.Msg.GetResource())
	if err != nil {
		return nil, err
	}
	store, err := cursor.Open(ctx, s.js)
	if err != nil {
		return nil, err
	}
	ended, left, err := store.Resume(ctx, scope)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.ResumeReconciliationResponse{Ended: pauses(ended), Left: pauses(left)}), nil
}

// maxPlannedReports bounds the reports that a plan counts.
const maxPlannedReports = 100_000

// PlanReconciliationReset says what a reset would do.
func (s reconciliations) PlanReconciliationReset(ctx context.Context, req *connect.Request[adminv1.PlanReconciliationResetRequest]) (*connect.Response[adminv1.PlanReconciliationResetResponse], error) {
	scope, to, err := s.resetTo(req.Msg)
	if err != nil {
		return nil, err
	}
	store, err := cursor.Open(ctx, s.js)
	if err != nil {
		return nil, err
	}
	chosen, err := resettable(ctx, store, scope, to)
	if err != nil {
		return nil, err
	}
	reports, err := report.List(ctx, s.js, report.Query{Source: scope.Source, Resource: scope.Resource, Since: to, Limit: maxPlannedReports})
	if err != nil {
		return nil, err
	}
	resp := &adminv1.PlanReconciliationResetResponse{}
	for _, e := range chosen {
		out := &adminv1.PlannedReset{Resource: keyed(e.Key), CompleteThrough: stamp(e.Through)}
		for _, r := range reports {
			if (cursor.Key{Source: r.Source, Account: r.Account, Resource: r.Resource}) == e.Key && r.To.After(to) && !r.DryRun {
				out.RunsSince++
				out.ListedSince += count(r.Listed)
			}
		}
		resp.Resources = append(resp.Resources, out)
	}
	return connect.NewResponse(resp), nil
}

// resetTo checks what is to be set back, and to when.
func (s reconciliations) resetTo(req interface {
	GetResource() *adminv1.Resource
	GetTo() *timestamppb.Timestamp
	GetBeginning() bool
},
) (cursor.Scope, time.Time, error) {
	scope, err := s.scope(req.GetResource())
	if err != nil {
		return scope, time.Time{}, err
	}
	to, err := moment("to", req.GetTo())
	if err == nil && to.IsZero() != req.GetBeginning() {
		err = invalid("to", "a time, or beginning instead")
	}
	return scope, to, err
}

// keyed is what a cursor is of, as callers get it.
func keyed(k cursor.Key) *adminv1.Resource {
	return &adminv1.Resource{Source: utf8s(k.Source), Account: utf8s(k.Account), Resource: utf8s(k.Resource)}
}

// ResetReconciliation sets cursors back.
func (s reconciliations) ResetReconciliation(ctx context.Context, req *connect.Request[adminv1.ResetReconciliationRequest]) (*connect.Response[adminv1.ResetReconciliationResponse], error) {
	scope, to, err := s.resetTo(req.Msg)
	if err != nil {
		return nil, err
	}
	store, err := cursor.Open(ctx, s.js)
	if err != nil {
		return nil, err
	}
	chosen, err := resettable(ctx, store, scope, to)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.ResetReconciliationResponse{}
	for _, e := range chosen {
		before, err := store.Reset(ctx, e.Key, to, s.deps.Now())
		if err != nil {
			return nil, fmt.Errorf("%d of %d were reset: %w", len(resp.GetResources()), len(chosen), err)
		}
		resp.Resources = append(resp.Resources, &adminv1.ResetResource{
			Resource: keyed(e.Key), CompleteThroughBefore: stamp(before.Through),
		})
	}
	return connect.NewResponse(resp), nil
}

// resettable are the cursors that a scope names, all of which have come to the
// time that they are to be set back to.
func resettable(ctx context.Context, store *cursor.Store, scope cursor.Scope, to time.Time) ([]cursor.Entry, error) {
	entries, err := store.List(ctx, scope.Source)
	if err != nil {
		return nil, err
	}
	var chosen []cursor.Entry
	for _, e := range entries {
		if !scope.Has(e.Key) {
			continue
		}
		if !to.IsZero() && to.After(e.Through) {
			return nil, fmt.Errorf("reset %s: %w", e.Key, cursor.ErrForward)
		}
		chosen = append(chosen, e)
	}
	if len(chosen) == 0 {
		return nil, notFound("%s: nothing of it has been reconciled", scope)
	}
	return chosen, nil
}
