package run

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/report"
)

// maxWaiting bounds the gaps that wait for their causes to be looked for, to about
// 10 MB. A report names only some of a window's gaps, but counts the causes of
// all.
const maxWaiting = 50_000

// gaps are those of a run whose causes were not looked for yet.
type gaps struct {
	waiting []report.Record
	looked  uint64 // the end of TERCEL_RAW when causes were first looked for
	unread  string // why evidence could not be read, or ""
}

// explainLater keeps the gaps of a page that was compared, until there are so
// many that their causes are looked for together.
func (r *Run) explainLater(ctx context.Context, found []report.Record) {
	r.gaps.waiting = append(r.gaps.waiting, found...)
	if len(r.gaps.waiting) >= cmp.Or(r.mostWaiting, maxWaiting) {
		r.explainWaiting(ctx)
	}
}

// explainWaiting finds the causes of the gaps that wait. Evidence that can't be read
// is no fault of the run: it leaves their causes unknown.
func (r *Run) explainWaiting(ctx context.Context) {
	if len(r.gaps.waiting) == 0 {
		return
	}
	if end, err := r.end(ctx); err == nil && r.gaps.looked == 0 {
		r.gaps.looked = end
	}
	x := explanation{Run: r, open: map[string][]*report.Record{}}
	for i := range r.gaps.waiting {
		rec := &r.gaps.waiting[i]
		rec.Cause = report.Unknown
		x.open[rec.ID] = append(x.open[rec.ID], rec)
		x.all = append(x.all, rec)
	}
	if err := x.find(ctx); err != nil {
		r.gaps.unread = err.Error()
	}
	causes := map[report.Cause]int{}
	for _, rec := range x.all {
		causes[rec.Cause]++
	}
	r.lost += causes[report.LostInside]
	r.deps.Metrics.explained(r.cfg.Key, causes)
	r.keepCauses(causes, x.open)
	r.gaps.waiting = nil
}

// keepCauses adds causes to those of the window, and to the records that it names. What
// it changes may be in a cursor that was saved, and is copied.
func (r *Run) keepCauses(causes map[report.Cause]int, found map[string][]*report.Record) {
	all := maps.Clone(r.w.Causes)
	if all == nil {
		all = map[report.Cause]int{}
	}
	for cause, n := range causes {
		all[cause] += n
	}
	named := slices.Clone(r.w.Records)
	for i := range named {
		if !unexplained(named[i]) {
			continue
		}
		for _, rec := range found[named[i].ID] {
			if rec.Version == named[i].Version {
				named[i].Cause = rec.Cause
			}
		}
	}
	r.w.Causes, r.w.Records = all, named
}

// unexplained reports whether a record of a report is one whose cause is looked
// for, and has none yet.
func unexplained(rec report.Record) bool {
	gap := rec.Verdict == string(ledger.Missed) || rec.Verdict == string(ledger.Stale)
	return gap && rec.Destination == "" && rec.Cause == ""
}

// explained adds the causes of gaps to a report. Without them it is a report all
// the same.
func (r *Run) explained(ctx context.Context, rep report.Report) report.Report {
	r.adopt()
	r.explainWaiting(ctx)
	rep.Records = r.w.Records
	gaps := r.w.Counts.Missed + r.w.Counts.Stale
	if gaps == 0 {
		return rep
	}
	rep.Evidence = report.Evidence{Causes: maps.Clone(r.w.Causes), Error: r.gaps.unread}
	explained := 0
	for _, n := range r.w.Causes {
		explained += n
	}
	if explained < gaps { // they waited when their runner died
		if rep.Evidence.Causes == nil {
			rep.Evidence.Causes = map[report.Cause]int{}
		}
		rep.Evidence.Causes[report.Unknown] += gaps - explained
	}
	if err := r.weigh(ctx, &rep.Evidence); err != nil {
		rep.Evidence.Error = err.Error()
	}
	return rep
}

// adopt takes over the gaps that were named by a runner that died before it had
// their causes.
func (r *Run) adopt() {
	type version struct{ id, version string }
	known := map[version]bool{}
	for _, rec := range r.gaps.waiting {
		known[version{rec.ID, rec.Version}] = true
	}
	for _, rec := range r.w.Records {
		if unexplained(rec) && !known[version{rec.ID, rec.Version}] {
			r.gaps.waiting = append(r.gaps.waiting, rec)
		}
	}
}

// weigh tells how many requests of the source were taken and refused since the
// first gap.
func (r *Run) weigh(ctx context.Context, e *report.Evidence) error {
	var from time.Time
	for _, rec := range r.w.Records {
		if t := r.changedAt(&rec); rec.Cause != "" && !t.IsZero() && (from.IsZero() || t.Before(from)) {
			from = t
		}
	}
	if from.IsZero() {
		return nil // nothing says when to look
	}
	now := r.deps.Now()
	history, err := intake.Read(ctx, r.deps.JetStream, from, now)
	if err != nil {
		return err
	}
	counts := history.Counts(r.cfg.Key.Source, from, now)
	e.Accepted, e.Refused = counts.Accepted(), counts.Refused()
	return nil
}

// changedAt is when the source should have told of a record, or zero.
func (r *Run) changedAt(rec *report.Record) time.Time {
	if rec.ChangedAt.IsZero() {
		return r.w.From
	}
	return rec.ChangedAt
}
