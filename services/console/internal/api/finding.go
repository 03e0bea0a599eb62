package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/lookback"
)

// ListFindings lists what was found to be wrong inside.
func (p pipelines) ListFindings(ctx context.Context, req *connect.Request[adminv1.ListFindingsRequest]) (*connect.Response[adminv1.ListFindingsResponse], error) {
	since, err := moment("since", req.Msg.GetSince())
	if err != nil {
		return nil, err
	}
	before, size, err := page(req.Msg)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.ListFindingsResponse{}
	next, err := lookback.Read(ctx, p.js, lookback.Options{
		Stream: topology.StreamReports, Subjects: []string{report.SubjectFindings}, Before: before, Since: since,
	}, func(m consume.Message) bool {
		if f, err := report.DecodeFinding(m.Data); err == nil {
			resp.Findings = append(resp.Findings, &adminv1.Finding{
				At: stamp(f.At), Kind: utf8s(string(f.Kind)), Name: utf8s(f.Name), Count: count(f.Count), Detail: utf8s(f.Detail), Repaired: f.Repaired,
			})
		}
		return len(resp.GetFindings()) < size
	})
	if err != nil {
		return nil, err
	}
	resp.NextPageToken = nextPage(req.Msg, next)
	return connect.NewResponse(resp), nil
}
