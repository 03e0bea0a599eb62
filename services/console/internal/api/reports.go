package api

import (
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/lookback"
)

// ListReconciliationReports lists one page of reports, the newest first.
func (s reconciliations) ListReconciliationReports(ctx context.Context, req *connect.Request[adminv1.ListReconciliationReportsRequest]) (*connect.Response[adminv1.ListReconciliationReportsResponse], error) {
	q := req.Msg
	since, err := moment("since", q.GetSince())
	if err != nil {
		return nil, err
	}
	if err := short(map[string]string{"source": q.GetSource(), "account": q.GetAccount(), "resource": q.GetResource(), "run": q.GetRun()}); err != nil {
		return nil, err
	}
	before, size, err := page(q)
	if err != nil {
		return nil, err
	}
	found, known, err := s.ofRun(ctx, q)
	if err != nil {
		return nil, err
	}
	var next uint64
	if !known {
		if found, next, err = s.lookBack(ctx, q, before, size, since); err != nil {
			return nil, err
		}
	}
	if err := report.ApplyRevisions(ctx, s.js, report.Query{Source: q.GetSource(), Resource: q.GetResource()}, found); err != nil {
		return nil, err
	}
	resp := &adminv1.ListReconciliationReportsResponse{NextPageToken: nextPage(q, next)}
	for _, r := range found {
		resp.Reports = append(resp.Reports, reported(r))
	}
	return connect.NewResponse(resp), nil
}

// ofRun finds the report of one run by the index: no subject has its id, and in a
// dense stream a page doesn't reach far back. It reports false where that is not
// what is asked for, or nothing is found by an index that doesn't know all reports.
func (s reconciliations) ofRun(ctx context.Context, q *adminv1.ListReconciliationReportsRequest) (found []report.Report, known bool, err error) {
	if q.GetRun() == "" || q.GetSince() != nil || q.GetPageToken() != "" {
		return nil, false, nil
	}
	all, known, err := s.deps.Index.Reports(ctx, q.GetRun())
	for _, r := range slices.Backward(all) {
		if reportChosen(q, r) && len(found) == 0 { // one that was stored twice is the same
			found = append(found, r)
		}
	}
	return found, known || len(found) > 0, err
}

// lookBack reads one page of the stream.
func (s reconciliations) lookBack(ctx context.Context, q *adminv1.ListReconciliationReportsRequest, before uint64, size int, since time.Time) (found []report.Report, next uint64, err error) {
	token := func(name string) string {
		if name == "" {
			return "*"
		}
		return event.Escape(name)
	}
	next, err = lookback.Read(ctx, s.js, lookback.Options{
		Stream: topology.StreamReports, Before: before, Since: since,
		Subjects: []string{topology.PrefixReports + "." + token(q.GetSource()) + "." + token(q.GetResource())},
	}, func(m consume.Message) bool {
		r, err := report.Decode(m.Data)
		if err == nil && reportChosen(q, r) {
			found = append(found, r)
		}
		return len(found) < size
	})
	return found, next, err
}

func reportChosen(q *adminv1.ListReconciliationReportsRequest, r report.Report) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(q.GetSource(), r.Source) && is(q.GetResource(), r.Resource) && is(q.GetAccount(), r.Account) && is(q.GetRun(), r.Run) &&
		(!q.GetGapsOnly() || len(r.Records) > 0 || r.Error != "" || r.Deletes != nil && r.Deletes.Stopped != "")
}

// reported is a report as callers get it.
func reported(r report.Report) *adminv1.ReconciliationReport {
	out := &adminv1.ReconciliationReport{
		Run: utf8s(r.Run), Continues: utf8s(r.Continues), Resource: &adminv1.Resource{Source: utf8s(r.Source), Account: utf8s(r.Account), Resource: utf8s(r.Resource)},
		Trigger: utf8s(string(r.Trigger)), DryRun: r.DryRun, WindowFrom: stamp(r.From), WindowTo: stamp(r.To), StartedAt: stamp(r.StartedAt), EndedAt: stamp(r.EndedAt),
		Pages: count(r.Pages), Listed: recordSet(r.Sets.Listed), Held: recordSet(r.Sets.Held), Complete: r.Complete, CaughtUp: r.CaughtUp,
		Error: utf8s(r.Error), Statement: utf8s(r.Statement()), Causes: map[string]uint64{}, Refused: map[string]uint64{},
		Destinations: map[string]*adminv1.DestinationComparison{},
		Counts:       verdicts(r.Counts), EvidenceError: utf8s(r.Evidence.Error),
	}
	if d := r.Deletes; d != nil {
		out.Deletes = &adminv1.DeletesReport{
			Held: count(d.Held), Unlisted: count(d.Unlisted), Present: count(d.Present), Unchecked: count(d.Unchecked), Tombstones: count(d.Tombstones),
			Stopped: utf8s(d.Stopped),
		}
	}
	for name, d := range r.Destinations {
		out.Destinations[utf8s(name)] = &adminv1.DestinationComparison{
			Held: recordSet(d.Held), Behind: d.Behind, Counts: counts(map[string]int{
				"matched": d.Matched, "ahead": d.Ahead, "missed": d.Missed, "stale": d.Stale, "orphaned": d.Orphaned, "repaired": d.Repaired,
			}),
		}
	}
	for _, rec := range r.Records {
		out.Records = append(out.Records, &adminv1.RecordVerdict{
			Id: utf8s(rec.ID), Version: utf8s(rec.Version), Verdict: utf8s(rec.Verdict), Destination: utf8s(rec.Destination),
			FirstSeen: stamp(rec.FirstSeen), ChangedAt: stamp(rec.ChangedAt), Repaired: rec.Repaired, Cause: utf8s(string(rec.Cause)),
			Type: utf8s(rec.Type), Redelivered: rec.Redelivered, ArrivedAt: stamp(rec.ArrivedAt),
		})
	}
	for cause, n := range r.Evidence.Causes {
		out.Causes[utf8s(string(cause))] = count(n)
	}
	for outcome, n := range r.Evidence.Refused {
		out.Refused[utf8s(outcome)] = uint64(max(0, n))
	}
	return out
}

// counts are numbers of records without those that are none.
func counts(all map[string]int) map[string]uint64 {
	out := map[string]uint64{}
	for verdict, n := range all {
		if n > 0 {
			out[verdict] = uint64(n)
		}
	}
	return out
}

// count is a number as a message holds it; what another program wrote may be
// less than nothing.
func count(n int) uint64 { return uint64(max(0, n)) }

func recordSet(s report.Set) *adminv1.RecordSet {
	return &adminv1.RecordSet{Records: count(s.Records), Digest: s.Digest.String()}
}
