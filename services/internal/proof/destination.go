// Package proof holds what a pipeline delivered against what its source did.
//
// It reads the destination as an outsider would, a SQLite file, and compares it
// record by record and webhook by webhook with the book of the simulated
// provider. Nothing that the pipeline says of itself counts.
package proof

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // registers the driver

	"github.com/tercelhq/tercel/services/internal/simulator"
)

// Destination is a database that a pipeline writes to, as a reader sees it who
// knows nothing of the pipeline. It is safe for concurrent use. Close it.
type Destination struct {
	db               *sql.DB
	source, resource string
}

// Open prepares to read what one source's resource left in the file at path,
// which need not exist yet.
func Open(path, source, resource string) (*Destination, error) {
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath(), RawQuery: url.Values{
		"mode": {"ro"}, "_pragma": {"busy_timeout(5000)"},
	}.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("open destination: %w", err)
	}
	db.SetMaxOpenConns(2) // the display and the comparison
	return &Destination{db, source, resource}, nil
}

// Close closes the file.
func (d *Destination) Close() error { return d.db.Close() }

// FarEnd is what a destination holds.
type FarEnd struct {
	records map[string]farRecord
	events  []farEvent
}

// Delivered counts the events there, and of those the ones that have their
// record and the related one.
func (f FarEnd) Delivered() (events, enriched int) {
	for _, e := range f.events {
		if e.enriched {
			enriched++
		}
	}
	return len(f.events), enriched
}

// farRecord is a row of records.
type farRecord struct {
	version string
	record  string
	deleted bool
}

// farEvent is a row of events.
type farEvent struct {
	id, deliveryID, recordID, version, origin string
	writtenAt                                 time.Time
	enriched                                  bool // has its record and the related one
	forged                                    bool // has the mark of a forgery in its body
}

// Read returns everything that the destination holds of the resource, as of one
// moment.
func (d *Destination) Read(ctx context.Context) (far FarEnd, err error) {
	// One transaction, or an event could be counted whose record isn't.
	tx, err := d.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return FarEnd{}, fmt.Errorf("read destination: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	if far.records, err = readRecords(ctx, tx, d.source, d.resource); err != nil {
		return FarEnd{}, fmt.Errorf("read destination's records: %w", err)
	}
	if far.events, err = readEvents(ctx, tx, d.source); err != nil {
		return FarEnd{}, fmt.Errorf("read destination's events: %w", err)
	}
	return far, nil
}

func readRecords(ctx context.Context, tx *sql.Tx, source, resource string) (map[string]farRecord, error) {
	rows, err := tx.QueryContext(ctx, `
		SELECT record_id, coalesce(version, ''), coalesce(record, ''), deleted FROM records
		WHERE source = ? AND resource = ?`, source, resource)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	records := map[string]farRecord{}
	for rows.Next() {
		var id string
		var r farRecord
		if err := rows.Scan(&id, &r.version, &r.record, &r.deleted); err != nil {
			return nil, err
		}
		records[id] = r
	}
	return records, rows.Err()
}

func readEvents(ctx context.Context, tx *sql.Tx, source string) (events []farEvent, err error) {
	rows, err := tx.QueryContext(ctx, `
		SELECT event_id, coalesce(delivery_id, ''), coalesce(record_id, ''), coalesce(version, ''), origin, written_at,
			coalesce(body ->> '$.record.id' = record_id AND body ->> '$.related.customer.id' = body ->> '$.record.customer_id', 0),
			instr(event_id || body, ?) > 0
		FROM events WHERE source = ?`, simulator.ForgedPrefix, source)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var e farEvent
		var at string
		if err := rows.Scan(&e.id, &e.deliveryID, &e.recordID, &e.version, &e.origin, &at, &e.enriched, &e.forged); err != nil {
			return nil, err
		}
		if e.writtenAt, err = time.Parse(time.RFC3339Nano, at); err != nil {
			return nil, fmt.Errorf("event %s: written_at: %w", e.id, err)
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// Size returns how many events are there, and how many of them reconciliation
// brought. It is cheap enough for a display; 0 when the tables aren't there yet.
func (d *Destination) Size(ctx context.Context) (events, reconciled int) {
	err := d.db.QueryRowContext(ctx, `
		SELECT count(*), count(*) FILTER (WHERE origin IN ('reconcile', 'backfill')) FROM events`).Scan(&events, &reconciled)
	if err != nil {
		return 0, 0
	}
	return events, reconciled
}
