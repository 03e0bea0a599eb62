package sink_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// The documentation says of every kind what it passes and what it can't.
func TestDocumentationHasTheConformanceTable(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/destinations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "<!-- conformance: begin")
	_, after, _ = strings.Cut(after, "-->\n")
	got, _, ended := strings.Cut(after, "<!-- conformance: end -->")
	if want := conformanceTable(); !found || !ended || got != want {
		t.Errorf("docs/destinations.md has\n%s\nwant\n%s", got, want)
	}
}

// conformanceTable is the suite as Markdown: a row for each test, a column for
// each kind, and a note wherever a kind can't pass.
func conformanceTable() string {
	var table, notes strings.Builder
	names := slices.Sorted(maps.Keys(kinds))
	fmt.Fprintf(&table, "| | %s |\n|---%s|\n", strings.Join(names, " | "), strings.Repeat("|:---:", len(names)))
	count := 0
	for _, c := range suite {
		fmt.Fprintf(&table, "| %s", c.name)
		for _, name := range names {
			cell := "yes"
			if reason := kinds[name].cannot[c.name]; reason != "" {
				count++
				cell = fmt.Sprintf("no (%d)", count)
				fmt.Fprintf(&notes, "%d. %s: %s.\n", count, name, reason)
			}
			fmt.Fprintf(&table, " | %s", cell)
		}
		table.WriteString(" |\n")
	}
	return table.String() + "\n" + notes.String()
}
