package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

type destinationCmd struct {
	Pause  destinationPauseCmd  `cmd:"" help:"Deliver nothing more to a destination until it is resumed."`
	Resume destinationResumeCmd `cmd:"" help:"Deliver to a destination again."`
}

type destinationPauseCmd struct {
	pipelineFlags
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
	return c.change(a, c.Name, "paused", topology.PauseDestination)
}

type destinationResumeCmd struct {
	pipelineFlags
	Name string `arg:"" help:"The destination."`
}

// Help is shown by --help.
func (destinationResumeCmd) Help() string {
	return `Example:
  tercel destination resume warehouse`
}

// Run runs the command.
func (c destinationResumeCmd) Run(a *app) error {
	return c.change(a, c.Name, "resumed", topology.ResumeDestination)
}

// change does something to a destination's consumer and says so.
func (p pipelineFlags) change(
	a *app, name, done string, do func(ctx context.Context, js jetstream.JetStream, destination string) error,
) error {
	nc, err := p.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(a.ctx, 30*time.Second)
	defer cancel()
	err = do(ctx, nc.js, name)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return fmt.Errorf("no sink has served a destination %s; there are: %s", name, destinationNames(ctx, nc.js))
	case err != nil:
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s is %s\n", name, done)
	return err
}

// destinationNames lists the destinations that have a consumer, for a message.
func destinationNames(ctx context.Context, js jetstream.JetStream) string {
	s, err := js.Stream(ctx, topology.StreamEnriched)
	if err != nil {
		return err.Error()
	}
	var names []string
	for durable := range s.ConsumerNames(ctx).Name() {
		if stage, name, ok := topology.Stage(durable); ok && stage == topology.StageDeliver {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
