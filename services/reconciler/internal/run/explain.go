package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

const (
	// maxTriggers bounds the triggers that are read to explain gaps. What it
	// leaves unread leaves gaps unexplained.
	maxTriggers = 100_000
	// skew is how far the clocks of source and servers may be apart.
	skew = time.Minute
)

// explanation finds the causes of gaps.
type explanation struct {
	*Run
	all  []*report.Record
	open map[string][]*report.Record // by id
	// cut says that not all triggers were read.
	cut bool
}

// spoken is a trigger that speaks of a record.
type spoken struct {
	sequence uint64
	at       time.Time
}

func (x *explanation) find(ctx context.Context) error {
	from, known := x.since()
	if !known {
		return nil // nothing says when to look
	}
	history, err := intake.Read(ctx, x.deps.JetStream, from, x.deps.Now())
	if err != nil {
		return err
	}
	triggers := map[*report.Record]spoken{}
	if x.cfg.Source == nil { // an event that was missed has none
		if triggers, err = x.triggers(ctx, from); err != nil {
			return err
		}
	}
	inside, err := x.inside(ctx, triggers)
	if err != nil {
		return err
	}
	for _, rec := range x.all {
		if t, ok := triggers[rec]; ok {
			rec.Cause = x.late(rec, t, inside[t.sequence])
		} else if !x.cut {
			rec.Cause = x.outside(rec, history)
		}
	}
	return nil
}

// since is the first time at which the source should have told of any.
func (x *explanation) since() (first time.Time, known bool) {
	for _, rec := range x.all {
		if t := x.changedAt(rec); !t.IsZero() && (!known || t.Before(first)) {
			first, known = t, true
		}
	}
	return first, known
}

// outside explains a gap of which nothing was stored.
func (x *explanation) outside(rec *report.Record, h intake.History) report.Cause {
	at := x.changedAt(rec)
	if at.IsZero() {
		return report.Unknown
	}
	up, known := h.Up(at)
	counts := h.Counts(x.cfg.Key.Source, at, rec.FirstSeen)
	switch {
	case !known:
		return report.Unknown
	case !up:
		return report.Down
	case len(counts.Refused()) > 0:
		return report.Refused
	case counts.Accepted() == 0:
		return report.Silent
	default:
		return report.NeverSent
	}
}

// triggers finds the first trigger of each record since its change. It reads
// the bodies of the account's triggers, only of the time in question.
func (x *explanation) triggers(ctx context.Context, from time.Time) (map[*report.Record]spoken, error) {
	found := map[*report.Record]spoken{}
	k, read := x.cfg.Key, 0
	for m, err := range consume.Scan(ctx, x.deps.JetStream, consume.ScanOptions{
		Stream: topology.StreamRaw, FromTime: from.Add(-skew),
		Subjects: []string{event.PrefixRaw + "." + k.Source + "." + event.AccountToken(k.Account) + ".>"},
	}) {
		if err != nil {
			return nil, err
		}
		if read++; read > maxTriggers {
			x.cut = true
			break
		}
		e, err := event.FromHeader(m.Header)
		if err != nil || e.Resource != "" || !x.cfg.Resource.Matches(e.Type) {
			continue // one of ours, or of something else
		}
		ids, err := x.cfg.Resource.ID.All(field.Scope{Docs: map[string][]byte{"body": m.Data}})
		if err != nil {
			continue
		}
		for _, id := range ids {
			for _, rec := range x.open[id] {
				if _, have := found[rec]; !have && !m.StoredAt.Before(x.changedAt(rec).Add(-skew)) {
					found[rec] = spoken{m.Sequence, m.StoredAt}
				}
			}
		}
	}
	return found, nil
}

// late explains a gap whose trigger was stored, by what became of it.
func (x *explanation) late(rec *report.Record, t spoken, inside report.Cause) report.Cause {
	if inside == report.Pending && !rec.ChangedAt.IsZero() && t.at.After(rec.ChangedAt.Add(x.list.Settle)) {
		return report.Late
	}
	return inside
}

// inside tells what became of triggers: in work or done by now, given up, or
// lost. How far the stages are is asked before their results are read.
func (x *explanation) inside(ctx context.Context, triggers map[*report.Record]spoken) (map[uint64]report.Cause, error) {
	all := map[uint64]report.Cause{}
	if len(triggers) == 0 {
		return all, nil
	}
	through, err := x.through(ctx, topology.StreamRaw, topology.EnrichDurable(x.cfg.Key.Source))
	if err != nil {
		return nil, err
	}
	var first spoken
	for _, t := range triggers {
		all[t.sequence] = report.Pending
		if t.sequence <= through {
			all[t.sequence] = report.LostInside // unless there is a result
		}
		if first.sequence == 0 || t.sequence < first.sequence {
			first = t
		}
	}
	collected, err := x.collected(ctx)
	if err != nil {
		return nil, err
	}
	if err := x.answered(ctx, first.at, all); err != nil {
		return nil, err
	}
	for sequence, cause := range all {
		if cause == report.LostInside && !collected {
			all[sequence] = report.Pending // its dead letter may be on the way
		}
	}
	letters := deadletter.Filter{Stage: topology.StageEnrich, Source: x.cfg.Key.Source, Since: first.at.Add(-skew)}
	for l, err := range deadletter.List(ctx, x.deps.JetStream, letters) {
		if err != nil {
			return nil, err
		}
		if _, ours := all[l.OriginalSequence]; ours && l.Stream == topology.StreamRaw {
			all[l.OriginalSequence] = report.GivenUp
		}
	}
	return all, nil
}

// answered notes the triggers that have an event by now.
func (x *explanation) answered(ctx context.Context, since time.Time, all map[uint64]report.Cause) error {
	k := x.cfg.Key
	for m, err := range consume.Scan(ctx, x.deps.JetStream, consume.ScanOptions{
		Stream: topology.StreamEnriched, HeadersOnly: true, FromTime: since.Add(-skew),
		Subjects: []string{event.PrefixEnriched + "." + k.Source + "." + event.AccountToken(k.Account) + ".>"},
	}) {
		if err != nil {
			return err
		}
		e, err := event.FromHeader(m.Header)
		if err != nil {
			continue
		}
		if _, ours := all[e.TriggerSequence]; ours {
			all[e.TriggerSequence] = report.Pending
		}
	}
	return nil
}

// collected reports whether every dead letter that the server told of is made.
func (x *explanation) collected(ctx context.Context) (bool, error) {
	durable := topology.CollectConsumer(topology.Delivery{}).Durable
	cons, err := x.deps.JetStream.Consumer(ctx, topology.StreamAdvisories, durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return false, nil // it has never run
	}
	if err != nil {
		return false, fmt.Errorf("consumer %s: %w", durable, err)
	}
	i := cons.CachedInfo()
	return i.NumPending == 0 && i.NumAckPending == 0, nil
}
