// Package report keeps what each reconciliation run found: one report per run
// in the stream TERCEL_REPORTS.
package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Trigger is why a run took place.
type Trigger string

// The triggers, a closed set.
const (
	Schedule Trigger = "schedule"
	Demand   Trigger = "demand"
	Backfill Trigger = "backfill"
	// Silence is that of a run because the source had fallen silent.
	Silence Trigger = "silence"
)

// Counts are the numbers of records of one window, over all runs that worked
// on it.
type Counts struct {
	// Listed is how many the source listed, each time that it did.
	Listed int `json:"listed"`
	// Matched were seen in that version.
	Matched int `json:"matched"`
	// Missed were never seen.
	Missed int `json:"missed"`
	// Stale were seen in an older version only, or as deleted.
	Stale int `json:"stale"`
	// Ahead were seen in a newer version than the list's.
	Ahead int `json:"ahead"`
	// Duplicates were listed again in the same version, or sent again in the
	// same run.
	Duplicates int `json:"duplicates"`
	// Dropped were not seen in that version, and the source's drop, or the types
	// of its list of events, say that nobody wants them.
	Dropped int `json:"dropped,omitzero"`
	// Orphaned were held and are gone at the source. Only a scan for orphans
	// tells, see [Deletes].
	Orphaned int `json:"orphaned,omitzero"`
	// Repaired were sent into the pipeline again.
	Repaired int `json:"repaired"`
	// Redelivered are events that the source was asked for again, and has sent.
	Redelivered int `json:"redelivered,omitzero"`
	// SkippedYoung changed after the window's end, or were seen since then to be
	// gone or in another state, and belong to the next.
	SkippedYoung int `json:"skipped_young"`
	// Unreadable had no id, version or time that could be read. They were not
	// compared, and are not until they are listed again. Of events, also those
	// that were missed and that the source no longer has in full. Those that were
	// missed or stale and are larger than the server takes count here too.
	Unreadable int `json:"unreadable"`
}

// Record is one record that was not as it should be.
type Record struct {
	// ID is its id, or for one that has none the place where it was listed.
	ID      string `json:"id"`
	Version string `json:"version"`
	// Type is that of an event, in a source's list of events.
	Type string `json:"type,omitzero"`
	// Verdict is missed, stale, orphaned or unreadable.
	Verdict string `json:"verdict"`
	// Destination is where it was so, or "" for the pipeline itself.
	Destination string `json:"destination,omitzero"`
	// FirstSeen is when the run came upon it.
	FirstSeen time.Time `json:"first_seen,omitzero"`
	// ChangedAt is when it changed, by the provider's word, or zero.
	ChangedAt time.Time `json:"changed_at,omitzero"`
	// Repaired says that it was stored in TERCEL_RAW again, or its tombstone was.
	Repaired bool `json:"repaired,omitzero"`
	// Redelivered says that the source has sent it when it was asked to.
	Redelivered bool `json:"redelivered,omitzero"`
	// Cause is why it was missed or stale in the pipeline.
	Cause Cause `json:"cause,omitzero"`
	// ArrivedAt is when its trigger came, where a later run found that it was
	// late.
	ArrivedAt time.Time `json:"arrived_at,omitzero"`
}

// Verdicts beside those of the ledger.
const (
	// Unreadable is that on a record without an id, version or time that can be
	// read.
	Unreadable = "unreadable"
	// Orphaned is that on a record that is held and gone at the source.
	Orphaned = "orphaned"
)

// MaxRecords is how many records a report names; it counts all.
const MaxRecords = 100

// Report is what one run found.
type Report struct {
	// Run identifies the run.
	Run string `json:"run"`
	// Continues is the run that left the same window unfinished, or "".
	Continues string  `json:"continues,omitzero"`
	Source    string  `json:"source"`
	Account   string  `json:"account"`
	Resource  string  `json:"resource"`
	Trigger   Trigger `json:"trigger"`
	// DryRun says that nothing was repaired and no cursor moved.
	DryRun bool `json:"dry_run,omitzero"`
	// From and To are the window's ends; a zero From is the beginning of time.
	From      time.Time `json:"from,omitzero"`
	To        time.Time `json:"to"`
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at"`
	// Pages is how many pages of the window have been compared.
	Pages int `json:"pages"`
	Counts
	// Sets are the window's records on both sides, as they were compared.
	Sets Sets `json:"sets"`
	// Destinations are those that were compared too, by name.
	Destinations map[string]Destination `json:"destinations,omitempty"`
	// Complete says that every record on every page of the window was compared
	// and, unless it was a dry run, every gap sent again (promise 6). A window
	// with unreadable records is finished, but not complete. Of a scan for orphans
	// it says that the whole list was read and every unlisted record was asked for.
	Complete bool `json:"complete"`
	// CaughtUp says that every trigger stored before the run had been enriched
	// when it compared. Otherwise some of what it calls missed was on its way.
	CaughtUp bool `json:"caught_up"`
	// Error is why the run failed, or "".
	Error string `json:"error,omitzero"`
	// Deletes is what a scan for orphans found, and nil for other runs.
	Deletes *Deletes `json:"deletes,omitempty"`
	// Records are the first [MaxRecords] that were missed, stale, orphaned or
	// unreadable.
	Records []Record `json:"records,omitempty"`
	// Evidence is why, as far as that is known.
	Evidence Evidence `json:"evidence,omitzero"`
}

// Destination is what was found at one destination.
type Destination struct {
	// Matched were there in the listed version, Ahead in a newer one.
	Matched int `json:"matched"`
	Ahead   int `json:"ahead"`
	// Missed were not there, Stale in an older version or as deleted.
	Missed int `json:"missed"`
	Stale  int `json:"stale"`
	// Orphaned were there and are gone at the source.
	Orphaned int `json:"orphaned,omitzero"`
	// Repaired were sent again for its sake alone.
	Repaired int `json:"repaired"`
	// Held is what it held of the listed records.
	Held Set `json:"held"`
	// Behind says that it had not taken all events when some of it was compared:
	// some of what is called missed was on its way.
	Behind bool `json:"behind,omitzero"`
}

// Publish stores r. Publishing the report of one run again inside the dedup
// window has no effect.
func Publish(ctx context.Context, js jetstream.JetStream, r Report) error {
	if err := store(ctx, js, Query{Source: r.Source, Resource: r.Resource}.subject(), r, r.Run); err != nil {
		return fmt.Errorf("report of run %s: %w", r.Run, err)
	}
	return nil
}

// store publishes v as JSON under an id by which it is stored once.
func store(ctx context.Context, js jetstream.JetStream, subject string, v any, id string) error {
	m := nats.NewMsg(subject)
	m.Header[event.HeaderContentType] = []string{"application/json"}
	var err error
	if m.Data, err = json.Marshal(v); err != nil {
		return err
	}
	_, err = js.PublishMsg(ctx, m, jetstream.WithMsgID(id))
	return err
}

// Query chooses reports.
type Query struct {
	// Source and Resource narrow the reports; "" stands for all.
	Source, Resource string
	// Since leaves out what was published before it, if set.
	Since time.Time
	// Limit keeps the newest so many. 0 means 100.
	Limit int
}

func (q Query) subject() string {
	any := func(name string) string {
		if name == "" {
			return "*"
		}
		return event.Escape(name)
	}
	return topology.PrefixReports + "." + any(q.Source) + "." + any(q.Resource)
}

// List returns reports, oldest first and each run's once, as later runs have
// revised them.
func List(ctx context.Context, js jetstream.JetStream, q Query) ([]Report, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	var reports []Report
	revised := revisions{}
	for m, err := range consume.Scan(ctx, js, consume.ScanOptions{
		Stream: topology.StreamReports, Subjects: []string{q.subject(), q.subject() + revisedSuffix}, FromTime: q.Since,
	}) {
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(m.Subject, revisedSuffix) {
			revised.read(m.Data)
			continue
		}
		r, err := Decode(m.Data)
		if err != nil {
			continue // written by something else
		}
		if reports = append(reports, r); len(reports) >= 2*limit {
			reports = append(reports[:0], reports[len(reports)-limit:]...)
		}
	}
	// One that a crash left unpublished, as far as anybody knew, may be there twice.
	known := map[string]bool{}
	reports = slices.DeleteFunc(reports, func(r Report) bool {
		again := known[r.Run]
		known[r.Run] = true
		return again
	})
	reports = reports[max(0, len(reports)-limit):]
	for i := range reports {
		revised.apply(&reports[i])
	}
	return reports, nil
}

// Decode reads a report as it is stored. The error means that something else wrote it.
func Decode(data []byte) (Report, error) {
	var r Report
	if err := json.Unmarshal(data, &r); err != nil || r.Run == "" {
		return Report{}, errors.New("report: not one of a reconciliation run")
	}
	return r, nil
}
