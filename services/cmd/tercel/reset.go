package main

import (
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

type reconcileResetCmd struct {
	apiFlags
	reasonFlags
	scopeFlags
	To        string `help:"The time to go back to: a date, a time, or how long ago." placeholder:"TIME"`
	Beginning bool   `help:"Go back to the beginning, or as far as the resource's start reaches."`
	Yes       bool   `short:"y" help:"Don't ask."`
	JSON      bool   `name:"json" help:"Print the plan as one JSON object."`
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

// to is the time to go back to, or nil for the beginning.
func (c reconcileResetCmd) to() (*timestamppb.Timestamp, error) {
	return when("--to", c.To)
}

// Run runs the command.
func (c reconcileResetCmd) Run(a *app) error {
	to, err := c.to()
	if err != nil {
		return err
	}
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	plan, err := api.reconciliation.PlanReconciliationReset(a.ctx, connect.NewRequest(&adminv1.PlanReconciliationResetRequest{
		Resource: c.resource(), To: to, Beginning: c.Beginning,
	}))
	if err != nil {
		return err
	}
	if !c.Yes {
		if err := printResets(a.err, plan.Msg, to); err != nil {
			return err
		}
		if err := confirm(a, fmt.Sprintf("Set %d resources back, and list that again?", len(plan.Msg.GetResources()))); err != nil {
			return err
		}
	}
	_, err = api.reconciliation.ResetReconciliation(a.ctx, connect.NewRequest(&adminv1.ResetReconciliationRequest{
		Resource: c.resource(), To: to, Beginning: c.Beginning, Reason: c.why(a),
	}))
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printMessage(a.out, plan.Msg)
	default:
		return printResets(a.out, plan.Msg, to)
	}
}

func printResets(w io.Writer, plan *adminv1.PlanReconciliationResetResponse, to *timestamppb.Timestamp) error {
	t := newTable(w, "resource", "account", "was complete through", "goes back to", "listed since", "runs since")
	for _, l := range plan.GetResources() {
		t.row(l.GetResource().GetSource()+" "+l.GetResource().GetResource(), l.GetResource().GetAccount(), stamp(l.GetCompleteThrough()), fromText(to),
			l.GetListedSince(), l.GetRunsSince())
	}
	return t.flush()
}

// fromText is where a time begins, for people.
func fromText(t *timestamppb.Timestamp) string {
	if t == nil {
		return "the beginning"
	}
	return stamp(t)
}
