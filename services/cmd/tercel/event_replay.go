package main

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
)

type eventReplayCmd struct {
	apiFlags
	reasonFlags
	paceFlags
	eventFlags
	timeFlags
	Event string `arg:"" optional:"" help:"An event's id, or the provider's id of a delivery."`
}

// Help is shown by --help.
func (eventReplayCmd) Help() string {
	return `Shows the plan first. Stored triggers go to their own subjects again, each as the same event under a
fresh message id: what has had its effect already has no second one.

Examples:
  tercel event replay evt_1NG8Du2eZvKYlo2C
  tercel event replay --source stripe --type 'invoice.*' --since 2d --rate 50`
}

// Run runs the command.
func (c eventReplayCmd) Run(a *app) error {
	if c.Event != "" && c.ID != "" {
		return exitCode{boot.Usage, "name the event once, as an argument or with --id"}
	}
	if c.Event != "" {
		c.ID = c.Event
	}
	f := c.filter()
	var err error
	if f.Since, f.Until, err = c.times(); err != nil {
		return err
	}
	if c.empty() && f.GetSince() == nil {
		return exitCode{boot.Usage, "name an event, or choose some with --source, --since and others"}
	}
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	planned, err := api.events.PlanEventReplay(a.ctx, connect.NewRequest(&adminv1.PlanEventReplayRequest{Filter: f}))
	if err != nil {
		return err
	}
	plan := planned.Msg.GetPlan()
	if goOn, err := c.agree(a, plan, 0); err != nil || !goOn {
		return err
	}
	return c.replay(a, api, &adminv1.ReplayEventsRequest{
		Filter: f, PlanToken: plan.GetPlanToken(), Rate: c.Rate, MaxFailures: c.MaxFailures, Reason: c.why(a),
	})
}

func (c eventReplayCmd) replay(a *app, api *api, req *adminv1.ReplayEventsRequest) error {
	b := newBar(a.err)
	last := &adminv1.ReplayProgress{}
	err := each(a.ctx, api, func(ctx context.Context) (*connect.ServerStreamForClient[adminv1.ReplayEventsResponse], error) {
		return api.events.ReplayEvents(ctx, connect.NewRequest(req))
	}, func(m *adminv1.ReplayEventsResponse) (bool, error) {
		last = m.GetProgress()
		if c.JSON {
			return true, printMessageLine(a.out, m)
		}
		printFailures(a, b, last.GetFailures())
		b.show(share(last, last.GetReplayed()+last.GetSkipped()+last.GetFailed()), outcomeText(last, ""))
		return true, nil
	})
	b.end()
	if err != nil {
		return err
	}
	if !c.JSON {
		fmt.Fprintln(a.out, outcomeText(last, ""))
	}
	return ended(last, 0)
}
