package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/pkg/cursor"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
	"github.com/tercelhq/tercel/services/internal/control"
)

// reconciliations is the ReconciliationService.
type reconciliations struct {
	*API
	adminv1connect.UnimplementedReconciliationServiceHandler
}

// GetReconciliationStatus tells how far every resource is.
func (s reconciliations) GetReconciliationStatus(ctx context.Context, req *connect.Request[adminv1.GetReconciliationStatusRequest]) (*connect.Response[adminv1.GetReconciliationStatusResponse], error) {
	store, err := cursor.Open(ctx, s.js)
	if err != nil {
		return nil, err
	}
	entries, err := store.List(ctx)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.GetReconciliationStatusResponse{}
	for _, e := range entries {
		if want := req.Msg.GetSource(); want != "" && want != e.Key.Source {
			continue
		}
		resp.Resources = append(resp.Resources, &adminv1.ResourceStatus{
			Resource:        &adminv1.Resource{Source: utf8s(e.Key.Source), Account: utf8s(e.Key.Account), Resource: utf8s(e.Key.Resource)},
			CompleteThrough: stamp(e.Through), LastStartedAt: stamp(e.StartedAt), LastEndedAt: stamp(e.EndedAt), LastFinishedAt: stamp(e.OKAt),
			UnfinishedWindow: e.Window != nil, Failures: uint32(max(0, e.Failures)),
		})
	}
	return connect.NewResponse(resp), nil
}

// RunReconciliation asks a reconciler to begin a run.
func (s reconciliations) RunReconciliation(ctx context.Context, req *connect.Request[adminv1.RunReconciliationRequest]) (*connect.Response[adminv1.RunReconciliationResponse], error) {
	r, err := named(req.Msg.GetResource())
	if err != nil {
		return nil, err
	}
	started, err := control.RunReconcile(ctx, s.deps.Conn, control.Request{
		Source: r.GetSource(), Account: r.GetAccount(), Resource: r.GetResource(), DryRun: req.Msg.GetDryRun(),
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
