package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tercelhq/tercel/pkg/account"
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
	var accounts []string
	if err == nil {
		if accounts, faults, err = checkAccounts(file); err != nil {
			return err
		}
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
		fmt.Fprintf(a.out, "%s is good\nsources: %s\n%sdestinations: %s\n", c.Config,
			strings.Join(slices.Sorted(maps.Keys(file.Sources)), ", "), strings.Join(accounts, ""),
			cmp.Or(strings.Join(slices.Sorted(maps.Keys(file.Destinations)), ", "), "none; tercel up writes to a SQLite file in its data folder"))
	}
	if len(faults) > 0 {
		return failed()
	}
	return nil
}

// checkAccounts reads the accounts of all sources. It returns a line for each
// source that has some, and what is wrong with their entries.
func checkAccounts(file *pipeline.File) (lines []string, faults config.Faults, err error) {
	for _, name := range slices.Sorted(maps.Keys(file.Sources)) {
		source := file.Sources[name]
		switch {
		case source.Accounts.IsZero():
			continue
		case source.Accounts.Bucket != "":
			lines = append(lines, fmt.Sprintf("accounts of %s: in bucket %s; see them with \"tercel accounts list %s\"\n", name, source.Accounts.Bucket, name))
			continue
		}
		table, some, err := account.Read(name, source, file.SealKeys)
		if err != nil {
			return nil, nil, err
		}
		n := table.Count()
		line := fmt.Sprintf("accounts of %s: %d", name, n.Active)
		if n.Disabled > 0 {
			line += fmt.Sprintf(" and %d disabled", n.Disabled)
		}
		lines, faults = append(lines, line+"\n"), append(faults, some...)
	}
	return lines, faults, nil
}
