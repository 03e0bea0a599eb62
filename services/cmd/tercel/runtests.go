package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

type testCmd struct {
	Config string   `short:"c" help:"The pipeline file." default:"tercel.yaml" env:"TERCEL_CONFIG"`
	JSON   bool     `name:"json" help:"Print the results as JSON."`
	Files  []string `arg:"" optional:"" help:"Files with tests. Defaults to NAME.test.yaml beside the pipeline file NAME.yaml."`
}

// Help is shown by --help.
func (testCmd) Help() string {
	return `A test is a webhook, the answers of the API, and as much of the result of "tercel try --json" as matters:

  tests:
    - name: a paid order reaches the CRM as two fields
      source: orders
      body: {id: evt_1, type: order.paid, order: {id: 7}}
      records: {/orders/7: {id: 7, total: 120, updated_at: 3}}
      expect: {type: order.paid, destinations: {crm: {delivered: true, payload: {order: 7, total: 120}}}}

Other keys of a test are request (a file with a captured HTTP request, instead of body), unsigned, at, type, headers and
account. Nothing is stored, fetched or delivered. Exits 1 when a test fails.

Example:
  tercel test -c tercel.yaml`
}

// testResult is how one test went.
type testResult struct {
	File string `json:"file"`
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Differences say where the result is not what was expected, or why there is
	// none.
	Differences []string `json:"differences"`
}

// Run runs the command.
func (c testCmd) Run(a *app) error {
	file, err := pipeline.Load(c.Config)
	if err != nil {
		return err
	}
	files := c.Files
	if len(files) == 0 {
		files = []string{c.Config[:len(c.Config)-len(filepath.Ext(c.Config))] + ".test" + filepath.Ext(c.Config)}
	}
	results, err := runTests(a, file, files)
	if err != nil {
		return err
	}
	bad := 0
	for _, r := range results {
		if !r.OK {
			bad++
		}
	}
	if c.JSON {
		err = printJSON(a.out, map[string]any{"ok": bad == 0, "tests": results})
	} else {
		printResults(a, results, bad)
	}
	if err == nil && bad > 0 {
		err = failed()
	}
	return err
}

// runTests runs the tests of all files. The error means that a file is none, and
// lists all of its faults.
func runTests(a *app, file *pipeline.File, paths []string) ([]testResult, error) {
	var results []testResult
	var faults []error
	for _, path := range paths {
		var cases caseFile
		if err := config.Load(path, &cases); err != nil {
			faults = append(faults, err)
			continue
		}
		for i := range cases.Tests {
			t := &cases.Tests[i]
			differ, err := t.run(a, filepath.Dir(path), file)
			if err != nil {
				differ = []string{err.Error()}
			}
			if differ == nil {
				differ = []string{}
			}
			results = append(results, testResult{File: path, Name: t.Name, OK: len(differ) == 0, Differences: differ})
		}
	}
	return results, errors.Join(faults...)
}

func printResults(a *app, results []testResult, bad int) {
	for _, r := range results {
		if r.OK {
			fmt.Fprintf(a.out, "ok      %s\n", printable(r.Name))
			continue
		}
		fmt.Fprintf(a.out, "FAILED  %s (%s)\n", printable(r.Name), r.File)
		for _, d := range r.Differences {
			fmt.Fprintf(a.out, "        %s\n", printable(d))
		}
	}
	fmt.Fprintf(a.out, "\n%d tests, %d failed\n", len(results), bad)
}
