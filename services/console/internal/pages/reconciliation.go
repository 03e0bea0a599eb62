package pages

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// reconciliationPage is how complete the data is.
type reconciliationPage struct {
	Resources []*adminv1.ResourceStatus
	Reports   []*adminv1.ReconciliationReport
	Form      reportForm
	Next      string
	Plot      plot
}

// reportForm is which reports, as it was filled in.
type reportForm struct {
	Source, Account, Resource, Gaps string
}

func (p *Pages) reconciliation(r *request) error {
	form := reportForm{r.FormValue("source"), r.FormValue("account"), r.FormValue("resource"), r.FormValue("gaps")}
	status, err := p.api.reconciliations.GetReconciliationStatus(r.Context(), connect.NewRequest(&adminv1.GetReconciliationStatusRequest{}))
	if err != nil {
		return err
	}
	reports, err := p.api.reconciliations.ListReconciliationReports(r.Context(), connect.NewRequest(&adminv1.ListReconciliationReportsRequest{
		Source: form.Source, Account: form.Account, Resource: form.Resource, GapsOnly: form.Gaps != "", PageToken: r.FormValue("page"),
	}))
	if err != nil {
		return err
	}
	page := reconciliationPage{Resources: status.Msg.GetResources(), Reports: reports.Msg.GetReports(), Form: form}
	page.Plot = plotRuns(page.Reports)
	if next := reports.Msg.GetNextPageToken(); next != "" {
		page.Next = "/reconciliation?" + query("source", form.Source, "account", form.Account, "resource", form.Resource, "gaps", form.Gaps, "page", next)
	}
	return r.show("reconciliation.html", frame{Title: "Reconciliation", Path: "/reconciliation", Refresh: 10, Data: page})
}

// plotRuns draws what each run listed and what was not as it should be.
func plotRuns(reports []*adminv1.ReconciliationReport) plot {
	const height, room = 80.0, 640.0
	p := plot{Width: room, Height: height}
	if len(reports) == 0 {
		return p
	}
	width := min(room/float64(len(reports)), 24)
	var most, gaps, listed uint64
	for _, r := range reports {
		most = max(most, r.GetCounts()["listed"], gapsOf(r))
		gaps, listed = gaps+gapsOf(r), listed+r.GetCounts()["listed"]
	}
	for i, r := range slices.Backward(reports) { // the oldest first
		x := float64(len(reports)-1-i) * width
		label := fmt.Sprintf("%s %s/%s: %d listed, %d missed, stale or orphaned", r.GetEndedAt().AsTime().UTC().Format(time.DateTime),
			r.GetResource().GetSource(), r.GetResource().GetResource(), r.GetCounts()["listed"], gapsOf(r))
		for _, b := range []struct {
			n   uint64
			bad bool
		}{{r.GetCounts()["listed"], false}, {gapsOf(r), true}} {
			if b.n > 0 {
				h := max(2, float64(b.n)/float64(most)*height)
				p.Bars = append(p.Bars, bar{X: x, Y: height - h, Width: width - 1, Height: h, Label: label, Bad: b.bad})
			}
		}
	}
	p.Label = fmt.Sprintf("%d runs: %d records listed, %d missed, stale or orphaned", len(reports), listed, gaps)
	return p
}

// gapsOf is how many records were not as they should be.
func gapsOf(r *adminv1.ReconciliationReport) uint64 {
	c := r.GetCounts()
	return c["missed"] + c["stale"] + c["orphaned"]
}

// reportPage is one run.
type reportPage struct {
	*adminv1.ReconciliationReport
	Gaps uint64
}

func (p *Pages) report(r *request) error {
	run := r.PathValue("run")
	rep, err := p.reportOf(r, run)
	if err != nil {
		return err
	}
	return r.show("report.html", frame{Title: "Run " + run, Path: "/reconciliation", Data: reportPage{rep, gapsOf(rep)}})
}

// reportWait bounds how long a report is looked for.
const reportWait = 30 * time.Second

// reportOf finds the report of a run. While the index is behind, it is looked for
// page by page.
func (p *Pages) reportOf(r *request, run string) (*adminv1.ReconciliationReport, error) {
	ctx, cancel := context.WithTimeout(r.Context(), reportWait)
	defer cancel()
	ask := &adminv1.ListReconciliationReportsRequest{Run: run, PageSize: 1}
	for {
		got, err := p.api.reconciliations.ListReconciliationReports(ctx, connect.NewRequest(ask))
		if err != nil {
			return nil, err
		}
		if all := got.Msg.GetReports(); len(all) > 0 {
			return all[0], nil
		}
		if ask.PageToken = got.Msg.GetNextPageToken(); ask.GetPageToken() == "" {
			return nil, missing("no report of run %q is stored (yet, or any more)", run)
		}
	}
}

func resourceOf(r *request) *adminv1.Resource {
	return &adminv1.Resource{Source: r.PostFormValue("source"), Account: r.PostFormValue("account"), Resource: r.PostFormValue("resource")}
}

func (p *Pages) runReconciliation(r *request) error {
	got, err := p.api.reconciliations.RunReconciliation(r.Context(), connect.NewRequest(&adminv1.RunReconciliationRequest{
		Resource: resourceOf(r), DryRun: r.PostFormValue("dry") != "", Reason: reasonOf(r),
	}))
	if err != nil {
		return err
	}
	res := got.Msg.GetResource()
	return r.see("/reconciliation?" + query("source", res.GetSource(), "account", res.GetAccount(), "resource", res.GetResource()))
}

func (p *Pages) pauseReconciliation(r *request) error {
	if _, err := p.api.reconciliations.PauseReconciliation(r.Context(), connect.NewRequest(&adminv1.PauseReconciliationRequest{Resource: resourceOf(r), Reason: reasonOf(r)})); err != nil {
		return err
	}
	return r.see("/reconciliation")
}

func (p *Pages) resumeReconciliation(r *request) error {
	if _, err := p.api.reconciliations.ResumeReconciliation(r.Context(), connect.NewRequest(&adminv1.ResumeReconciliationRequest{Resource: resourceOf(r), Reason: reasonOf(r)})); err != nil {
		return err
	}
	return r.see("/reconciliation")
}

// reasonOf is why something was done, for the audit record.
func reasonOf(r *request) string { return strings.TrimSpace(r.PostFormValue("reason")) }
