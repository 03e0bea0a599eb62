package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// watchBackfill shows a backfill's progress up to its end, and then its result.
// It fails if the backfill is not complete.
func watchBackfill(a *app, api *api, b *adminv1.Backfill, asJSON bool) error {
	if !asJSON {
		fmt.Fprintf(a.err, "backfill %s is %s; Ctrl-C stops watching, not the backfill\n", b.GetId(), backfillWord(b))
	}
	progress := newBar(a.err)
	every := 2 * time.Second
	if progress.live {
		every = 500 * time.Millisecond
	}
	look := time.NewTicker(every)
	defer look.Stop()
	for {
		resp, err := api.backfills.GetBackfill(a.ctx, connect.NewRequest(&adminv1.GetBackfillRequest{Id: b.GetId()}))
		if err != nil {
			progress.end()
			if a.ctx.Err() != nil {
				return errors.New("stopped watching; see \"tercel backfill status\"")
			}
			return err
		}
		now := resp.Msg.GetBackfill()
		switch {
		case now.GetEndedAt() != nil:
			progress.end()
			return showResult(a, now, asJSON)
		case asJSON:
			if err := printMessageLine(a.out, now); err != nil {
				return err
			}
		default:
			progress.show(shareOf(now), progressLine(now))
		}
		select {
		case <-look.C:
		case <-a.ctx.Done():
		}
	}
}

// shareOf is how much is done, or less than 0 while nothing tells.
func shareOf(b *adminv1.Backfill) float64 {
	if b.GetShare() == 0 {
		return -1
	}
	return b.GetShare()
}

// progressLine says what changes while a backfill works.
func progressLine(b *adminv1.Backfill) string {
	n := b.GetCounts()
	parts := []string{
		fmt.Sprintf("%s %s: %d pages, %d listed, %d repaired", worked(b), backfillWord(b), b.GetPages(), n["listed"], n["repaired"]),
		fmt.Sprintf("%.0f/s", b.GetPerSecond()), shareText(b),
	}
	if b.GetAccounts() > 1 {
		parts = append(parts, fmt.Sprintf("%d of %d accounts", b.GetAccountsDone(), b.GetAccounts()))
	}
	parts = append(parts, b.GetReasons()...)
	return strings.Join(parts, ", ")
}

func worked(b *adminv1.Backfill) time.Duration { return rounded(b.GetWorked().AsDuration()) }

// rounded is a duration for people.
func rounded(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// shareText says how much is done and how long the rest takes, where that is
// known.
func shareText(b *adminv1.Backfill) string {
	switch {
	case b.GetShare() == 0:
		return "share done unknown"
	case b.GetLeft() == nil:
		return fmt.Sprintf("%.0f%% done", 100*b.GetShare())
	default:
		return fmt.Sprintf("%.0f%% done, about %s left", 100*b.GetShare(), rounded(b.GetLeft().AsDuration()))
	}
}

// showResult prints how a backfill ended.
func showResult(a *app, b *adminv1.Backfill, asJSON bool) error {
	var err error
	if asJSON {
		err = printMessageLine(a.out, b)
	} else {
		_, err = fmt.Fprintln(a.out, printable(resultLine(b)))
	}
	if err == nil && !b.GetComplete() {
		err = failed()
	}
	return err
}

// resultLine says what a backfill did, and whether that is all.
func resultLine(b *adminv1.Backfill) string {
	verdict, n := "complete", b.GetCounts()
	if !b.GetComplete() {
		verdict = "NOT complete"
	}
	line := fmt.Sprintf("%s: %d listed, %d matched, %d missed, %d stale, %d repaired, %d unreadable, in %d pages and %s",
		verdict, n["listed"], n["matched"], n["missed"], n["stale"], n["repaired"], n["unreadable"], b.GetPages(), worked(b))
	if n["redelivered"] > 0 {
		line += fmt.Sprintf("; the source sent %d again itself", n["redelivered"])
	}
	if b.GetDryRun() {
		line += "; a dry run, which repairs nothing"
	}
	if len(b.GetReasons()) > 0 {
		line += "; because: " + strings.Join(b.GetReasons(), "; ")
	}
	return line
}

type backfillStatusCmd struct {
	apiFlags
	watchFlags
	ID     string `arg:"" optional:"" help:"Only this backfill, with its accounts."`
	Follow bool   `short:"f" help:"Show its progress up to its end, and exit 1 if it is not complete then."`
	JSON   bool   `name:"json" help:"Print the progress as JSON."`
}

// Help is shown by --help.
func (backfillStatusCmd) Help() string {
	return `Works whether a reconciler runs or not. Without a name it lists the backfills of the last
month.

Examples:
  tercel backfill status
  tercel backfill status --follow`
}

// Run runs the command.
func (c backfillStatusCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	if c.Follow {
		if c.ID == "" {
			if c.ID, err = onlyBackfill(a, api); err != nil {
				return err
			}
		}
		b, err := api.backfills.GetBackfill(a.ctx, connect.NewRequest(&adminv1.GetBackfillRequest{Id: c.ID}))
		if err != nil {
			return err
		}
		return watchBackfill(a, api, b.Msg.GetBackfill(), c.JSON)
	}
	return c.watch(a, func(a *app) error {
		if c.ID == "" {
			return c.list(a, api)
		}
		return c.one(a, api)
	})
}

func (c backfillStatusCmd) list(a *app, api *api) error {
	resp, err := api.backfills.ListBackfills(a.ctx, connect.NewRequest(&adminv1.ListBackfillsRequest{}))
	if err != nil {
		return err
	}
	if c.JSON {
		texts, err := messages(resp.Msg.GetBackfills())
		if err != nil {
			return err
		}
		return printJSON(a.out, texts)
	}
	if len(resp.Msg.GetBackfills()) == 0 {
		_, err := fmt.Fprintln(a.out, "nothing has been backfilled")
		return err
	}
	t := newTable(a.out, "backfill", "resource", "state", "from", "to", "listed", "repaired", "done", "complete")
	for _, b := range resp.Msg.GetBackfills() {
		t.row(b.GetId(), b.GetResource().GetSource()+" "+b.GetResource().GetResource(), backfillWord(b), fromText(b.GetFrom()), stamp(b.GetTo()),
			b.GetCounts()["listed"], b.GetCounts()["repaired"], percent(b.GetShare()), b.GetComplete())
	}
	return t.flush()
}

func percent(share float64) string {
	if share == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.0f%%", 100*share)
}

// one shows a backfill with its accounts.
func (c backfillStatusCmd) one(a *app, api *api) error {
	resp, err := api.backfills.GetBackfill(a.ctx, connect.NewRequest(&adminv1.GetBackfillRequest{Id: c.ID}))
	if err != nil {
		return err
	}
	if c.JSON {
		return printMessage(a.out, resp.Msg)
	}
	b := resp.Msg.GetBackfill()
	t := newTable(a.out)
	t.row("backfill", b.GetId())
	t.row("resource", b.GetResource().GetSource()+" "+b.GetResource().GetResource())
	t.row("window", fromText(b.GetFrom())+" to "+stamp(b.GetTo()))
	t.row("started", stamp(b.GetStartedAt()))
	switch {
	case b.GetState() == adminv1.BackfillState_BACKFILL_STATE_RUNNING && b.GetEndedAt() == nil && resp.Msg.GetRunner() == "":
		t.row("state", "running, but no reconciler works on it: is one there?")
	default:
		t.row("state", strings.TrimSpace(backfillWord(b)+" "+resp.Msg.GetRunner()))
	}
	t.row("at once", fmt.Sprintf("%d slices, at most %d records a second", b.GetSlices(), b.GetRate()))
	t.row("progress", progressLine(b))
	if b.GetEndedAt() != nil {
		t.row("result", resultLine(b))
	}
	if err := t.flush(); err != nil {
		return err
	}
	t = newTable(a.out, "account", "run", "pages", "listed", "matched", "missed", "stale", "repaired", "unreadable", "done", "complete")
	for _, x := range resp.Msg.GetAccounts() {
		n := x.GetCounts()
		t.row(x.GetAccount(), x.GetRun(), x.GetPages(), n["listed"], n["matched"], n["missed"], n["stale"], n["repaired"], n["unreadable"],
			fmt.Sprintf("%.0f%%", 100*x.GetShare()), x.GetComplete())
	}
	return t.flush()
}
