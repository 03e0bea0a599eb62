// Package proof holds what a pipeline delivered against what its source did.
//
// It reads the destination as an outsider would, a SQLite file or a PostgreSQL
// database, and compares it record by record and webhook by webhook with the
// book of the simulated provider. Nothing that the pipeline says of itself
// counts.
//
// A database tells only what it holds now. [Destination.Watch] has PostgreSQL
// write down every effect on the tables, so that a comparison also sees what was
// there for a moment: an older version in a newer one's place, an event that was
// written twice. And [ReadStreams] looks for what was refused in the streams, and
// whether a dead letter says all of its webhook.
//
// A million webhooks take about 700 MB of memory: half of it for the book, a third
// for what the destination holds.
package proof

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver
	_ "modernc.org/sqlite"             // registers the driver

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

// Destination is a database that a pipeline writes to, as a reader sees it who
// knows nothing of the pipeline. It is safe for concurrent use. Close it.
type Destination struct {
	db               *sql.DB
	sql              dialect
	source, resource string
}

// dialect are the queries of one kind of database. Each yields the same columns.
type dialect struct {
	records string // of a source and resource
	events  string // of a source; the second parameter is the mark of forgeries
	watched bool   // has what Watch makes
}

// Open prepares to read what one source's resource left in the SQLite file at
// path, which need not exist yet.
func Open(path, source, resource string) (*Destination, error) {
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath(), RawQuery: url.Values{
		"mode": {"ro"}, "_pragma": {"busy_timeout(5000)"},
	}.Encode()}
	return open("sqlite", dsn.String(), &Destination{sql: sqlite, source: source, resource: resource})
}

// OpenPostgres prepares to read what one source's resource left in a PostgreSQL
// database. The connection string is a secret, which no error repeats.
func OpenPostgres(dsn, source, resource string) (*Destination, error) {
	return open("pgx", dsn, &Destination{sql: postgres, source: source, resource: resource})
}

func open(driver, dsn string, d *Destination) (*Destination, error) {
	var err error
	if d.db, err = sql.Open(driver, dsn); err != nil {
		return nil, fmt.Errorf("open destination: %s: connection string or path is not valid", driver)
	}
	d.db.SetMaxOpenConns(2) // the display and the comparison
	return d, nil
}

// Close ends the use of the database.
func (d *Destination) Close() error { return d.db.Close() }

// FarEnd is what a destination holds.
type FarEnd struct {
	// Streams is what the streams hold, if that was read.
	Streams Streams

	records map[string]farRecord
	events  []farEvent
	effects effects
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

// farEvent is a row of events. There may be a million.
type farEvent struct {
	id                string // the webhook's, or the event's of one that no webhook brought
	recordID, version string
	origin            event.Origin
	writtenAt         time.Time
	webhook           bool // id is a webhook's
	enriched          bool // has its record and the related one
	forged            bool // has the mark of a forgery in its body
}

// Read returns everything that the destination holds of the resource, as of one
// moment. It takes about 40 seconds of a busy machine and 250 MB for a million
// events.
func (d *Destination) Read(ctx context.Context) (far FarEnd, err error) {
	// One transaction, or an event could be counted whose record isn't.
	tx, err := d.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: d.sql.isolation()})
	if err != nil {
		return FarEnd{}, fmt.Errorf("read destination: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	if far.records, err = d.readRecords(ctx, tx); err != nil {
		return FarEnd{}, fmt.Errorf("read destination's records: %w", err)
	}
	if far.events, err = d.readEvents(ctx, tx); err != nil {
		return FarEnd{}, fmt.Errorf("read destination's events: %w", err)
	}
	if d.sql.watched {
		if far.effects, err = readEffects(ctx, tx, d.source); err != nil {
			return FarEnd{}, fmt.Errorf("read effects on destination: %w", err)
		}
	}
	return far, nil
}

func (d *Destination) readRecords(ctx context.Context, tx *sql.Tx) (map[string]farRecord, error) {
	records := map[string]farRecord{}
	err := query(ctx, tx, d.sql.records, []any{d.source, d.resource}, func(rows *sql.Rows) error {
		var id string
		var r farRecord
		err := rows.Scan(&id, &r.version, &r.record, &r.deleted)
		records[id] = r
		return err
	})
	return records, err
}

func (d *Destination) readEvents(ctx context.Context, tx *sql.Tx) (events []farEvent, err error) {
	err = query(ctx, tx, d.sql.events, []any{d.source, simulator.ForgedPrefix}, func(rows *sql.Rows) error {
		var e farEvent
		var delivery, origin, at string
		if err := rows.Scan(&e.id, &delivery, &e.recordID, &e.version, &origin, &at, &e.enriched, &e.forged); err != nil {
			return err
		}
		if e.webhook = delivery != ""; e.webhook {
			e.id = delivery
		}
		e.origin = originOf(origin)
		var err error
		if e.writtenAt, err = time.Parse(time.RFC3339Nano, at); err != nil {
			return fmt.Errorf("event %s: written_at: %w", e.id, err)
		}
		events = append(events, e)
		return nil
	})
	return events, err
}

// originOf is text as one of few strings, which a million events then share.
func originOf(text string) event.Origin {
	for _, o := range []event.Origin{event.Webhook, event.Reconcile, event.Replay, event.Backfill} {
		if text == string(o) {
			return o
		}
	}
	return event.Origin(strings.Clone(text))
}

// query runs a query and calls scan for each of its rows.
func query(ctx context.Context, tx *sql.Tx, text string, args []any, scan func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
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
