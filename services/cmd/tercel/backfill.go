package main

import (
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
)

type backfillCmd struct {
	Start  backfillStartCmd  `cmd:"" help:"Compare the records of a time, or all of them, and repair what is missing."`
	Status backfillStatusCmd `cmd:"" help:"Show how far backfills have come."`
	Pause  backfillPauseCmd  `cmd:"" help:"Pause a backfill at its last pages."`
	Resume backfillResumeCmd `cmd:"" help:"Go on with a backfill that was paused, or that ended incomplete."`
	Cancel backfillCancelCmd `cmd:"" help:"Give a backfill up. Its report says how far it came."`
}

type backfillStartCmd struct {
	apiFlags
	reasonFlags
	Source      string `arg:"" help:"The source."`
	Resource    string `arg:"" help:"Its resource."`
	Account     string `help:"Only this account." placeholder:"NAME" xor:"account"`
	AllAccounts bool   `help:"All accounts of a source that has several." xor:"account"`
	From        string `help:"Begin of the time: 2026-01-31, 2026-01-31T08:00:00Z, or how long ago, as 720h. Defaults to the beginning." placeholder:"TIME"`
	To          string `help:"End of the time. Defaults to now, less what may still be on its way." placeholder:"TIME"`
	Slices      int    `help:"Parts of the time that are listed at once. Defaults to reconciler.backfill.slices where the list can be cut by time." placeholder:"N"`
	Rate        int    `help:"At most this many records a second. Defaults to reconciler.backfill.rate." placeholder:"N"`
	DryRun      bool   `help:"Compare and report; repair nothing."`
	Detach      bool   `help:"Don't wait for the end."`
	JSON        bool   `name:"json" help:"Print the progress as one JSON object a line; the last is the result."`
}

// Help is shown by --help.
func (backfillStartCmd) Help() string {
	return `A running reconciler does the work, survives its own restart, and moves no cursor of the
schedule. Ctrl-C stops watching, not the backfill. Exits 0 only if every record of the time
was compared, and every gap sent again.

Examples:
  tercel backfill start orders order --from 2026-01-01 --to 2026-02-01
  tercel backfill start shop invoice --all-accounts --rate 200 --detach`
}

// Run runs the command.
func (c backfillStartCmd) Run(a *app) error {
	from, err := when("--from", c.From)
	if err != nil {
		return err
	}
	to, err := when("--to", c.To)
	if err != nil {
		return err
	}
	switch {
	case to != nil && from != nil && !from.AsTime().Before(to.AsTime()):
		return exitCode{boot.Usage, fmt.Sprintf("--to %s: want a time after --from %s", c.To, c.From)}
	case c.Slices < 0 || c.Rate < 0:
		return exitCode{boot.Usage, "--slices and --rate: want at least 1"}
	}
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	resp, err := api.backfills.StartBackfill(a.ctx, connect.NewRequest(&adminv1.StartBackfillRequest{
		Resource: &adminv1.Resource{Source: c.Source, Account: c.Account, Resource: c.Resource}, AllAccounts: c.AllAccounts, From: from, To: to,
		Slices: uint32(c.Slices), Rate: uint32(c.Rate), DryRun: c.DryRun, Reason: c.why(a),
	}))
	if err != nil {
		return err
	}
	return watchOrLeave(a, api, resp.Msg.GetBackfill(), c.Detach, c.JSON)
}

// watchOrLeave shows a backfill up to its end, or only says its name.
func watchOrLeave(a *app, api *api, b *adminv1.Backfill, leave, asJSON bool) error {
	if leave && asJSON {
		return printMessageLine(a.out, b)
	}
	if leave {
		fmt.Fprintln(a.out, b.GetId())
		fmt.Fprintf(a.err, "backfill %s is %s; see \"tercel backfill status %s\"\n", b.GetId(), backfillWord(b), b.GetId())
		return nil
	}
	return watchBackfill(a, api, b, asJSON)
}

// backfillWord says what is wanted of a backfill.
func backfillWord(b *adminv1.Backfill) string { return word(b.GetState(), "BACKFILL_STATE") }

// backfillFlags name a backfill.
type backfillFlags struct {
	apiFlags
	reasonFlags
	ID string `arg:"" optional:"" help:"The backfill. Defaults to the only one that is under way."`
}

// id is the backfill that is named, or the only one that is under way.
func (f backfillFlags) id(a *app, api *api) (string, error) {
	if f.ID != "" {
		return f.ID, nil
	}
	return onlyBackfill(a, api)
}

func onlyBackfill(a *app, api *api) (string, error) {
	resp, err := api.backfills.ListBackfills(a.ctx, connect.NewRequest(&adminv1.ListBackfillsRequest{ActiveOnly: true}))
	if err != nil {
		return "", err
	}
	var ids []string
	for _, b := range resp.Msg.GetBackfills() {
		ids = append(ids, b.GetId())
	}
	switch len(ids) {
	case 1:
		return ids[0], nil
	case 0:
		return "", errors.New("no backfill is under way; \"tercel backfill status\" shows those that ended")
	default:
		return "", exitCode{boot.Usage, "several backfills are under way, name one: " + strings.Join(ids, ", ")}
	}
}

type backfillPauseCmd struct{ backfillFlags }

// Help is shown by --help.
func (backfillPauseCmd) Help() string {
	return `It stays paused until it is resumed, restarts included.

Example:
  tercel backfill pause`
}

// Run runs the command.
func (c backfillPauseCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	id, err := c.id(a, api)
	if err != nil {
		return err
	}
	resp, err := api.backfills.PauseBackfill(a.ctx, connect.NewRequest(&adminv1.PauseBackfillRequest{Id: id, Reason: c.why(a)}))
	if err == nil {
		fmt.Fprintf(a.err, "backfill %s is %s\n", id, backfillWord(resp.Msg.GetBackfill()))
	}
	return err
}

type backfillCancelCmd struct{ backfillFlags }

// Help is shown by --help.
func (backfillCancelCmd) Help() string {
	return `What was sent again stays so.

Example:
  tercel backfill cancel`
}

// Run runs the command.
func (c backfillCancelCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	id, err := c.id(a, api)
	if err != nil {
		return err
	}
	resp, err := api.backfills.CancelBackfill(a.ctx, connect.NewRequest(&adminv1.CancelBackfillRequest{Id: id, Reason: c.why(a)}))
	if err == nil {
		fmt.Fprintf(a.err, "backfill %s is %s\n", id, backfillWord(resp.Msg.GetBackfill()))
	}
	return err
}

type backfillResumeCmd struct {
	backfillFlags
	Detach bool `help:"Don't wait for the end."`
	JSON   bool `name:"json" help:"Print the progress as one JSON object a line; the last is the result."`
}

// Help is shown by --help.
func (backfillResumeCmd) Help() string {
	return `It goes on at its last pages. One that ended incomplete goes on with what is missing;
records that can't be read are then passed over and counted.

Example:
  tercel backfill resume`
}

// Run runs the command.
func (c backfillResumeCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	id, err := c.id(a, api)
	if err != nil {
		return err
	}
	resp, err := api.backfills.ResumeBackfill(a.ctx, connect.NewRequest(&adminv1.ResumeBackfillRequest{Id: id, Reason: c.why(a)}))
	if err != nil {
		return err
	}
	return watchOrLeave(a, api, resp.Msg.GetBackfill(), c.Detach, c.JSON)
}
