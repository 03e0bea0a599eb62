// Command charts checks the Helm chart of deploy/helm with Helm's own packages:
// it lints it and renders it with each set of values in its folder ci, and
// validates what comes out against the schemas of Kubernetes. What is rendered is
// kept in deploy/helm/rendered, so that other tests can run it without Helm.
//
// It stands outside go.work, as scripts/tools does, and apart from that, because
// Helm's requirements are many.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	root := flag.String("root", "../..", "the root of the repository")
	write := flag.Bool("write", false, "write what is rendered, rather than compare it")
	schemas := flag.String("schemas", "", "only write the schemas, from this `swagger.json` of Kubernetes")
	flag.Parse()
	var err error
	if *schemas != "" {
		err = writeSchemas(*schemas, "schemas")
	} else {
		err = checkAll(*root, *write)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// checkAll checks the chart with every set of values there is, and returns all faults.
func checkAll(root string, write bool) error {
	chart := filepath.Join(root, "deploy/helm/tercel")
	sets, err := filepath.Glob(filepath.Join(chart, "ci", "*.yaml"))
	if err != nil || len(sets) == 0 {
		return fmt.Errorf("no sets of values in %s/ci: %w", chart, err)
	}
	var errs []error
	for _, set := range sets {
		name := filepath.Base(set)
		text, err := check(chart, set, "schemas")
		if err == nil {
			err = keep(filepath.Join(root, "deploy/helm/rendered", name), text, write)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		fmt.Printf("%s: %d objects\n", name, strings.Count(text, "\nkind: "))
	}
	return errors.Join(errs...)
}

// keep compares text with what the file has, or writes it.
func keep(file, text string, write bool) error {
	if write {
		return os.WriteFile(file, []byte(text), 0o644)
	}
	have, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if string(have) != text {
		return fmt.Errorf("%s is not what the chart renders; run: go -C scripts/charts run . -write", filepath.Base(file))
	}
	return nil
}
