package api

import (
	"context"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/console/internal/access"
	"github.com/tercelhq/tercel/services/internal/auditlog"
	statuses "github.com/tercelhq/tercel/services/internal/status"
)

// pipelines is the PipelineService.
type pipelines struct{ *API }

// GetPipelineStatus looks at the streams and stages.
func (p pipelines) GetPipelineStatus(ctx context.Context, _ *connect.Request[adminv1.GetPipelineStatusRequest]) (*connect.Response[adminv1.GetPipelineStatusResponse], error) {
	at := p.deps.Now()
	s, err := statuses.Read(ctx, p.js)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.GetPipelineStatusResponse{At: stamp(at), DeadLetters: s.DeadLetters, Version: p.cfg.Version}
	for _, x := range s.Streams {
		resp.Streams = append(resp.Streams, &adminv1.StreamStatus{
			Name: x.Name, Messages: x.Messages, Bytes: x.Bytes, LastSequence: x.LastSeq, FirstAt: stamp(x.First), LastAt: stamp(x.Last),
			Replicas: uint32(x.Replicas),
		})
	}
	for _, x := range s.Stages {
		resp.Stages = append(resp.Stages, &adminv1.StageStatus{
			Stage: x.Stage, Name: x.Name, Stream: x.Stream, Pending: x.Pending, InHand: uint64(x.InHand), Redelivered: uint64(x.Redelivered),
			Behind: x.Behind, Acknowledged: x.Acknowledged, WaitingPulls: uint32(x.Workers), LastAckAt: stamp(x.LastAck),
			PausedUntil: stamp(x.PausedUntil),
		})
	}
	for _, x := range s.Accounts {
		resp.Accounts = append(resp.Accounts, &adminv1.AccountsStatus{Source: utf8s(x.Source), Bucket: x.Bucket, Accounts: uint64(x.Accounts)})
	}
	return connect.NewResponse(resp), nil
}

// GetCaller tells who asks.
func (p pipelines) GetCaller(ctx context.Context, _ *connect.Request[adminv1.GetCallerRequest]) (*connect.Response[adminv1.GetCallerResponse], error) {
	c, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	role := adminv1.Role_ROLE_VIEWER
	if c.May("operator") {
		role = adminv1.Role_ROLE_OPERATOR
	}
	return connect.NewResponse(&adminv1.GetCallerResponse{Name: c.Name, Role: role, ExpiresAt: stamp(c.ExpiresAt)}), nil
}

// ListAuditRecords lists what operators did.
func (p pipelines) ListAuditRecords(ctx context.Context, req *connect.Request[adminv1.ListAuditRecordsRequest]) (*connect.Response[adminv1.ListAuditRecordsResponse], error) {
	since, err := moment("since", req.Msg.GetSince())
	if err != nil {
		return nil, err
	}
	before, size, err := page(req.Msg)
	if err != nil {
		return nil, err
	}
	found, err := auditlog.List(ctx, p.js, auditlog.Query{Who: req.Msg.GetWho(), Method: req.Msg.GetMethod(), Since: since, Before: before, Limit: size})
	if err != nil {
		return nil, err
	}
	resp := &adminv1.ListAuditRecordsResponse{NextPageToken: nextPage(req.Msg, found.Next)}
	for _, r := range found.Records {
		resp.Records = append(resp.Records, &adminv1.AuditRecord{
			Id: r.ID, BegunAt: stamp(r.BegunAt), EndedAt: stamp(r.EndedAt), Who: r.Who, Address: r.Address, Method: r.Method,
			Request: r.Request, Reason: r.Reason, Result: r.Result, Outcome: auditOutcomes[r.Outcome],
		})
	}
	return connect.NewResponse(resp), nil
}

var auditOutcomes = map[auditlog.Outcome]adminv1.AuditOutcome{
	auditlog.Begun: adminv1.AuditOutcome_AUDIT_OUTCOME_BEGUN, auditlog.Done: adminv1.AuditOutcome_AUDIT_OUTCOME_DONE,
	auditlog.Failed: adminv1.AuditOutcome_AUDIT_OUTCOME_FAILED,
}
