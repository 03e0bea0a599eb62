package main

import (
	"fmt"
	"strings"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

type destinationCmd struct {
	List   destinationListCmd   `cmd:"" help:"List destinations and what waits for them."`
	Pause  destinationPauseCmd  `cmd:"" help:"Deliver nothing more to a destination until it is resumed."`
	Resume destinationResumeCmd `cmd:"" help:"Deliver to a destination again."`
}

type destinationListCmd struct {
	apiFlags
	watchFlags
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

// Help is shown by --help.
func (destinationListCmd) Help() string {
	return `Example:
  tercel destination list`
}

// Run runs the command.
func (c destinationListCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	return c.watch(a, func(a *app) error {
		resp, err := api.destinations.ListDestinations(a.ctx, connect.NewRequest(&adminv1.ListDestinationsRequest{}))
		if err != nil {
			return err
		}
		t := newTable(a.out, "destination", "kind", "pending", "in hand", "last ack", "state", "takes")
		for _, d := range resp.Msg.GetDestinations() {
			if c.JSON {
				if err := printMessageLine(a.out, d); err != nil {
					return err
				}
				continue
			}
			state := "served"
			switch {
			case d.GetUnserved():
				state = "no sink has served it yet"
			case d.GetPausedUntil() != nil:
				state = "paused " + untilWhen(d.GetPausedUntil())
			}
			t.row(d.GetName(), d.GetKind(), d.GetPending(), d.GetInHand(), ago(d.GetLastAckAt()), state, strings.Join(d.GetSubjects(), " "))
		}
		if c.JSON {
			return nil
		}
		return t.flush()
	})
}

type destinationPauseCmd struct {
	apiFlags
	reasonFlags
	Name string `arg:"" help:"The destination."`
}

// Help is shown by --help.
func (destinationPauseCmd) Help() string {
	return `All sinks stop handing events to the destination, after those that they have in
hand, and stay so when they are started again. Its events wait in their stream,
for as long as that keeps them. Other destinations go on.

Example:
  tercel destination pause warehouse`
}

// Run runs the command.
func (c destinationPauseCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	if _, err := api.destinations.PauseDestination(a.ctx, connect.NewRequest(&adminv1.PauseDestinationRequest{Destination: c.Name, Reason: c.why(a)})); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s is paused\n", printable(c.Name))
	return err
}

type destinationResumeCmd struct {
	apiFlags
	reasonFlags
	Name string `arg:"" help:"The destination."`
}

// Help is shown by --help.
func (destinationResumeCmd) Help() string {
	return `Example:
  tercel destination resume warehouse`
}

// Run runs the command.
func (c destinationResumeCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	if _, err := api.destinations.ResumeDestination(a.ctx, connect.NewRequest(&adminv1.ResumeDestinationRequest{Destination: c.Name, Reason: c.why(a)})); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s is resumed\n", printable(c.Name))
	return err
}
