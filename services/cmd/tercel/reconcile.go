package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

type reconcileCmd struct {
	Run    reconcileRunCmd    `cmd:"" help:"Reconcile a resource now and show what was found."`
	Status reconcileStatusCmd `cmd:"" help:"Show how far each resource is complete, and the last reports, newest first."`
	Report reconcileReportCmd `cmd:"" help:"Export what was found, why, and how complete the records are."`
	Pause  reconcilePauseCmd  `cmd:"" help:"Reconcile a source, an account or a resource no more until it is resumed."`
	Resume reconcileResumeCmd `cmd:"" help:"Reconcile again what was paused."`
	Reset  reconcileResetCmd  `cmd:"" help:"Set resources back, so that what has changed since is listed again."`
}

type reconcileRunCmd struct {
	apiFlags
	reasonFlags
	Source   string        `arg:"" help:"The source."`
	Resource string        `arg:"" help:"Its resource."`
	Account  string        `help:"The account, for a source that has several." placeholder:"NAME"`
	DryRun   bool          `help:"Compare and report; repair nothing and move no cursor."`
	Deletes  bool          `help:"Look in the whole list for records that are held and are gone at the source, and report them."`
	Yes      bool          `help:"With --deletes: delete them at the destinations, within the limits of the file."`
	Timeout  time.Duration `help:"How long to wait for the report. The run goes on." default:"15m"`
	JSON     bool          `name:"json" help:"Print the report as JSON."`
}

// Help is shown by --help.
func (reconcileRunCmd) Help() string {
	return `Asks a running reconciler. Exits 1 when the run did not compare every record.

With --deletes it reads the whole list instead, asks for every record that is held and
was not listed, and says how many are gone. With --yes too it sends their tombstones.

Example:
  tercel reconcile run orders order --dry-run
  tercel reconcile run orders order --deletes
  tercel reconcile run orders order --deletes --yes`
}

// Validate reports options that contradict each other.
func (c reconcileRunCmd) Validate() error {
	if c.Yes && (!c.Deletes || c.DryRun) {
		return errors.New("--yes: want it with --deletes and without --dry-run")
	}
	return nil
}

// Run runs the command.
func (c reconcileRunCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, c.Timeout)
	defer cancel()
	started, err := api.reconciliation.RunReconciliation(ctx, connect.NewRequest(&adminv1.RunReconciliationRequest{
		Resource: &adminv1.Resource{Source: c.Source, Account: c.Account, Resource: c.Resource}, DryRun: c.DryRun, Deletes: c.Deletes, Tombstone: c.Yes,
		Reason: c.why(a),
	}))
	if err != nil {
		return err
	}
	if !c.JSON {
		fmt.Fprintf(a.err, "run %s has started; Ctrl-C stops waiting, not the run\n", started.Msg.GetRun())
	}
	r, err := followRun(ctx, a, api, started.Msg, c.JSON)
	switch {
	case a.ctx.Err() != nil:
		return errors.New("stopped waiting; see \"tercel reconcile status\"")
	case ctx.Err() != nil:
		return fmt.Errorf("no report within %s; see \"tercel reconcile status\"", c.Timeout)
	case err != nil:
		return err
	}
	if c.JSON {
		err = printMessage(a.out, r)
	} else {
		err = printReport(a.out, r)
	}
	if n := r.GetCounts()["orphaned"]; n > 0 && r.GetDryRun() && !c.JSON {
		fmt.Fprintf(a.err, "%d records would be deleted at the destinations; --yes does so\n", n)
	}
	if err == nil && !r.GetComplete() {
		err = failed()
	}
	return err
}

func printReport(w io.Writer, r *adminv1.ReconciliationReport) error {
	t, n := newTable(w), r.GetCounts()
	t.row("run", r.GetRun())
	t.row("resource", r.GetResource().GetSource()+" "+r.GetResource().GetResource()+" "+r.GetResource().GetAccount())
	t.row("window", fromText(r.GetWindowFrom())+" to "+stamp(r.GetWindowTo()))
	t.row("took", r.GetEndedAt().AsTime().Sub(r.GetStartedAt().AsTime()).Round(time.Millisecond))
	t.row("pages", r.GetPages())
	for _, verdict := range []string{"listed", "matched", "missed", "stale", "ahead", "duplicates"} {
		t.row(verdict, n[verdict])
	}
	if d := r.GetDeletes(); d != nil {
		t.row("held", d.GetHeld())
		t.row("not listed", d.GetUnlisted())
		t.row("there all the same", d.GetPresent())
		t.row("orphaned", n["orphaned"])
		t.row("not to be asked for", d.GetUnchecked())
		t.row("tombstones sent", d.GetTombstones())
	}
	t.row("repaired", n["repaired"])
	if n["redelivered"] > 0 {
		t.row("sent again by the source", n["redelivered"])
	}
	if n["dropped"] > 0 {
		t.row("dropped by the source's drop", n["dropped"])
	}
	t.row("younger than the window", n["skipped_young"])
	t.row("unreadable", n["unreadable"])
	t.row("every record compared", r.GetComplete())
	if !r.GetCaughtUp() {
		t.row("note", "not all triggers had been enriched: some of what is called missed was on its way")
	}
	if r.GetError() != "" {
		t.row("error", r.GetError())
	}
	for _, name := range slices.Sorted(maps.Keys(r.GetDestinations())) {
		t.row("", destinationLine(name, r.GetDestinations()[name]))
	}
	for _, line := range evidenceLines(r) {
		t.row("", line)
	}
	for _, rec := range r.GetRecords() {
		t.row(rec.GetVerdict(), strings.Join(strings.Fields(rec.GetId()+" "+rec.GetVersion()+rec.GetType()+" "+rec.GetDestination()+" "+causeText(rec)), " "))
	}
	t.row("statement", r.GetStatement())
	return t.flush()
}

type reconcileStatusCmd struct {
	apiFlags
	watchFlags
	Source string `arg:"" optional:"" help:"Only this source."`
	Limit  int    `help:"At most this many reports." default:"20"`
	JSON   bool   `name:"json" help:"Print cursors and reports as one JSON object."`
}

// Help is shown by --help.
func (reconcileStatusCmd) Help() string {
	return `Example:
  tercel reconcile status orders`
}

// Run runs the command.
func (c reconcileStatusCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	return c.watch(a, func(a *app) error {
		status, err := api.reconciliation.GetReconciliationStatus(a.ctx, connect.NewRequest(&adminv1.GetReconciliationStatusRequest{Source: c.Source}))
		if err != nil {
			return err
		}
		reports, err := api.reports(a.ctx, c.Limit, &adminv1.ListReconciliationReportsRequest{Source: c.Source})
		if err != nil {
			return err
		}
		if c.JSON {
			return printStatusJSON(a.out, status.Msg.GetResources(), reports)
		}
		if err := printResources(a.out, status.Msg.GetResources()); err != nil || len(reports) == 0 {
			return err
		}
		fmt.Fprintln(a.out)
		return printReports(a.out, reports)
	})
}

func printStatusJSON(w io.Writer, resources []*adminv1.ResourceStatus, reports []*adminv1.ReconciliationReport) error {
	resourceTexts, err := messages(resources)
	if err != nil {
		return err
	}
	reportTexts, err := messages(reports)
	if err != nil {
		return err
	}
	return printJSON(w, map[string]any{"resources": resourceTexts, "reports": reportTexts})
}

func printReports(w io.Writer, reports []*adminv1.ReconciliationReport) error {
	t := newTable(w, "ended", "resource", "account", "listed", "missed", "stale", "orphaned", "repaired", "complete", "error")
	for _, r := range reports {
		n, orphaned, why := r.GetCounts(), "-", r.GetError() // other runs don't look
		if r.GetDeletes() != nil {
			orphaned, why = fmt.Sprint(n["orphaned"]), cmp.Or(why, r.GetDeletes().GetStopped())
		}
		t.row(stamp(r.GetEndedAt()), r.GetResource().GetSource()+" "+r.GetResource().GetResource(), r.GetResource().GetAccount(),
			n["listed"], n["missed"], n["stale"], orphaned, n["repaired"], r.GetComplete(), orDash(why))
	}
	return t.flush()
}

// reports lists reports, the newest first.
func (p *api) reports(ctx context.Context, limit int, req *adminv1.ListReconciliationReportsRequest) ([]*adminv1.ReconciliationReport, error) {
	all, _, err := list(listFlags{Limit: limit}, func(size uint32, token string) ([]*adminv1.ReconciliationReport, string, error) {
		req.PageSize, req.PageToken = size, token
		resp, err := p.reconciliation.ListReconciliationReports(ctx, connect.NewRequest(req))
		if err != nil {
			return nil, "", err
		}
		return resp.Msg.GetReports(), resp.Msg.GetNextPageToken(), nil
	})
	return all, err
}
