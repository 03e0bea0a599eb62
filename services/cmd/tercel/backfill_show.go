package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
)

// backfillState is a backfill as it stands.
type backfillState struct {
	cursor.Progress
	stretches []cursor.Stretch
}

// readBackfill returns how far a backfill has come, and what holds it up.
func readBackfill(ctx context.Context, nc *connection, id string) (backfillState, error) {
	store, err := cursor.OpenBackfills(ctx, nc.js)
	if err != nil {
		return backfillState{}, err
	}
	b, err := store.Load(ctx, id)
	if err != nil {
		return backfillState{}, err
	}
	stretches, err := store.Stretches(ctx, id)
	if err != nil {
		return backfillState{}, err
	}
	s := backfillState{b.Progress(stretches, time.Now()), stretches}
	if !b.Active() {
		return s, nil
	}
	cursors, err := cursor.Open(ctx, nc.js)
	if err != nil {
		return s, err
	}
	pauses, err := cursors.Pauses(ctx)
	for _, p := range pauses {
		if p.Meets(cursor.Scope{Source: b.Source, Account: b.Account, Resource: b.Resource}) {
			s.Reasons = append(s.Reasons, fmt.Sprintf("reconciliation of %s is paused", p.Scope))
		}
	}
	return s, err
}

// watchBackfill shows a backfill's progress up to its end, and then its result:
// on a terminal in one line that is rewritten, elsewhere in a line now and then.
// It fails if the backfill is not complete.
func watchBackfill(a *app, nc *connection, b cursor.Backfill, asJSON bool) error {
	live := isTerminal(a.err) && !asJSON
	if !asJSON {
		fmt.Fprintf(a.err, "backfill %s is %s; Ctrl-C stops watching, not the backfill\n", b.ID, b.State)
	}
	every := 2 * time.Second
	if live {
		every = 500 * time.Millisecond
	}
	look, last := time.NewTicker(every), ""
	defer look.Stop()
	for {
		p, err := readBackfill(a.ctx, nc, b.ID)
		if live {
			fmt.Fprint(a.err, clearLine)
		}
		switch {
		case a.ctx.Err() != nil:
			return errors.New("stopped watching; see \"tercel backfill status\"")
		case err != nil:
			return err
		case !p.Active():
			return showResult(a, p.Progress, asJSON)
		case asJSON:
			if err := printLine(a.out, p.Progress); err != nil {
				return err
			}
		default:
			last = showProgress(a.err, p.Progress, live, last)
		}
		select {
		case <-look.C:
		case <-a.ctx.Done():
		}
	}
}

// showProgress writes one line, unless it would repeat the last one.
func showProgress(w io.Writer, p cursor.Progress, live bool, last string) string {
	line := printable(progressLine(p))
	if live {
		fmt.Fprint(w, line[:min(len(line), maxColumns)])
		return line
	}
	if line != last {
		fmt.Fprintln(w, line)
	}
	return line
}

// progressLine says what changes while a backfill works.
func progressLine(p cursor.Progress) string {
	parts := []string{
		fmt.Sprintf("%s %s: %d pages, %d listed, %d repaired", seconds(p.Worked), p.State, p.Pages, p.Listed, p.Repaired),
		fmt.Sprintf("%.0f/s", p.PerSecond), shareText(p),
	}
	if p.Accounts > 1 {
		parts = append(parts, fmt.Sprintf("%d of %d accounts", p.Done, p.Accounts))
	}
	parts = append(parts, p.Reasons...)
	return strings.Join(parts, ", ")
}

// seconds is a duration for people.
func seconds(s float64) time.Duration {
	d := time.Duration(s * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// shareText says how much is done and how long the rest takes, where that is
// known.
func shareText(p cursor.Progress) string {
	switch {
	case p.Share == 0:
		return "share done unknown"
	case p.Left == 0:
		return fmt.Sprintf("%.0f%% done", 100*p.Share)
	default:
		return fmt.Sprintf("%.0f%% done, about %s left", 100*p.Share, seconds(p.Left))
	}
}

// showResult prints how a backfill ended.
func showResult(a *app, p cursor.Progress, asJSON bool) error {
	var err error
	if asJSON {
		err = printLine(a.out, p)
	} else {
		_, err = fmt.Fprintln(a.out, printable(resultLine(p)))
	}
	if err == nil && !p.Complete {
		err = failed()
	}
	return err
}

// resultLine says what a backfill did, and whether that is all.
func resultLine(p cursor.Progress) string {
	verdict := "complete"
	if !p.Complete {
		verdict = "NOT complete"
	}
	line := fmt.Sprintf("%s: %d listed, %d matched, %d missed, %d stale, %d repaired, %d unreadable, in %d pages and %s",
		verdict, p.Listed, p.Matched, p.Missed, p.Stale, p.Repaired, p.Unreadable, p.Pages, seconds(p.Worked))
	if p.Redelivered > 0 {
		line += fmt.Sprintf("; the source sent %d again itself", p.Redelivered)
	}
	if p.DryRun {
		line += "; a dry run, which repairs nothing"
	}
	if len(p.Reasons) > 0 {
		line += "; because: " + strings.Join(p.Reasons, "; ")
	}
	return line
}

type backfillStatusCmd struct {
	pipelineFlags
	ID     string `arg:"" optional:"" help:"Only this backfill, with its accounts."`
	Follow bool   `short:"f" help:"Show its progress up to its end, and exit 1 if it is not complete then."`
	JSON   bool   `name:"json" help:"Print the progress as JSON."`
}

// Help is shown by --help.
func (backfillStatusCmd) Help() string {
	return `Asks the NATS server, so it works whether a reconciler runs or not. Without a name it
lists the backfills of the last month.

Examples:
  tercel backfill status
  tercel backfill status --follow`
}

// Run runs the command.
func (c backfillStatusCmd) Run(a *app) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	if c.Follow && c.ID == "" {
		if c.ID, err = onlyBackfill(a, nc); err != nil {
			return err
		}
	}
	store, err := cursor.OpenBackfills(a.ctx, nc.js)
	if err != nil {
		return err
	}
	switch {
	case c.Follow:
		b, err := store.Load(a.ctx, c.ID)
		if err != nil {
			return err
		}
		return watchBackfill(a, nc, b, c.JSON)
	case c.ID != "":
		return c.one(a, nc)
	default:
		return c.list(a, nc, store)
	}
}

func (c backfillStatusCmd) list(a *app, nc *connection, store *cursor.Backfills) error {
	all, err := store.List(a.ctx)
	if err != nil {
		return err
	}
	shown := []cursor.Progress{}
	for _, b := range all {
		s, err := readBackfill(a.ctx, nc, b.ID)
		if err != nil {
			return err
		}
		shown = append(shown, s.Progress)
	}
	if c.JSON {
		return printJSON(a.out, shown)
	}
	if len(shown) == 0 {
		_, err := fmt.Fprintln(a.out, "nothing has been backfilled")
		return err
	}
	t := newTable(a.out, "backfill", "resource", "state", "from", "to", "listed", "repaired", "done", "complete")
	for _, p := range shown {
		t.row(p.ID, p.Source+" "+p.Resource, p.State, fromText(p.From), stamp(p.To), p.Listed, p.Repaired, percent(p), p.Complete)
	}
	return t.flush()
}

func percent(p cursor.Progress) string {
	if p.Share == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.0f%%", 100*p.Share)
}

func fromText(t time.Time) string {
	if t.IsZero() {
		return "the beginning"
	}
	return stamp(t)
}

// one shows a backfill with its accounts.
func (c backfillStatusCmd) one(a *app, nc *connection) error {
	p, err := readBackfill(a.ctx, nc, c.ID)
	if err != nil {
		return err
	}
	holder, err := cursor.Holder(a.ctx, nc.js, cursor.BackfillLease(c.ID))
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.out, struct {
			cursor.Progress
			WorkedOnBy string           `json:"worked_on_by"`
			Stretches  []cursor.Stretch `json:"stretches"`
		}{p.Progress, holder, p.stretches})
	}
	t := newTable(a.out)
	t.row("backfill", p.ID)
	t.row("resource", p.Source+" "+p.Resource)
	t.row("window", fromText(p.From)+" to "+stamp(p.To))
	t.row("started", stamp(p.StartedAt))
	switch {
	case p.Active() && p.State == cursor.Running && holder == "":
		t.row("state", "running, but no reconciler works on it: is one there?")
	default:
		t.row("state", strings.TrimSpace(string(p.State)+" "+holder))
	}
	t.row("at once", fmt.Sprintf("%d slices, at most %d records a second", p.Slices, p.Rate))
	t.row("progress", progressLine(p.Progress))
	if !p.Active() {
		t.row("result", resultLine(p.Progress))
	}
	if err := t.flush(); err != nil {
		return err
	}
	t = newTable(a.out, "account", "run", "pages", "listed", "matched", "missed", "stale", "repaired", "unreadable", "done", "complete")
	for _, st := range p.stretches {
		w := st.Total()
		t.row(st.Account, st.Run, w.Pages, w.Counts.Listed, w.Counts.Matched, w.Counts.Missed, w.Counts.Stale,
			w.Counts.Repaired+st.RepairedBefore, w.Counts.Unreadable, fmt.Sprintf("%.0f%%", 100*w.Share), st.Complete)
	}
	return t.flush()
}
