package model_test

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"

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
			wrong = append(wrong, fmt.Errorf("%s: the destination has %q of %q, the source %s", when, got, r.ID, want))
		}
		delete(there, r.ID)
	}
	for id, body := range there {
		wrong = append(wrong, fmt.Errorf("%s: the destination has %s, and the source no %q", when, body, id))
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

// honest finds claims of reports that weren't so: what a run that had caught up
// calls missed had no event of a trigger that was stored before it began, and
// what it calls stale none with that version.
func (p *play) honest() error {
	events := map[string][]seen{}
	for m, err := range consume.Scan(p.ctx, p.js, consume.ScanOptions{
		Stream: topology.StreamEnriched, HeadersOnly: true,
		Subjects: []string{event.PrefixEnriched + "." + source + "." + event.AccountToken(p.account) + ".>"},
	}) {
		if err != nil {
			return err
		}
		e, err := event.FromHeader(m.Header)
		if err != nil {
			return err
		}
		events[e.RecordID] = append(events[e.RecordID], seen{e, e.TriggerSequence})
	}
	var wrong []error
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
