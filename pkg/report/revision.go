package report

import (
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Revision is what a later run found out about gaps of an earlier one: why they
// were gaps. [List] lays it over the report.
type Revision struct {
	// Run is the one whose report is revised.
	Run      string `json:"run"`
	Source   string `json:"source"`
	Account  string `json:"account"`
	Resource string `json:"resource"`
	// RevisedAt is when it was found out.
	RevisedAt time.Time `json:"revised_at"`
	// Records are those of the report whose cause is another.
	Records []Revised `json:"records"`
}

// Revised is a record of a report whose cause is known better.
type Revised struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	Cause   Cause  `json:"cause"`
	// ArrivedAt is when its trigger was stored.
	ArrivedAt time.Time `json:"arrived_at,omitzero"`
}

// revisedSuffix ends the subjects of revisions. Those of reports have a token
// less.
const revisedSuffix = ".revised"

// Revise stores v. Storing what one run found out again inside the dedup window
// has no effect; by names that run.
func Revise(ctx context.Context, js jetstream.JetStream, v Revision, by string) error {
	if err := store(ctx, js, Query{Source: v.Source, Resource: v.Resource}.subject()+revisedSuffix, v, v.Run+":revised:"+by); err != nil {
		return fmt.Errorf("revise report of run %s: %w", v.Run, err)
	}
	return nil
}

// ApplyRevisions lays over reports what later runs found out about them, as
// [List] does. q names the same source and resource as the reports were chosen
// by. It reads the revisions since the oldest report that has a gap.
func ApplyRevisions(ctx context.Context, js jetstream.JetStream, q Query, reports []Report) error {
	var since time.Time
	for _, r := range reports {
		if len(r.Records) > 0 && (since.IsZero() || r.EndedAt.Before(since)) {
			since = r.EndedAt
		}
	}
	if since.IsZero() {
		return nil
	}
	revised := revisions{}
	for m, err := range consume.Scan(ctx, js, consume.ScanOptions{
		Stream: topology.StreamReports, Subjects: []string{q.subject() + revisedSuffix}, FromTime: since.Add(-time.Minute), // clocks may differ
	}) {
		if err != nil {
			return err
		}
		revised.read(m.Data)
	}
	for i := range reports {
		revised.apply(&reports[i])
	}
	return nil
}

// revisions are those that were read, by the run that they are about.
type revisions map[string][]Revised

func (all revisions) read(data []byte) {
	var v Revision
	if err := json.Unmarshal(data, &v); err == nil { // else it was written by something else
		all[v.Run] = append(all[v.Run], v.Records...)
	}
}

// apply lays what is known of r's records over it.
func (all revisions) apply(r *Report) {
	for _, v := range all[r.Run] {
		for i := range r.Records {
			rec := &r.Records[i]
			if rec.ID != v.ID || rec.Version != v.Version || rec.Destination != "" || rec.Cause == v.Cause {
				continue
			}
			if r.Evidence.Causes == nil {
				r.Evidence.Causes = map[Cause]int{}
			}
			if r.Evidence.Causes[rec.Cause]--; r.Evidence.Causes[rec.Cause] <= 0 {
				delete(r.Evidence.Causes, rec.Cause)
			}
			r.Evidence.Causes[v.Cause]++
			rec.Cause, rec.ArrivedAt = v.Cause, v.ArrivedAt
		}
	}
}
