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

	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/services/internal/control"
	"github.com/tercelhq/tercel/services/internal/status"
)

type reconcileCmd struct {
	Run    reconcileRunCmd    `cmd:"" help:"Reconcile a resource now and show what was found."`
	Status reconcileStatusCmd `cmd:"" help:"Show how far each resource is complete, and the last reports."`
	Report reconcileReportCmd `cmd:"" help:"Export what was found, why, and how complete the records are."`
	Pause  reconcilePauseCmd  `cmd:"" help:"Reconcile a source, an account or a resource no more until it is resumed."`
	Resume reconcileResumeCmd `cmd:"" help:"Reconcile again what was paused."`
	Reset  reconcileResetCmd  `cmd:"" help:"Set resources back, so that what has changed since is listed again."`
}

type reconcileRunCmd struct {
	pipelineFlags
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
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(a.ctx, c.Timeout)
	defer cancel()
	asked := time.Now().Add(-time.Minute) // this clock and the server's may differ
	started, err := control.RunReconcile(ctx, nc.Conn, control.Request{
		Source: c.Source, Account: c.Account, Resource: c.Resource, DryRun: c.DryRun || c.Deletes && !c.Yes,
		Deletes: c.Deletes, Tombstone: c.Yes,
	})
	if err != nil {
		return err
	}
	if !c.JSON {
		fmt.Fprintf(a.err, "run %s has started; Ctrl-C stops waiting, not the run\n", started.Run)
	}
	r, err := followRun(ctx, a, nc, started, asked)
	if err != nil {
		if a.ctx.Err() != nil {
			return errors.New("stopped waiting; see \"tercel reconcile status\"")
		}
		return err
	}
	if c.JSON {
		err = printJSON(a.out, r)
	} else {
		err = printReport(a.out, r)
	}
	if r.Orphaned > 0 && r.DryRun && !c.JSON {
		fmt.Fprintf(a.err, "%d records would be deleted at the destinations; --yes does so\n", r.Orphaned)
	}
	if err == nil && !r.Complete {
		err = failed()
	}
	return err
}

func printReport(w io.Writer, r report.Report) error {
	t := newTable(w)
	t.row("run", r.Run)
	t.row("resource", r.Source+" "+r.Resource+" "+r.Account)
	from := "the beginning"
	if !r.From.IsZero() {
		from = stamp(r.From)
	}
	t.row("window", from+" to "+stamp(r.To))
	t.row("took", r.EndedAt.Sub(r.StartedAt).Round(time.Millisecond))
	t.row("pages", r.Pages)
	t.row("listed", r.Listed)
	t.row("matched", r.Matched)
	t.row("missed", r.Missed)
	t.row("stale", r.Stale)
	t.row("ahead", r.Ahead)
	t.row("duplicates", r.Duplicates)
	if d := r.Deletes; d != nil {
		t.row("held", d.Held)
		t.row("not listed", d.Unlisted)
		t.row("there all the same", d.Present)
		t.row("orphaned", r.Orphaned)
		t.row("not to be asked for", d.Unchecked)
		t.row("tombstones sent", d.Tombstones)
	}
	t.row("sent again", r.Repaired)
	if r.Redelivered > 0 {
		t.row("sent again by the source", r.Redelivered)
	}
	if r.Dropped > 0 {
		t.row("dropped by the source's drop", r.Dropped)
	}
	t.row("younger than the window", r.SkippedYoung)
	t.row("unreadable", r.Unreadable)
	t.row("every record compared", r.Complete)
	if !r.CaughtUp {
		t.row("note", "not all triggers had been enriched: some of what is called missed was on its way")
	}
	if r.Error != "" {
		t.row("error", r.Error)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Destinations)) {
		t.row("", destinationLine(name, r.Destinations[name]))
	}
	for _, line := range evidenceLines(r.Evidence) {
		t.row("", line)
	}
	for _, rec := range r.Records {
		t.row(rec.Verdict, strings.Join(strings.Fields(rec.ID+" "+rec.Version+rec.Type+" "+rec.Destination+" "+causeText(rec)), " "))
	}
	t.row("statement", r.Statement())
	return t.flush()
}

type reconcileStatusCmd struct {
	pipelineFlags
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
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	shown, err := status.Resources(a.ctx, nc.js, c.Source)
	if err != nil {
		return err
	}
	reports, err := report.List(a.ctx, nc.js, report.Query{Source: c.Source, Limit: c.Limit})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.out, map[string]any{"resources": shown, "reports": reports})
	}
	if err := printResources(a.out, shown); err != nil || len(reports) == 0 {
		return err
	}
	fmt.Fprintln(a.out)
	t := newTable(a.out, "ended", "resource", "account", "listed", "missed", "stale", "orphaned", "sent again", "complete", "error")
	for _, r := range reports {
		orphaned, why := "-", r.Error // other runs don't look
		if r.Deletes != nil {
			orphaned, why = fmt.Sprint(r.Orphaned), cmp.Or(why, r.Deletes.Stopped)
		}
		t.row(stamp(r.EndedAt), r.Source+" "+r.Resource, r.Account, r.Listed, r.Missed, r.Stale, orphaned, r.Repaired, r.Complete, orDash(why))
	}
	return t.flush()
}
