package main

import (
	"encoding/csv"
	"fmt"
	"io"

	"github.com/tercelhq/tercel/pkg/report"
)

// printFindings shows what the audit found to be wrong inside, if it found
// anything.
func printFindings(w io.Writer, all []report.Finding) error {
	if len(all) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, "found inside", "kind", "at", "repaired", "what")
	for _, f := range all {
		t.row(stamp(f.At), f.Kind, printable(f.Name), f.Repaired, printable(f.Detail))
	}
	return t.flush()
}

// writeFindings exports findings.
func writeFindings(w io.Writer, format string, all []report.Finding) error {
	switch format {
	case "json":
		return printJSON(w, all)
	case "csv":
		return findingsCSV(w, all)
	}
	out := &markdown{w: w}
	out.line("# Found inside the pipeline")
	if len(all) == 0 {
		out.line("\nNothing.")
		return out.err
	}
	out.line("\n| at | kind | name | count | repaired | what |\n|---|---|---|---|---|---|")
	for _, f := range all {
		out.row(iso(f.At), f.Kind, f.Name, f.Count, f.Repaired, f.Detail)
	}
	return out.err
}

func findingsCSV(w io.Writer, all []report.Finding) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"at", "kind", "name", "count", "repaired", "what"}); err != nil {
		return err
	}
	for _, f := range all {
		row := []string{iso(f.At), string(f.Kind), cell(f.Name), fmt.Sprint(f.Count), fmt.Sprint(f.Repaired), cell(f.Detail)}
		if err := out.Write(row); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
