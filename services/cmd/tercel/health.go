package main

import (
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/boot"
)

type healthCmd struct {
	Config string `short:"c" help:"The pipeline file." default:"tercel.yaml" env:"TERCEL_CONFIG"`
	Health string `help:"Address of health and metrics, instead of the file's telemetry.listen." env:"TERCEL_HEALTH" placeholder:"HOST:PORT"`
}

// Help is shown by --help.
func (healthCmd) Help() string {
	return `Exits 1 and says why when it isn't.

Example:
  tercel health -c tercel.yaml`
}

// Run runs the command.
func (c healthCmd) Run(a *app) error {
	if c.Health == "" {
		file, err := pipeline.Load(c.Config)
		if err != nil {
			return err
		}
		c.Health = file.Telemetry.Listen
	}
	return boot.Probe(a.ctx, c.Health)
}
