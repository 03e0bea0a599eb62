package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/internal/control"
)

type backfillCmd struct {
	Start  backfillStartCmd  `cmd:"" help:"Compare the records of a time, or all of them, and repair what is missing."`
	Status backfillStatusCmd `cmd:"" help:"Show how far backfills have come."`
	Pause  backfillPauseCmd  `cmd:"" help:"Pause a backfill at its last pages."`
	Resume backfillResumeCmd `cmd:"" help:"Go on with a backfill that was paused, or that ended incomplete."`
	Cancel backfillCancelCmd `cmd:"" help:"Give a backfill up. Its report says how far it came."`
}

type backfillStartCmd struct {
	pipelineFlags
	Source      string `arg:"" help:"The source."`
	Resource    string `arg:"" help:"Its resource."`
	Account     string `help:"Only this account." placeholder:"NAME" xor:"account"`
	AllAccounts bool   `help:"All accounts of a source that has several." xor:"account"`
	From        string `help:"Begin of the time: 2026-01-31, 2026-01-31T08:00:00Z, or how long ago, as 720h. Defaults to the beginning." placeholder:"TIME"`
	To          string `help:"End of the time. Defaults to now, less what may still be on its way." placeholder:"TIME"`
	Slices      int    `help:"Parts of the time that are listed at once. Defaults to reconciler.backfill.slices where the list can be cut by time." placeholder:"N"`
	Rate        int    `help:"At most this many records a second. Defaults to reconciler.backfill.rate." placeholder:"N"`
	DryRun      bool   `help:"Compare and report; repair nothing."`
	Detach      bool   `help:"Don't wait for the end." xor:"detach"`
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
	req := control.BackfillRequest{
		Action: control.Start, Source: c.Source, Resource: c.Resource, Account: c.Account, AllAccounts: c.AllAccounts,
		Slices: c.Slices, Rate: c.Rate, DryRun: c.DryRun,
	}
	var err error
	now := time.Now()
	if req.From, err = when("--from", c.From, now); err != nil {
		return err
	}
	if req.To, err = when("--to", c.To, now); err != nil {
		return err
	}
	switch {
	case !req.To.IsZero() && !req.From.Before(req.To):
		return exitCode{boot.Usage, fmt.Sprintf("--to %s: want a time after --from %s", c.To, c.From)}
	case c.Slices < 0 || c.Rate < 0:
		return exitCode{boot.Usage, "--slices and --rate: want at least 1"}
	}
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	b, err := askBackfill(a, nc, req)
	if err != nil {
		return err
	}
	return watchOrLeave(a, nc, b, c.Detach, c.JSON)
}

// when reads a time of a flag: a date, a time, or how long ago.
func when(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, exitCode{boot.Usage, fmt.Sprintf("%s %s: want a date as 2026-01-31 (UTC), a time as 2026-01-31T08:00:00Z, or how long ago, as 720h", flag, text)}
}

// askBackfill asks a reconciler. A time that can't be listed is the command
// line's fault.
func askBackfill(a *app, nc *connection, req control.BackfillRequest) (cursor.Backfill, error) {
	b, err := control.Backfill(a.ctx, nc.Conn, req)
	if errors.Is(err, control.ErrRange) {
		err = exitCode{boot.Usage, err.Error()}
	}
	return b, err
}

// watchOrLeave shows a backfill up to its end, or only says its name.
func watchOrLeave(a *app, nc *connection, b cursor.Backfill, leave, asJSON bool) error {
	if leave && asJSON {
		return printLine(a.out, b.Progress(nil, time.Now()))
	}
	if leave {
		fmt.Fprintln(a.out, b.ID)
		fmt.Fprintf(a.err, "backfill %s is %s; see \"tercel backfill status %s\"\n", b.ID, b.State, b.ID)
		return nil
	}
	return watchBackfill(a, nc, b, asJSON)
}

// backfillFlags name a backfill.
type backfillFlags struct {
	pipelineFlags
	ID string `arg:"" optional:"" help:"The backfill. Defaults to the only one that is under way."`
}

// change asks for a change of the backfill.
func (f backfillFlags) change(a *app, nc *connection, action control.Action) (cursor.Backfill, error) {
	id := f.ID
	if id == "" {
		var err error
		if id, err = onlyBackfill(a, nc); err != nil {
			return cursor.Backfill{}, err
		}
	}
	return askBackfill(a, nc, control.BackfillRequest{Action: action, ID: id})
}

// onlyBackfill is the one that is under way.
func onlyBackfill(a *app, nc *connection) (string, error) {
	store, err := cursor.OpenBackfills(a.ctx, nc.js)
	if err != nil {
		return "", err
	}
	all, err := store.List(a.ctx)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, b := range all {
		if b.Active() {
			ids = append(ids, b.ID)
		}
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
func (c backfillPauseCmd) Run(a *app) error { return c.tell(a, control.Pause) }

type backfillCancelCmd struct{ backfillFlags }

// Help is shown by --help.
func (backfillCancelCmd) Help() string {
	return `What was sent again stays so.

Example:
  tercel backfill cancel`
}

// Run runs the command.
func (c backfillCancelCmd) Run(a *app) error { return c.tell(a, control.Cancel) }

// tell asks for a change and says what became of it.
func (f backfillFlags) tell(a *app, action control.Action) error {
	nc, err := f.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	b, err := f.change(a, nc, action)
	if err == nil {
		fmt.Fprintf(a.err, "backfill %s is %s\n", b.ID, b.State)
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
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	b, err := c.change(a, nc, control.Resume)
	if err != nil {
		return err
	}
	return watchOrLeave(a, nc, b, c.Detach, c.JSON)
}
