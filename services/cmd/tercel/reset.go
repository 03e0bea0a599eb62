package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/services/internal/boot"
)

type reconcileResetCmd struct {
	pipelineFlags
	scopeFlags
	To        string `help:"The time to go back to." placeholder:"2006-01-02[T15:04:05Z]"`
	Beginning bool   `help:"Go back to the beginning, or as far as the resource's start reaches."`
	Yes       bool   `help:"Don't ask."`
	JSON      bool   `name:"json" help:"Print what there was before as JSON."`
}

// Help is shown by --help.
func (reconcileResetCmd) Help() string {
	return `What has changed since the time is listed and compared again, which a reconciler
that runs begins within half a minute. Only what was missed or is stale is sent
again. A run in hand is given up. Tells first how much was listed since that time,
and asks.

Example:
  tercel reconcile reset orders order --to 2026-11-01
  tercel reconcile reset orders --account north --beginning --yes`
}

// Validate is called before the command runs.
func (c reconcileResetCmd) Validate() error {
	if (c.To == "") == !c.Beginning {
		return errors.New("say either --to TIME or --beginning")
	}
	_, err := c.to()
	return err
}

func (c reconcileResetCmd) to() (time.Time, error) {
	if c.Beginning {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, c.To); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--to: %q, want a time such as 2026-03-01T12:00:00Z or 2026-03-01, in UTC", c.To)
}

// resetLine is one cursor that is set back.
type resetLine struct {
	Source   string `json:"source"`
	Account  string `json:"account"`
	Resource string `json:"resource"`
	// Before is up to when it was complete.
	Before time.Time `json:"before,omitzero"`
	To     time.Time `json:"to,omitzero"`
	// Listed is how many records were listed since, by the reports that there are.
	Listed int    `json:"listed_since"`
	Runs   int    `json:"runs_since"`
	Error  string `json:"error,omitzero"`
}

// Run runs the command.
func (c reconcileResetCmd) Run(a *app) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	store, err := cursor.Open(a.ctx, nc.js)
	if err != nil {
		return err
	}
	lines, err := c.plan(a, nc.js, store)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		return exitCode{boot.Failed, "there is nothing to reset"}
	}
	if !c.Yes {
		if err := printResets(a.err, lines); err != nil {
			return err
		}
		if err := confirm(a, fmt.Sprintf("Set %d cursors back, and list that again?", len(lines))); err != nil {
			return err
		}
	}
	return c.reset(a, store, lines)
}

// plan tells what a reset would change.
func (c reconcileResetCmd) plan(a *app, js jetstream.JetStream, store *cursor.Store) ([]resetLine, error) {
	to, err := c.to()
	if err != nil {
		return nil, err
	}
	known, err := c.known(a.ctx, a, store)
	if err != nil {
		return nil, err
	}
	reports, err := report.List(a.ctx, js, report.Query{Source: c.Source, Resource: c.Resource, Since: to, Limit: maxResetReports})
	if err != nil {
		return nil, err
	}
	var lines []resetLine
	for _, e := range known {
		l := resetLine{Source: e.Key.Source, Account: e.Key.Account, Resource: e.Key.Resource, Before: e.Through, To: to}
		for _, r := range reports {
			if (cursor.Key{Source: r.Source, Account: r.Account, Resource: r.Resource}) == e.Key && r.To.After(to) && !r.DryRun {
				l.Listed += r.Listed
				l.Runs++
			}
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// maxResetReports bounds the reports that are counted.
const maxResetReports = 100_000

// reset sets the cursors back, each by itself.
func (c reconcileResetCmd) reset(a *app, store *cursor.Store, lines []resetLine) error {
	failed := 0
	ctx, cancel := context.WithTimeout(a.ctx, time.Minute)
	defer cancel()
	for i := range lines {
		l := &lines[i]
		before, err := store.Reset(ctx, cursor.Key{Source: l.Source, Account: l.Account, Resource: l.Resource}, l.To, time.Now())
		l.Before = before.Through
		if err != nil {
			failed++
			l.Error = err.Error()
		}
	}
	print := printResets
	if c.JSON {
		print = func(w io.Writer, lines []resetLine) error { return printJSON(w, lines) }
	}
	if err := print(a.out, lines); err != nil {
		return err
	}
	if failed > 0 {
		return exitCode{boot.Failed, fmt.Sprintf("%d of %d cursors were not reset", failed, len(lines))}
	}
	return nil
}

func printResets(w io.Writer, lines []resetLine) error {
	t := newTable(w, "resource", "account", "was complete through", "goes back to", "listed since", "runs since", "error")
	for _, l := range lines {
		to := "the beginning"
		if !l.To.IsZero() {
			to = stamp(l.To)
		}
		t.row(l.Source+" "+l.Resource, l.Account, stamp(l.Before), to, l.Listed, l.Runs, orDash(l.Error))
	}
	return t.flush()
}
