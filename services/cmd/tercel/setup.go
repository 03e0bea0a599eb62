package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// setupTimeout bounds setting up, the time until the servers are there included.
const setupTimeout = 2 * time.Minute

type setupCmd struct {
	natsFlags
	Config string `short:"c" help:"The pipeline file." default:"tercel.yaml" env:"TERCEL_CONFIG"`
	DryRun bool   `help:"Only say what would change."`
}

// Help is shown by --help.
func (setupCmd) Help() string {
	return `Makes the streams and buckets that are missing, changes those that differ from the file where
nothing is lost by it, and makes the teams' consumers. It connects as the file's nats section
says; with "streams: {setup: command}" it is the only one that needs the right to. Waits up to two
minutes for the servers. Running it again changes nothing.

Example:
  tercel setup -c tercel.yaml && echo ready`
}

// Run runs the command.
func (c setupCmd) Run(a *app) error {
	file, err := pipeline.Load(c.Config)
	if err != nil {
		return err
	}
	file.NATS = c.over(file.NATS)
	file.Streams.Setup = topology.ByServices // this is the command that the others wait for
	ctx, cancel := context.WithTimeout(a.ctx, setupTimeout)
	defer cancel()
	nc, err := boot.Connect(file.NATS, "setup", boot.NewLogger(a.err, "warn"))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	for !nc.IsConnected() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("set up streams: %w", errors.Join(ctx.Err(), nc.LastError()))
		case <-time.After(100 * time.Millisecond):
		}
	}
	return c.setUp(ctx, a, js, file)
}

func (c setupCmd) setUp(ctx context.Context, a *app, js jetstream.JetStream, file *pipeline.File) error {
	// A cluster that has just started doesn't answer yet.
	changes, err := backoff.RetryWithData(func() ([]topology.Change, error) { return topology.Diff(ctx, js, file.Streams) },
		backoff.WithContext(backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond),
			backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(setupTimeout)), ctx))
	if err != nil {
		return err
	}
	for _, ch := range changes {
		fmt.Fprintln(a.out, ch)
	}
	if c.DryRun {
		return nil
	}
	if err := topology.Ensure(ctx, js, file.Streams); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(file.Sources)) {
		bucket := file.Sources[name].Accounts.Bucket
		if bucket == "" {
			continue
		}
		if _, err := js.CreateOrUpdateKeyValue(ctx, topology.AccountsBucket(file.Streams, bucket)); err != nil {
			return fmt.Errorf("bucket %s: %w", bucket, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(file.Teams)) {
		team := file.Teams[name]
		consumer := topology.TeamConsumer(name, team.Subjects(), team.AckWait)
		if _, err := js.CreateOrUpdateConsumer(ctx, topology.StreamEnriched, consumer); err != nil {
			return fmt.Errorf("consumer %s: %w", consumer.Durable, err)
		}
	}
	fmt.Fprintf(a.out, "set up: %d streams, %d buckets, %d changes, %d teams\n",
		len(topology.Streams(file.Streams)), len(topology.Buckets(file.Streams)), len(changes), len(file.Teams))
	return nil
}
