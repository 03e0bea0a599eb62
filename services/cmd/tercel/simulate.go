package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"strings"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

type simulateCmd struct {
	Config    string  `short:"c" help:"The pipeline file." default:"tercel.yaml" env:"TERCEL_CONFIG"`
	Source    string  `help:"The source of the file to be." required:"" placeholder:"NAME"`
	Target    string  `help:"Where webhooks are sent to." required:"" placeholder:"URL"`
	Listen    string  `help:"Address of the API." default:"127.0.0.1:8090"`
	Events    int     `help:"Changes that the provider makes." default:"2000"`
	Rate      float64 `help:"Changes a second. 0 is as many as the pipeline takes." default:"10"`
	Drop      float64 `help:"Share of changes whose webhook is never sent." default:"0.05"`
	Duplicate float64 `help:"Share of webhooks sent twice." default:"0.05"`
	Reorder   float64 `help:"Share of webhooks sent behind later ones." default:"0.05"`
	Forge     float64 `help:"Forged webhooks sent beside, as a share of the changes." default:"0.02"`
	Poison    float64 `help:"Share of records that can't be fetched." default:"0.005"`
	Seed      uint64  `help:"Decides what happens to which change." default:"1"`
}

// Help is shown by --help.
func (simulateCmd) Help() string {
	return `Is a provider for a pipeline that runs elsewhere: it changes orders, sends signed webhooks of
them, of which it drops, repeats, delays and forges some, and serves the API that they are fetched
from and listed by. The source must be one of orders, as in deploy/compose/tercel.yaml; its
first secret and its token are used. When all is sent it serves on, until SIGTERM.

What was done is at /simulation and /simulation/book of that address; /readyz is its health.

Example:
  tercel simulate --source orders --target http://127.0.0.1:8080/v1/orders --rate 20`
}

// Run runs the command.
func (c simulateCmd) Run(a *app) error {
	provider, err := c.provider()
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(a.ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen for the simulated provider: %w", err)
	}
	fmt.Fprintf(a.err, "the provider's API is at http://%s, what it has done at http://%[1]s/simulation\n", l.Addr())
	ctx, stop := context.WithCancelCause(a.ctx)
	served := make(chan error, 1)
	go func() {
		err := provider.Serve(ctx, l)
		stop(err)
		served <- err
	}()
	if err := provider.Run(ctx, c.Target); err == nil {
		fmt.Fprintf(a.err, "all webhooks are sent; the API stays until this is stopped\n")
	}
	err = <-served
	stop(nil)
	if err != nil {
		return err
	}
	if n := provider.Book().Counts(); n.ForgedAccepted > 0 {
		return exitCode{boot.Failed, fmt.Sprintf("%d forged webhooks were accepted", n.ForgedAccepted)}
	}
	return nil
}

// provider is the one that the flags and the file's source ask for.
func (c simulateCmd) provider() (*simulator.Provider, error) {
	file, err := pipeline.Load(c.Config)
	if err != nil {
		return nil, err
	}
	source, ok := file.Sources[c.Source]
	if !ok || len(source.Secrets) == 0 {
		return nil, fmt.Errorf("%s has no source %q with a secret", c.Config, c.Source)
	}
	return simulator.New(simulator.Config{
		Seed: c.Seed, Events: c.Events, Drop: c.Drop, Duplicate: c.Duplicate, Reorder: c.Reorder, Forge: c.Forge, Poison: c.Poison,
		Delete: 0.02, Unavailable: 0.002, Rate: c.Rate, Secret: source.Secrets[0], Token: source.API.Token,
		// Another run must not be taken for repeats of this one.
		Run: strings.ToLower(rand.Text()[:8]) + "-",
	})
}
