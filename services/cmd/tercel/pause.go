package main

import (
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// scopeFlags name resources of a source.
type scopeFlags struct {
	Source   string `arg:"" help:"The source."`
	Resource string `arg:"" optional:"" help:"Only this resource of it."`
	Account  string `help:"Only this account of it." placeholder:"NAME"`
}

func (f scopeFlags) resource() *adminv1.Resource {
	return &adminv1.Resource{Source: f.Source, Account: f.Account, Resource: f.Resource}
}

// scopeText names what is named, for people.
func scopeText(r *adminv1.Resource) string {
	text := r.GetSource()
	if r.GetResource() != "" {
		text += " " + r.GetResource()
	}
	if r.GetAccount() != "" {
		text += " of account " + r.GetAccount()
	}
	return text
}

type reconcilePauseCmd struct {
	apiFlags
	reasonFlags
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
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	known, err := c.known(a, api)
	if err != nil {
		return err
	}
	resp, err := api.reconciliation.PauseReconciliation(a.ctx, connect.NewRequest(&adminv1.PauseReconciliationRequest{Resource: c.resource(), Reason: c.why(a)}))
	if err != nil {
		return err
	}
	if c.JSON {
		return printMessage(a.out, resp.Msg)
	}
	was := "it was not paused before"
	if before := resp.Msg.GetBefore(); len(before) > 0 {
		was = "it was already, by " + pausesText(before)
	}
	running := 0
	for _, r := range known {
		if r.GetRunner() != "" {
			running++
		}
	}
	_, err = fmt.Fprintf(a.out, "%s is paused; %s; resources: %d, with a run in hand: %d\n", scopeText(c.resource()), was, len(known), running)
	return err
}

type reconcileResumeCmd struct {
	apiFlags
	reasonFlags
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
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	resp, err := api.reconciliation.ResumeReconciliation(a.ctx, connect.NewRequest(&adminv1.ResumeReconciliationRequest{Resource: c.resource(), Reason: c.why(a)}))
	if err != nil {
		return err
	}
	ended, left := resp.Msg.GetEnded(), resp.Msg.GetLeft()
	switch {
	case c.JSON:
		err = printMessage(a.out, resp.Msg)
	case len(ended) > 0:
		_, err = fmt.Fprintf(a.out, "%s is resumed; before, there was %s\n", scopeText(c.resource()), pausesText(ended))
	default:
		_, err = fmt.Fprintf(a.out, "%s has no pause of its own\n", scopeText(c.resource()))
	}
	if err == nil && len(left) > 0 {
		return exitCode{boot.Failed, "still there is " + pausesText(left)}
	}
	return err
}

// known returns how far what is named is. That there is none may be meant, before
// the first run, so it is told.
func (f scopeFlags) known(a *app, api *api) ([]*adminv1.ResourceStatus, error) {
	resp, err := api.reconciliation.GetReconciliationStatus(a.ctx, connect.NewRequest(&adminv1.GetReconciliationStatusRequest{Source: f.Source}))
	if err != nil {
		return nil, err
	}
	var named []*adminv1.ResourceStatus
	var names []string
	for _, r := range resp.Msg.GetResources() {
		is := r.GetResource()
		if (f.Account == "" || f.Account == is.GetAccount()) && (f.Resource == "" || f.Resource == is.GetResource()) {
			named = append(named, r)
		}
		names = append(names, is.GetSource()+" "+is.GetResource())
	}
	if len(named) == 0 {
		slices.Sort(names)
		fmt.Fprintf(a.err, "note: nothing of %s was ever reconciled; there are: %s\n", printable(scopeText(f.resource())),
			printable(orDash(strings.Join(slices.Compact(names), ", "))))
	}
	return named, nil
}

// pausesText names pauses and since when they are.
func pausesText(pauses []*adminv1.ReconciliationPause) string {
	var texts []string
	for _, p := range pauses {
		texts = append(texts, fmt.Sprintf("the pause of %s since %s", printable(scopeText(p.GetResource())), stamp(p.GetSince())))
	}
	return strings.Join(texts, " and ")
}
