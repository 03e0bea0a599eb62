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

type dlqReplayCmd struct {
	apiFlags
	reasonFlags
	paceFlags
	letterFlags
	N     []uint64      `arg:"" optional:"" help:"Numbers of dead letters."`
	All   bool          `help:"Every open one."`
	From  string        `help:"Where they begin: verify checks their requests again, with the configuration and the secrets of now, enrich fetches the record anew, deliver sends what there is to the destinations. Defaults to the stage that gave them up." enum:",verify,enrich,deliver" default:"" placeholder:"verify|enrich|deliver"`
	To    []string      `help:"Deliver to these destinations only. Defaults to the one that didn't take it." placeholder:"NAME"`
	Limit uint32        `help:"Send only the oldest so many, such as 1 as a trial before the rest." placeholder:"N"`
	Force bool          `help:"Also those that were replayed before."`
	Wait  time.Duration `help:"How long to look what becomes of them after the last was sent, at most 10m." default:"30s"`
}

// Help is shown by --help.
func (dlqReplayCmd) Help() string {
	return `Shows the plan first, and then how many were delivered and how many came back. The original message goes to
its own subject again, as the same event under a fresh message id: what has had its effect already has no second
one. The dead letter stays and is marked. Exits 1 when not all were sent or some came back.

Examples:
  tercel dlq replay 42
  tercel dlq replay --group 5d41402abc4b --limit 1
  tercel dlq replay --all --source stripe --rate 50`
}

// Run runs the command.
func (c dlqReplayCmd) Run(a *app) error {
	chosen := c.All || !c.empty()
	if (len(c.N) == 0) == !chosen || len(c.N) > 0 && c.All {
		return exitCode{boot.Usage, "name dead letters by number, or choose open ones with --group, --source and others, or --all of them"}
	}
	if c.Rate < 1 {
		return exitCode{boot.Usage, fmt.Sprintf("--rate %d: want at least 1", c.Rate)}
	}
	f, err := c.filter(c.N)
	if err != nil {
		return err
	}
	if chosen && !c.Force {
		f.State = states(false)
	}
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	stage := replayStages[c.From]
	planned, err := api.letters.PlanDeadLetterReplay(a.ctx, connect.NewRequest(&adminv1.PlanDeadLetterReplayRequest{
		Filter: f, Stage: stage, Destinations: c.To, Force: c.Force,
	}))
	if err != nil {
		return err
	}
	plan := planned.Msg.GetPlan()
	if goOn, err := c.agree(a, plan, c.Limit); err != nil || !goOn {
		return err
	}
	return c.replay(a, api, &adminv1.ReplayDeadLettersRequest{
		Filter: f, Stage: stage, Destinations: c.To, Force: c.Force, PlanToken: plan.GetPlanToken(), Rate: c.Rate, Limit: c.Limit,
		MaxFailures: c.MaxFailures, Watch: durationpb.New(c.Wait), Reason: c.why(a),
	})
}

func (c dlqReplayCmd) replay(a *app, api *api, req *adminv1.ReplayDeadLettersRequest) error {
	b := newBar(a.err)
	last := &adminv1.ReplayDeadLettersResponse{}
	fate := func() string {
		return fateText(last)
	}
	err := each(a.ctx, api, func(ctx context.Context) (*connect.ServerStreamForClient[adminv1.ReplayDeadLettersResponse], error) {
		return api.letters.ReplayDeadLetters(ctx, connect.NewRequest(req))
	}, func(m *adminv1.ReplayDeadLettersResponse) (bool, error) {
		last = m
		if c.JSON {
			return true, printMessageLine(a.out, m)
		}
		p := m.GetProgress()
		printFailures(a, b, p.GetFailures())
		b.show(share(p, m.GetDelivered()+m.GetFiltered()+m.GetDeadAgain()+p.GetSkipped()+p.GetFailed()), outcomeText(p, fate()))
		return true, nil
	})
	b.end()
	if err != nil {
		return err
	}
	if !c.JSON {
		fmt.Fprintln(a.out, outcomeText(last.GetProgress(), fate()))
	}
	return ended(last.GetProgress(), last.GetDeadAgain())
}
