package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

type checkCmd struct {
	Config string `short:"c" help:"The pipeline file." default:"tercel.yaml" env:"TERCEL_CONFIG"`
	JSON   bool   `name:"json" help:"Print the faults as JSON."`
}

// Help is shown by --help.
func (checkCmd) Help() string {
	return `Reads the file as the services do, secrets included, and lists every fault with its place.
Exits 1 when there is one.

Example:
  tercel check -c tercel.yaml`
}

// Run runs the command.
func (c checkCmd) Run(a *app) error {
	file, err := pipeline.Load(c.Config)
	var faults config.Faults
	if err != nil && !errors.As(err, &faults) {
		return err
	}
	if c.JSON {
		if faults == nil {
			faults = config.Faults{}
		}
		if err := printJSON(a.out, map[string]any{"ok": len(faults) == 0, "faults": faults}); err != nil {
			return err
		}
	} else if len(faults) > 0 {
		fmt.Fprintln(a.err, faults)
	} else {
		fmt.Fprintf(a.out, "%s is good\nsources: %s\ndestinations: %s\n", c.Config,
			strings.Join(slices.Sorted(maps.Keys(file.Sources)), ", "),
			cmp.Or(strings.Join(slices.Sorted(maps.Keys(file.Destinations)), ", "), "none; tercel up writes to a SQLite file in its data folder"))
	}
	if len(faults) > 0 {
		return failed()
	}
	return nil
}
