package run

import (
	"context"
	"fmt"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/mapping"
	"github.com/tercelhq/tercel/pkg/report"
)

// A source's list of events is compared with the triggers that are stored. An
// event has no versions: it was stored or it was missed.

// listedVersion stands for the version of a listed event, whose bytes may change
// while the event doesn't.
const listedVersion event.Version = "n000"

// maxEventText bounds the id and the type of a listed event, in bytes: the cursor has
// room for as many as a report names.
const maxEventText = 1024

// events compares a page's events, and has those sent again that were missed.
func (c *comparison) events(ctx context.Context, f *found, next *cursor.Window) error {
	if len(f.listed) == 0 {
		return nil
	}
	if err := c.ready(ctx, next); err != nil {
		return err
	}
	if err := c.near(ctx, f.listed); err != nil {
		return err
	}
	unknown, err := c.unknown(ctx, f, next)
	if err != nil {
		return err
	}
	gaps := c.missed(unknown, f, next)
	fates := make([]fate, len(gaps))
	if !c.opts.DryRun {
		if fates, err = c.sendEvents(ctx, gaps); err != nil {
			return err
		}
	}
	for i, rec := range gaps {
		c.settle(rec, fates[i], f, next)
	}
	return nil
}

// fate is what became of an event that was missed.
type fate int

const (
	left        fate = iota // by a dry run
	repaired                // it was sent again
	redelivered             // the source has sent it again
	arrived                 // its trigger was there before it could be sent again
	lost                    // the source no longer has it in full or refuses it, or it is larger than the server takes
)

// unknown finds the events of a page that are wanted and have no trigger, and
// reads what has come since the run began: their webhooks may have.
func (c *comparison) unknown(ctx context.Context, f *found, next *cursor.Window) ([]record, error) {
	var all []record
	for _, rec := range f.listed {
		if c.stored.has(rec.id) {
			c.match(rec, f, next)
			continue
		}
		if !c.cfg.Source.Wants(rec.typ) || c.droppedEvent(ctx, rec) {
			next.Counts.Dropped++
			continue
		}
		all = append(all, rec)
	}
	if len(all) == 0 {
		return nil, nil
	}
	if err := c.readOn(ctx, c.stored); err != nil {
		return nil, err
	}
	return all, c.search(ctx, all)
}

// missed returns those of the unknown events that have not come since.
func (c *comparison) missed(unknown []record, f *found, next *cursor.Window) []record {
	var gaps []record
	for _, rec := range unknown {
		if c.stored.has(rec.id) {
			c.match(rec, f, next)
			continue
		}
		next.Sets.Listed.Add(rec.id, ordinal(rec.version))
		gaps = append(gaps, rec)
	}
	return gaps
}

// match counts an event that is stored.
func (c *comparison) match(rec record, f *found, next *cursor.Window) {
	f.tally[ledger.Matched]++
	next.Counts.Matched++
	next.Sets.Listed.Add(rec.id, ordinal(rec.version))
	next.Sets.Held.Add(rec.id, ordinal(rec.version))
}

// droppedEvent is [comparison.dropped] for an event that the list has in full.
// Any other is left to the enricher, which drops it like its webhook.
func (c *comparison) droppedEvent(ctx context.Context, rec record) bool {
	e := c.cfg.Source.Events
	if c.cfg.Drop.IsZero() || !e.Get.IsZero() || e.Resource != "" {
		return false
	}
	body, err := e.BodyIn(rec.body)
	if err != nil {
		return false
	}
	dropped, err := c.cfg.Drop.Bool(ctx, &mapping.Document{Event: c.listedEvent(rec, body), Trigger: body})
	return dropped && err == nil
}

// settle counts an event that was missed, and names it in the report.
func (c *comparison) settle(rec record, what fate, f *found, next *cursor.Window) {
	named := report.Record{
		ID: rec.id, Type: rec.typ, Verdict: string(ledger.Missed), FirstSeen: f.at, ChangedAt: rec.changed,
		Repaired: what == repaired, Redelivered: what == redelivered,
	}
	switch what {
	case repaired:
		next.Counts.Repaired++
	case redelivered:
		next.Counts.Redelivered++
	case arrived:
		next.Counts.Duplicates++
	case lost:
		f.tally[report.Unreadable]++
		next.Counts.Unreadable++
		named.Verdict = report.Unreadable
	}
	if what != lost {
		f.tally[ledger.Missed]++
		next.Counts.Missed++
	}
	note(next, named)
	if what != lost {
		f.open = append(f.open, named)
	}
}

// readListed reads a listed event. With an error it has what came before the
// fault.
func (c *comparison) readListed(body []byte) (record, error) {
	rec := record{body: body}
	var err error
	if rec.id, err = c.cfg.Source.Events.ID.In(body); err != nil {
		return rec, fmt.Errorf("id: %w", err)
	}
	if rec.typ, err = c.cfg.Source.Events.Type.In(body); err != nil {
		return rec, fmt.Errorf("%s: type: %w", rec.id, err)
	}
	if most := max(len(rec.id), len(rec.typ)); most > maxEventText {
		return rec, fmt.Errorf("id or type of %d bytes, want at most %d", most, maxEventText)
	}
	text, err := c.list.Time.In(body)
	if err == nil {
		rec.changed, err = parseTime(text)
	}
	if err != nil {
		return rec, fmt.Errorf("%s: time: %w", rec.id, err)
	}
	rec.version = listedVersion
	return rec, nil
}
