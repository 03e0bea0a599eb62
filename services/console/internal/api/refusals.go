package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/refusal"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/lookback"
)

// ListRefusals lists requests that were refused, the newest first.
func (s sources) ListRefusals(ctx context.Context, req *connect.Request[adminv1.ListRefusalsRequest]) (*connect.Response[adminv1.ListRefusalsResponse], error) {
	q := req.Msg
	since, err := moment("since", q.GetSince())
	if err != nil {
		return nil, err
	}
	if err := short(map[string]string{"source": q.GetSource(), "claimed_id": q.GetClaimedId()}); err != nil {
		return nil, err
	}
	if q.GetSequence() > 0 {
		return s.refusal(ctx, q.GetSequence())
	}
	before, size, err := page(q)
	if err != nil {
		return nil, err
	}
	source := "*"
	if q.GetSource() != "" {
		source = event.Escape(q.GetSource())
	}
	resp := &adminv1.ListRefusalsResponse{}
	next, err := lookback.Read(ctx, s.js, lookback.Options{
		Stream: topology.StreamRefused, Subjects: []string{topology.PrefixRefused + "." + source}, Before: before, Since: since,
	}, func(m consume.Message) bool {
		r, err := refusal.Decode(m.Data)
		if err == nil && (q.GetClaimedId() == "" || q.GetClaimedId() == r.ClaimedID) {
			resp.Refusals = append(resp.Refusals, refused(m.Sequence, r))
		}
		return len(resp.GetRefusals()) < size
	})
	if err != nil {
		return nil, err
	}
	resp.NextPageToken = nextPage(q, next)
	return connect.NewResponse(resp), nil
}

// refusal returns one as a list.
func (s sources) refusal(ctx context.Context, sequence uint64) (*connect.Response[adminv1.ListRefusalsResponse], error) {
	r, err := refusal.Get(ctx, s.js, sequence)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.ListRefusalsResponse{Refusals: []*adminv1.Refusal{refused(sequence, r)}}), nil
}

// refused is a refusal as callers get it.
func refused(sequence uint64, r refusal.Record) *adminv1.Refusal {
	out := &adminv1.Refusal{
		Sequence: sequence, At: stamp(r.At), RequestId: utf8s(r.RequestID), Source: utf8s(r.Source), Account: utf8s(r.Account), ClaimedId: utf8s(r.ClaimedID),
		Status: uint32(count(r.Status)), Outcome: utf8s(r.Outcome), Check: utf8s(r.Check), Step: utf8s(r.Step), Reason: utf8s(r.Reason), Tolerance: utf8s(r.Tolerance),
		From: utf8s(r.From), Method: utf8s(r.Method), Path: utf8s(r.Path), Headers: map[string]string{}, BodyBytes: count(r.Body.Size),
		BodySha256: utf8s(r.Body.SHA256), BodyShape: utf8s(string(r.Body.Shape)), BodyText: utf8s(r.Body.Text),
	}
	for _, k := range r.Keys {
		out.Keys = append(out.Keys, utf8s(k))
	}
	for _, name := range r.Others {
		out.OtherHeaders = append(out.OtherHeaders, utf8s(name))
	}
	for name, value := range r.Header {
		out.Headers[utf8s(name)] = utf8s(value)
	}
	for _, step := range r.Steps {
		out.Checks = append(out.Checks, &adminv1.RefusalCheck{Name: utf8s(step.Name), Result: utf8s(step.Result), Detail: utf8s(step.Detail)})
	}
	return out
}
