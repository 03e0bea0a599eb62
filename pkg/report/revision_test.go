package report_test

import (
	"maps"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

// What is found out later is laid over the report that it is about, once, and
// is no report of its own.
func TestRevisionsAreLaidOverTheirReports(t *testing.T) {
	t.Parallel()
	js := setup(t)
	missed := func(id string) report.Record {
		return report.Record{ID: id, Version: "n0011", Verdict: "missed", Cause: report.NeverSent}
	}
	for _, id := range []string{"r1", "r2"} {
		r := run(id, "orders", "order")
		r.Records = []report.Record{missed("a"), missed("b"), {ID: "a", Version: "n0011", Verdict: "missed", Destination: "warehouse"}}
		r.Evidence.Causes = map[report.Cause]int{report.NeverSent: 2, report.Refused: 7}
		publish(t, js, r)
	}
	v := report.Revision{
		Run: "r1", Source: "orders", Account: "_", Resource: "order", RevisedAt: noon,
		Records: []report.Revised{
			{ID: "a", Version: "n0011", Cause: report.Late, ArrivedAt: noon},
			{ID: "b", Version: "n0012", Cause: report.Late, ArrivedAt: noon}, // another version
		},
	}
	for _, by := range []string{"r3", "r3", "r4"} {
		if err := report.Revise(t.Context(), js, v, by); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.Publish(t.Context(), topology.PrefixReports+".orders.order.revised", []byte("rubbish")); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), topology.StreamReports)
	if err != nil || stream.CachedInfo().State.Msgs != 5 {
		t.Errorf("%d messages, %v, want 5: of one run and revision one", stream.CachedInfo().State.Msgs, err)
	}
	for _, q := range []report.Query{{}, {Source: "orders", Resource: "order"}, {Source: "orders", Since: time.Now().Add(-time.Hour)}} {
		list, err := report.List(t.Context(), js, q)
		if err != nil || len(list) != 2 {
			t.Fatalf("%d reports, %v, want 2", len(list), err)
		}
		one, two := list[0], list[1]
		if want := map[report.Cause]int{report.NeverSent: 1, report.Late: 1, report.Refused: 7}; !maps.Equal(one.Evidence.Causes, want) {
			t.Errorf("causes %v, want %v", one.Evidence.Causes, want)
		}
		a, b, there := one.Records[0], one.Records[1], one.Records[2]
		if a.Cause != report.Late || !a.ArrivedAt.Equal(noon) || b.Cause != report.NeverSent || there.Cause != "" {
			t.Errorf("records %+v, want the first revised", one.Records)
		}
		if two.Records[0].Cause != report.NeverSent {
			t.Errorf("records %+v of another run", two.Records)
		}
	}
}

// A report and its revision are read from a stream, which others write to as well:
// one without evidence is revised all the same.
func TestAReportWithoutEvidenceIsRevised(t *testing.T) {
	t.Parallel()
	js := setup(t)
	r := run("r1", "orders", "order")
	r.Records[0].Cause = report.NeverSent
	publish(t, js, r)
	v := report.Revision{
		Run: "r1", Source: "orders", Account: "_", Resource: "order", RevisedAt: noon,
		Records: []report.Revised{{ID: "a", Version: "n0011", Cause: report.Late}},
	}
	if err := report.Revise(t.Context(), js, v, "r2"); err != nil {
		t.Fatal(err)
	}
	list, err := report.List(t.Context(), js, report.Query{})
	if err != nil || len(list) != 1 {
		t.Fatalf("List() = %+v, %v; want one", list, err)
	}
	if want := map[report.Cause]int{report.Late: 1}; !maps.Equal(list[0].Evidence.Causes, want) || list[0].Records[0].Cause != report.Late {
		t.Errorf("causes %v, want %v", list[0].Evidence.Causes, want)
	}
}
