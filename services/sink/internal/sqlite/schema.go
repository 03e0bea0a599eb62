package sqlite

import (
	"context"
	"fmt"
)

// migrations bring a database from the version that is their index to the
// next. Only ever append: files out there have run the earlier ones.
var migrations = []string{
	`CREATE TABLE events(
		source TEXT, account TEXT, event_id TEXT, type TEXT, resource TEXT, record_id TEXT, version TEXT, origin TEXT,
		deleted INTEGER, delivery_id TEXT, event_time TEXT, received_at TEXT, observed_at TEXT, written_at TEXT,
		sequence INTEGER, trace_id TEXT, body TEXT,
		PRIMARY KEY(source, account, event_id));
	CREATE TABLE records(
		source TEXT, account TEXT, resource TEXT, record_id TEXT, version TEXT, observed_at TEXT, deleted_at TEXT,
		deleted INTEGER, record TEXT, related TEXT, event_id TEXT, written_at TEXT,
		PRIMARY KEY(source, account, resource, record_id));`,
}

// migrate runs the migrations that the file has not seen, all or none.
func (d *DB) migrate(ctx context.Context) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after the commit it does nothing
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("schema version %d is newer than this program's %d", version, len(migrations))
	}
	for i, m := range migrations[version:] {
		if _, err := tx.ExecContext(ctx, m); err != nil {
			return fmt.Errorf("migration %d: %w", version+i+1, err)
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", len(migrations))); err != nil {
		return err
	}
	return tx.Commit()
}

// insertEvent keeps what was written first: a duplicate changes nothing
// (promise 4), its written_at included.
const insertEvent = `
INSERT INTO events(source, account, event_id, type, resource, record_id, version, origin, deleted, delivery_id,
	event_time, received_at, observed_at, written_at, sequence, trace_id, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(source, account, event_id) DO NOTHING`

// A record's row is the join of its events (promise 7): the live event with
// the greatest (version, observed_at), the latest tombstone, and whether the
// second came after the first. So no order of events gives another row. The
// event id decides between events that are equal in both; version is NULL
// until a live event came, and event_id is then the tombstone's.
const (
	upsertLive = `
INSERT INTO records(source, account, resource, record_id, version, observed_at, deleted_at, deleted, record, related,
	event_id, written_at)
VALUES (?, ?, ?, ?, ?, ?, NULL, 0, ?, ?, ?, ?)
ON CONFLICT(source, account, resource, record_id) DO UPDATE SET
	version = excluded.version, observed_at = excluded.observed_at, record = excluded.record,
	related = excluded.related, event_id = excluded.event_id, written_at = excluded.written_at,
	deleted = records.deleted_at IS NOT NULL AND records.deleted_at > excluded.observed_at
WHERE records.version IS NULL OR (excluded.version, excluded.observed_at, excluded.event_id)
	> (records.version, records.observed_at, records.event_id)`

	upsertTombstone = `
INSERT INTO records(source, account, resource, record_id, deleted_at, deleted, event_id, written_at)
VALUES (?, ?, ?, ?, ?, 1, ?, ?)
ON CONFLICT(source, account, resource, record_id) DO UPDATE SET
	deleted_at = excluded.deleted_at, written_at = excluded.written_at,
	deleted = records.version IS NULL OR excluded.deleted_at > records.observed_at,
	event_id = iif(records.version IS NULL, excluded.event_id, records.event_id)
WHERE records.deleted_at IS NULL OR excluded.deleted_at > records.deleted_at
	OR records.version IS NULL AND excluded.deleted_at = records.deleted_at AND excluded.event_id > records.event_id`
)
