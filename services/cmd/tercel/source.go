package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

type sourceCmd struct {
	List   sourceListCmd   `cmd:"" help:"List sources, when they sent last and what was refused."`
	Pause  sourcePauseCmd  `cmd:"" help:"Work on no triggers of a source until it is resumed."`
	Resume sourceResumeCmd `cmd:"" help:"Work on a source's triggers again."`
}

type sourceListCmd struct {
	apiFlags
	watchFlags
	Window time.Duration `help:"Count requests of so long." default:"24h"`
	JSON   bool          `name:"json" help:"Print one JSON object a line."`
}

// Help is shown by --help.
func (sourceListCmd) Help() string {
	return `Example:
  tercel source list --window 1h`
}

// Run runs the command.
func (c sourceListCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	return c.watch(a, func(a *app) error {
		resp, err := api.sources.ListSources(a.ctx, connect.NewRequest(&adminv1.ListSourcesRequest{Window: durationpb.New(c.Window)}))
		if err != nil {
			return err
		}
		t := newTable(a.out, "source", "preset", "last seen", "accepted", "pending", "in hand", "state", "refused")
		for _, s := range resp.Msg.GetSources() {
			if c.JSON {
				if err := printMessageLine(a.out, s); err != nil {
					return err
				}
				continue
			}
			state := "running"
			if s.GetPausedUntil() != nil {
				state = "paused " + untilWhen(s.GetPausedUntil())
			}
			var refused []string
			for _, outcome := range slices.Sorted(maps.Keys(s.GetRefused())) {
				refused = append(refused, fmt.Sprintf("%d %s", s.GetRefused()[outcome], outcome))
			}
			t.row(s.GetName(), orDash(s.GetPreset()), ago(s.GetLastSeenAt()), s.GetAccepted(), s.GetPending(), s.GetInHand(), state,
				orDash(strings.Join(refused, ", ")))
		}
		if c.JSON {
			return nil
		}
		return t.flush()
	})
}

type sourcePauseCmd struct {
	apiFlags
	reasonFlags
	Name string `arg:"" help:"The source."`
}

// Help is shown by --help.
func (sourcePauseCmd) Help() string {
	return `What it sends is taken in and waits. Those triggers that are in hand are worked on to
their end; nothing begins until it is resumed, restarts included.

Example:
  tercel source pause stripe --reason "their API is being moved"`
}

// Run runs the command.
func (c sourcePauseCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	if _, err := api.sources.PauseSource(a.ctx, connect.NewRequest(&adminv1.PauseSourceRequest{Source: c.Name, Reason: c.why(a)})); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s is paused\n", printable(c.Name))
	return err
}

type sourceResumeCmd struct {
	apiFlags
	reasonFlags
	Name string `arg:"" help:"The source."`
}

// Help is shown by --help.
func (sourceResumeCmd) Help() string {
	return `Also ends the pause that an outage of the source's API has brought about: then it is
asked again at once.

Example:
  tercel source resume stripe`
}

// Run runs the command.
func (c sourceResumeCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	if _, err := api.sources.ResumeSource(a.ctx, connect.NewRequest(&adminv1.ResumeSourceRequest{Source: c.Name, Reason: c.why(a)})); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s is resumed\n", printable(c.Name))
	return err
}
