package report_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func setup(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	return js
}

func publish(t *testing.T, js jetstream.JetStream, r report.Report) {
	t.Helper()
	if err := report.Publish(t.Context(), js, r); err != nil {
		t.Fatal(err)
	}
}

func run(id, source, resource string) report.Report {
	return report.Report{
		Run: id, Source: source, Account: "_", Resource: resource, Trigger: report.Schedule, To: noon,
		StartedAt: noon, EndedAt: noon.Add(time.Second), Pages: 2, Counts: report.Counts{Listed: 7, Missed: 1, Repaired: 1},
		Complete: true, Records: []report.Record{{ID: "a", Version: "n0011", Verdict: "missed"}},
	}
}

func TestReportsAreListedInOrder(t *testing.T) {
	t.Parallel()
	js := setup(t)
	for i := range 7 {
		publish(t, js, run(fmt.Sprint("r", i), "orders", "order"))
	}
	publish(t, js, run("r6", "orders", "order")) // a repeat has no effect
	publish(t, js, run("other", "orders", "refund"))
	if _, err := js.Publish(t.Context(), topology.PrefixReports+".orders.order", []byte("rubbish")); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		query report.Query
		want  []string
	}{
		"one resource":         {report.Query{Source: "orders", Resource: "refund"}, []string{"other"}},
		"the newest two":       {report.Query{Source: "orders", Resource: "order", Limit: 2}, []string{"r5", "r6"}},
		"everything":           {report.Query{}, []string{"r0", "r1", "r2", "r3", "r4", "r5", "r6", "other"}},
		"of an unknown source": {report.Query{Source: "x"}, nil},
		"from the future":      {report.Query{Since: time.Now().Add(time.Hour)}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reports, err := report.List(t.Context(), js, tt.query)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range reports {
				got = append(got, r.Run)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("runs %v, want %v", got, tt.want)
			}
		})
	}
}

func TestReportIsWholeAsItWasPublished(t *testing.T) {
	t.Parallel()
	js := setup(t)
	want := run("r1", "orders", "order")
	publish(t, js, want)
	got, err := report.List(t.Context(), js, report.Query{Source: "orders", Resource: "order"})
	if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", []report.Report{want}) {
		t.Errorf("List() = %+v, %v, want %+v", got, err, want)
	}
}

// A runner that crashed after its report was stored leaves it to the next, which
// may come when the dedup window is over.
func TestAReportThatIsStoredTwiceIsListedOnce(t *testing.T) {
	t.Parallel()
	js := setup(t)
	publish(t, js, run("r1", "orders", "order"))
	publish(t, js, run("r2", "orders", "order"))
	stream, err := js.Stream(t.Context(), topology.StreamReports)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), m.Subject, m.Data); err != nil { // under no id, as if the window were over
		t.Fatal(err)
	}
	list, err := report.List(t.Context(), js, report.Query{})
	if err != nil || len(list) != 2 || list[0].Run != "r1" || list[1].Run != "r2" {
		t.Errorf("List() = %+v, %v; want r1 and r2", list, err)
	}
}

func ExampleReport() {
	r := report.Report{Counts: report.Counts{Listed: 120, Matched: 118, Missed: 2, Repaired: 2}, Complete: true}
	fmt.Printf("%d of %d records were missing, %d sent again; complete: %t\n", r.Missed, r.Listed, r.Repaired, r.Complete)
	// Output: 2 of 120 records were missing, 2 sent again; complete: true
}
