package model_test

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	_ "modernc.org/sqlite" // registers the driver

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

// compare holds the destination against the book: the same records, in the same
// versions, and no other.
func (p *play) compare(when string) error {
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: p.db, RawQuery: "mode=ro&_pragma=busy_timeout(60000)"}).String())
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(p.ctx, "SELECT record_id, record FROM records WHERE account = ? AND NOT deleted", p.account)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	there := map[string]string{}
	for rows.Next() {
		var id, body string
		if err := rows.Scan(&id, &body); err != nil {
			return err
		}
		there[id] = body
	}
	if err := rows.Err(); err != nil {
		return err
	}
	var wrong []error
	for _, r := range p.book.records() {
		if got, want := there[r.ID], r.json(); got != want {
			wrong = append(wrong, fmt.Errorf("%s: the destination has %q of %q, the source %s%s", when, got, r.ID, want, p.trail(r.ID)))
		}
		delete(there, r.ID)
	}
	for id, body := range there {
		wrong = append(wrong, fmt.Errorf("%s: the destination has %s, and the source no %q%s", when, body, id, p.trail(id)))
	}
	return errors.Join(wrong...)
}

// seen is an event that was enriched.
type seen struct {
	event.Event
	trigger uint64
}

// windowBegun is what was stored when the first run at a report's window began:
// it tells what all of them found.
func (p *play) windowBegun(r report.Report) (stored uint64, known bool) {
	for {
		if stored, known = p.begun[r.Run]; !known || r.Continues == "" {
			return stored, known
		}
		r = p.reports[r.Continues]
	}
}

// enriched are the events of the account that were enriched, by record.
func (p *play) enriched() (map[string][]seen, error) {
	events := map[string][]seen{}
	for m, err := range consume.Scan(p.ctx, p.js, consume.ScanOptions{
		Stream: topology.StreamEnriched, HeadersOnly: true,
		Subjects: []string{event.PrefixEnriched + "." + source + "." + event.AccountToken(p.account) + ".>"},
	}) {
		if err != nil {
			return nil, err
		}
		e, err := event.FromHeader(m.Header)
		if err != nil {
			return nil, err
		}
		events[e.RecordID] = append(events[e.RecordID], seen{e, e.TriggerSequence})
	}
	return events, nil
}

// trail tells what became of a record inside, for people.
func (p *play) trail(id string) string {
	events, err := p.enriched()
	if err != nil {
		return "; its events can't be read: " + err.Error()
	}
	text := "; its events:"
	for _, s := range events[id] {
		text += fmt.Sprintf("\n\t%s of trigger %d: version %q, deleted %t, observed %s", s.Origin, s.trigger, s.Version, s.Deleted, s.ObservedAt.Format(time.RFC3339Nano))
	}
	return text
}

// honest finds claims of reports that weren't so: what a run that had caught up
// calls missed had no event of a trigger that was stored before it began, and
// what it calls stale none with that version.
func (p *play) honest() error {
	events, err := p.enriched()
	if err != nil {
		return err
	}
	var wrong []error
	for id, all := range events {
		if i := slices.IndexFunc(all, func(s seen) bool { return s.Deleted }); i >= 0 && !p.book.ever(id) {
			wrong = append(wrong, fmt.Errorf("a tombstone of %q, which was never deleted%s", id, p.trail(id)))
		}
	}
	for id, r := range p.reports {
		before, known := p.windowBegun(r)
		if !known || !r.CaughtUp {
			continue
		}
		for _, rec := range r.Records {
			known := func(s seen) bool { return !s.Deleted && s.trigger <= before }
			current := func(s seen) bool { return known(s) && string(s.Version) >= rec.Version }
			gone := func(s seen) bool { return s.Deleted }
			switch {
			case rec.Destination != "":
			case rec.Verdict == string(ledger.Missed) && slices.ContainsFunc(events[rec.ID], known),
				rec.Verdict == string(ledger.Stale) && slices.ContainsFunc(events[rec.ID], current) && !slices.ContainsFunc(events[rec.ID], gone):
				wrong = append(wrong, fmt.Errorf("run %s calls %q %s in version %s, which had been enriched", id, rec.ID, rec.Verdict, rec.Version))
			}
		}
	}
	return errors.Join(wrong...)
}

// heard finds events of the provider's list that have no trigger, though the list
// was reconciled, and redeliveries that reports claim and that never came.
func (p *play) heard() error {
	if p.events == "" {
		return nil
	}
	triggers := map[string]event.Origin{} // the first one's, by the event's id
	for m, err := range consume.Scan(p.ctx, p.js, consume.ScanOptions{
		Stream: topology.StreamRaw, HeadersOnly: true,
		Subjects: []string{event.PrefixRaw + "." + source + "." + event.AccountToken(p.account) + ".>"},
	}) {
		if err != nil {
			return err
		}
		e, err := event.FromHeader(m.Header)
		if err != nil {
			return err
		}
		if id := event.DeliveryIDOf(m.Header); triggers[id] == "" {
			triggers[id] = e.Origin
		}
	}
	var wrong []error
	for _, h := range p.book.told() {
		if triggers[h.ID] == "" {
			wrong = append(wrong, fmt.Errorf("event %s is listed and has no trigger", h.ID))
		}
	}
	for id, r := range p.reports {
		for _, rec := range r.Records {
			if rec.Redelivered && triggers[rec.ID] != event.Webhook {
				wrong = append(wrong, fmt.Errorf("run %s calls event %s sent again by the provider, which came as %q", id, rec.ID, triggers[rec.ID]))
			}
		}
	}
	return errors.Join(wrong...)
}
