package main

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
)

type eventReplayCmd struct {
	apiFlags
	reasonFlags
	paceFlags
	eventFlags
	timeFlags
	From  string        `help:"Where they begin: enrich fetches the record anew, verify checks their requests again before, with the configuration and the secrets of now." enum:"verify,enrich" default:"enrich" placeholder:"verify|enrich"`
	Limit uint32        `help:"Send only the oldest so many, such as 1 as a trial before the rest." placeholder:"N"`
	Wait  time.Duration `help:"How long to look what becomes of them after the last was sent, at most 10m." default:"30s"`
	Event string        `arg:"" optional:"" help:"An event's id, or the provider's id of a delivery."`
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
	planned, err := api.events.PlanEventReplay(a.ctx, connect.NewRequest(&adminv1.PlanEventReplayRequest{Filter: f, Stage: replayStages[c.From]}))
	if err != nil {
		return err
	}
	plan := planned.Msg.GetPlan()
	if goOn, err := c.agree(a, plan, c.Limit); err != nil || !goOn {
		return err
	}
	return c.replay(a, api, &adminv1.ReplayEventsRequest{
		Filter: f, PlanToken: plan.GetPlanToken(), Rate: c.Rate, MaxFailures: c.MaxFailures, Reason: c.why(a),
		Stage: replayStages[c.From], Limit: c.Limit, Watch: durationpb.New(c.Wait),
	})
}

func (c eventReplayCmd) replay(a *app, api *api, req *adminv1.ReplayEventsRequest) error {
	b := newBar(a.err)
	last := &adminv1.ReplayEventsResponse{}
	err := each(a.ctx, api, func(ctx context.Context) (*connect.ServerStreamForClient[adminv1.ReplayEventsResponse], error) {
		return api.events.ReplayEvents(ctx, connect.NewRequest(req))
	}, func(m *adminv1.ReplayEventsResponse) (bool, error) {
		last = m
		if c.JSON {
			return true, printMessageLine(a.out, m)
		}
		p := m.GetProgress()
		printFailures(a, b, p.GetFailures())
		b.show(share(p, m.GetDelivered()+m.GetFiltered()+m.GetDeadAgain()+p.GetSkipped()+p.GetFailed()), outcomeText(p, fateText(last)))
		return true, nil
	})
	b.end()
	if err != nil {
		return err
	}
	if !c.JSON {
		fmt.Fprintln(a.out, outcomeText(last.GetProgress(), fateText(last)))
	}
	return ended(last.GetProgress(), last.GetDeadAgain())
}
