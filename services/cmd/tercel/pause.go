package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// scopeFlags name resources of a source.
type scopeFlags struct {
	Source   string `arg:"" help:"The source."`
	Resource string `arg:"" optional:"" help:"Only this resource of it."`
	Account  string `help:"Only this account of it." placeholder:"NAME"`
}

func (f scopeFlags) scope() cursor.Scope {
	return cursor.Scope{Source: f.Source, Account: f.Account, Resource: f.Resource}
}

type reconcilePauseCmd struct {
	pipelineFlags
	scopeFlags
	JSON bool `name:"json" help:"Print what there was before as one JSON object."`
}

// Help is shown by --help.
func (reconcilePauseCmd) Help() string {
	return `Needs no reconciler: the pause is kept by the server, until it is resumed. Runs
in hand stop at the last page that they have saved. Backfills have a pause of their
own: tercel backfill pause.

Example:
  tercel reconcile pause orders                       all of the source
  tercel reconcile pause orders --account north       one account
  tercel reconcile pause orders order                 one resource, of all accounts`
}

// Run runs the command.
func (c reconcilePauseCmd) Run(a *app) error {
	return c.with(a, func(ctx context.Context, store *cursor.Store) error {
		known, err := c.known(ctx, a, store)
		if err != nil {
			return err
		}
		before, err := store.Pause(ctx, c.scope(), time.Now())
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(a.out, map[string]any{"paused": c.scope(), "before": orEmpty(before)})
		}
		was := "it was not paused before"
		if len(before) > 0 {
			was = "it was already, by " + pausesText(before)
		}
		running := 0
		for _, e := range known {
			if e.InHand() {
				running++
			}
		}
		_, err = fmt.Fprintf(a.out, "%s is paused; %s; resources: %d, with a run in hand: %d\n", c.scope(), was, len(known), running)
		return err
	})
}

type reconcileResumeCmd struct {
	pipelineFlags
	scopeFlags
	JSON bool `name:"json" help:"Print what there was before as one JSON object."`
}

// Help is shown by --help.
func (reconcileResumeCmd) Help() string {
	return `Ends the pauses of what is named and of parts of it. Runs that were in hand go on
from the page where they stopped. Exits 1 when some of it stays paused because more
than that was.

Example:
  tercel reconcile resume orders`
}

// Run runs the command.
func (c reconcileResumeCmd) Run(a *app) error {
	return c.with(a, func(ctx context.Context, store *cursor.Store) error {
		ended, left, err := store.Resume(ctx, c.scope())
		if err != nil {
			return err
		}
		switch {
		case c.JSON:
			err = printJSON(a.out, map[string]any{"resumed": orEmpty(ended), "left": orEmpty(left)})
		case len(ended) > 0:
			_, err = fmt.Fprintf(a.out, "%s is resumed; before, there was %s\n", c.scope(), pausesText(ended))
		default:
			_, err = fmt.Fprintf(a.out, "%s has no pause of its own\n", c.scope())
		}
		if err == nil && len(left) > 0 {
			return exitCode{boot.Failed, "still there is " + pausesText(left)}
		}
		return err
	})
}

// with calls do with the store of a running pipeline.
func (p pipelineFlags) with(a *app, do func(ctx context.Context, store *cursor.Store) error) error {
	nc, err := p.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(a.ctx, 30*time.Second)
	defer cancel()
	store, err := cursor.Open(ctx, nc.js)
	if err != nil {
		return err
	}
	return do(ctx, store)
}

// known returns the cursors of what is named. That there is none may be meant,
// before the first run, or be a slip, so it is told.
func (f scopeFlags) known(ctx context.Context, a *app, store *cursor.Store) ([]cursor.Entry, error) {
	all, err := store.List(ctx)
	if err != nil {
		return nil, err
	}
	var named []cursor.Entry
	var names []string
	for _, e := range all {
		if f.scope().Has(e.Key) {
			named = append(named, e)
		}
		names = append(names, e.Key.Source+" "+e.Key.Resource)
	}
	if len(named) == 0 {
		slices.Sort(names)
		names = slices.Compact(names)
		fmt.Fprintf(a.err, "note: nothing of %s was ever reconciled; there are: %s\n", f.scope(), orDash(strings.Join(names, ", ")))
	}
	return named, nil
}

// pausesText names pauses and since when they are.
func pausesText(pauses []cursor.Pause) string {
	var texts []string
	for _, p := range pauses {
		texts = append(texts, fmt.Sprintf("the pause of %s since %s", p.Scope, stamp(p.Since)))
	}
	return strings.Join(texts, " and ")
}

// orEmpty is s, for JSON never null.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
