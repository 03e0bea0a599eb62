package run

import (
	"context"
	"time"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

// A webhook that comes after its record was found to be missed shows why it was:
// it was late. Whether one comes can't be known when the report is written. So
// the gaps that a report names are kept with the cursor for a while, and each
// later run looks for their triggers among those that were stored since.

const (
	// lateFor is how long a trigger is waited for. Providers send again for three
	// days.
	lateFor = 72 * time.Hour
	// maxUnsettled bounds the gaps that are waited for, to the newest.
	maxUnsettled = report.MaxRecords
)

// settled reports whether nothing can change a gap's cause any more.
func settled(c report.Cause) bool {
	switch c {
	case report.NeverSent, report.Refused, report.Down, report.Silent, report.Unknown:
		return false
	default:
		return true
	}
}

// unsettle returns what is waited for after a run: of the earlier gaps those that
// are not too old, and those that the run's own report names.
func (r *Run) unsettle(late *cursor.Late) *cursor.Late {
	next := cursor.Late{Looked: r.gaps.looked}
	if late != nil {
		next.Looked = late.Looked
		for _, u := range late.Gaps {
			if r.deps.Now().Sub(u.Record.FirstSeen) < lateFor {
				next.Gaps = append(next.Gaps, u)
			}
		}
	}
	for _, rec := range r.w.Records {
		// An event that was sent in again absorbs its webhook.
		if rec.Cause != "" && !settled(rec.Cause) && !rec.ChangedAt.IsZero() && r.cfg.Source == nil {
			next.Gaps = append(next.Gaps, cursor.Unsettled{Run: r.id, Record: rec})
		}
	}
	if len(next.Gaps) == 0 {
		return nil
	}
	next.Gaps = next.Gaps[max(0, len(next.Gaps)-maxUnsettled):]
	return &next
}

// lookBack finds the gaps of earlier runs whose triggers have come, revises the
// reports of those, and returns what is still waited for. With an error that is
// all of it.
func (r *Run) lookBack(ctx context.Context, late *cursor.Late) (*cursor.Late, error) {
	if late == nil || r.opts.DryRun {
		return late, nil
	}
	looked, arrived, err := r.arrivedLate(ctx, *late)
	if err != nil {
		return late, err
	}
	next := cursor.Late{Looked: max(looked, late.Looked)}
	revisions := map[string]*report.Revision{}
	for _, u := range late.Gaps {
		at, ok := arrived[u.Record.ID+"\x00"+u.Record.Version]
		if !ok {
			next.Gaps = append(next.Gaps, u)
			continue
		}
		v := revisions[u.Run]
		if v == nil {
			v = &report.Revision{
				Run: u.Run, Source: r.cfg.Key.Source, Account: r.cfg.Key.Account, Resource: r.cfg.Key.Resource, RevisedAt: r.deps.Now(),
			}
			revisions[u.Run] = v
		}
		v.Records = append(v.Records, report.Revised{ID: u.Record.ID, Version: u.Record.Version, Cause: report.Late, ArrivedAt: at})
	}
	for _, v := range revisions {
		if err := report.Revise(ctx, r.deps.JetStream, *v, r.id); err != nil {
			return late, err
		}
	}
	return &next, nil
}

// arrivedLate reads the account's triggers that were stored since the last look,
// up to a bound, and returns how far it came and when the triggers of unsettled
// gaps were stored, by id and version.
func (r *Run) arrivedLate(ctx context.Context, late cursor.Late) (looked uint64, at map[string]time.Time, err error) {
	byID := map[string][]report.Record{}
	for _, u := range late.Gaps {
		byID[u.Record.ID] = append(byID[u.Record.ID], u.Record)
	}
	k, read := r.cfg.Key, 0
	at = map[string]time.Time{}
	for m, err := range consume.Scan(ctx, r.deps.JetStream, consume.ScanOptions{
		Stream: topology.StreamRaw, FromSequence: late.Looked + 1,
		Subjects: []string{event.PrefixRaw + "." + k.Source + "." + event.AccountToken(k.Account) + ".>"},
	}) {
		if err != nil {
			return 0, nil, err
		}
		if read++; read > maxTriggers {
			break // the next run goes on
		}
		looked = m.Sequence
		e, err := event.FromHeader(m.Header)
		if err != nil || e.Origin != event.Webhook || !r.cfg.Resource.Matches(e.Type) {
			continue
		}
		scope := field.Scope{Docs: map[string][]byte{"body": m.Data}}
		ids, err := r.cfg.Resource.ID.All(scope)
		if err != nil {
			continue
		}
		for _, id := range ids {
			for _, rec := range byID[id] {
				if r.speaksOf(rec, e, scope) {
					at[rec.ID+"\x00"+rec.Version] = m.StoredAt
				}
			}
		}
	}
	return looked, at, nil
}

// speaksOf reports whether a trigger that names a record's id speaks of that
// version, and not of a later change: by the time of its event, or the version
// that it tells.
func (r *Run) speaksOf(rec report.Record, e event.Event, s field.Scope) bool {
	if !e.Time.IsZero() {
		return !e.Time.After(rec.ChangedAt.Add(skew)) && !e.Time.Before(rec.ChangedAt.Add(-skew))
	}
	expected, err := r.cfg.Resource.Expected(s)
	return err == nil && expected != "" && string(expected) == rec.Version
}
