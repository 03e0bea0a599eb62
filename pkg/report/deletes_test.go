package report_test

import (
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/report"
)

// A scan's statement is of what is gone, and of what was done about it.
func TestStatementOfAScan(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		found    report.Deletes
		orphaned int
		err      string
		want     string
	}{
		"all there":  {found: report.Deletes{Held: 7}, want: ": all of the 7 records held were listed"},
		"reported":   {report.Deletes{Held: 7, Unlisted: 3, Present: 1}, 2, "", ": of the 7 records held, 3 were not listed: 2 are gone at the source, 1 are there all the same; no tombstones were sent, since nobody asked for them"},
		"buried":     {report.Deletes{Held: 7, Unlisted: 2, Tombstones: 2}, 2, "", "2 are gone at the source, 0 are there all the same; 2 tombstones were sent"},
		"not clear":  {report.Deletes{Held: 7, Unlisted: 2, Unchecked: 2}, 0, "", "0 are there all the same, 2 could not be asked for"},
		"stopped":    {report.Deletes{Held: 7, Unlisted: 6, Stopped: "too many"}, 0, "", ": no record was asked for nor deleted, since too many"},
		"that fails": {report.Deletes{}, 0, "refused", ": not looked through, the run failed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := report.Report{
				Source: "orders", Resource: "order", Account: "_", To: noon, Deletes: &tt.found, Counts: report.Counts{Orphaned: tt.orphaned}, Error: tt.err,
			}
			got := r.Statement()
			if !strings.HasPrefix(got, "order of orders, account _, the whole list up to 2026-11-26T12:00:00Z") || !strings.HasSuffix(got, tt.want) {
				t.Errorf("Statement() = %q, want it to end in %q", got, tt.want)
			}
		})
	}
}
