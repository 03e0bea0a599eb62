package main

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// followRun waits for a run's report and shows meanwhile how far it has come.
func followRun(ctx context.Context, a *app, api *api, run *adminv1.RunReconciliationResponse, quiet bool) (*adminv1.ReconciliationReport, error) {
	b := newBar(a.err)
	defer b.end()
	resource := run.GetResource()
	wanted := &adminv1.ListReconciliationReportsRequest{
		Source: resource.GetSource(), Account: resource.GetAccount(), Resource: resource.GetResource(), Run: run.GetRun(),
		Since: timestamppb.New(run.GetStartedAt().AsTime().Add(-time.Minute)), // the clocks of who reports and who stores may differ
	}
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	for {
		found, err := api.reports(ctx, 1, wanted)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			return found[0], nil
		}
		if line, err := runLine(ctx, api, run); err == nil && line != "" && !quiet {
			b.show(-1, line)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// runLine says how far a run has come, or "" at its begin and its end.
func runLine(ctx context.Context, api *api, run *adminv1.RunReconciliationResponse) (string, error) {
	is := run.GetResource()
	resp, err := api.reconciliation.GetReconciliationStatus(ctx, connect.NewRequest(&adminv1.GetReconciliationStatusRequest{Source: is.GetSource()}))
	if err != nil {
		return "", err
	}
	for _, r := range resp.Msg.GetResources() {
		w := r.GetWindow()
		if r.GetResource().GetAccount() == is.GetAccount() && r.GetResource().GetResource() == is.GetResource() && w.GetRun() == run.GetRun() {
			n := w.GetCounts()
			return fmt.Sprintf("%d pages, %d listed, %d matched, %d repaired", w.GetPages(), n["listed"], n["matched"], n["repaired"]), nil
		}
	}
	return "", nil
}
