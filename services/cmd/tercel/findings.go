package main

import (
	"encoding/csv"
	"fmt"
	"io"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// printFindings shows what the audit found to be wrong inside, if it found
// anything.
func printFindings(w io.Writer, all []*adminv1.Finding) error {
	if len(all) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, "found inside", "kind", "at", "repaired", "what")
	for _, f := range all {
		t.row(stamp(f.GetAt()), f.GetKind(), f.GetName(), f.GetRepaired(), f.GetDetail())
	}
	return t.flush()
}

// writeFindings exports findings.
func writeFindings(w io.Writer, format string, all []*adminv1.Finding) error {
	switch format {
	case "json":
		texts, err := messages(all)
		if err != nil {
			return err
		}
		return printJSON(w, texts)
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
		out.row(iso(f.GetAt()), f.GetKind(), f.GetName(), f.GetCount(), f.GetRepaired(), f.GetDetail())
	}
	return out.err
}

func findingsCSV(w io.Writer, all []*adminv1.Finding) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"at", "kind", "name", "count", "repaired", "what"}); err != nil {
		return err
	}
	for _, f := range all {
		row := []string{iso(f.GetAt()), f.GetKind(), cell(f.GetName()), fmt.Sprint(f.GetCount()), fmt.Sprint(f.GetRepaired()), cell(f.GetDetail())}
		if err := out.Write(row); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
