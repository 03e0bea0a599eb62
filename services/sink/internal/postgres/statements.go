package postgres

// insertEvent keeps what was written first: a duplicate changes nothing
// (promise 4), its written_at included.
const insertEvent = `
INSERT INTO events(source, account, event_id, type, resource, record_id, version, origin, deleted, delivery_id,
	event_time, received_at, observed_at, written_at, sequence, trace_id, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, now(), $14, $15, $16)
ON CONFLICT (source, account, event_id) DO NOTHING`

// A record's row is the join of its events (promise 7): the live event with
// the greatest (version, observed_at), the latest tombstone, and whether the
// second came after the first. So no order of events gives another row. The
// event id decides between events that are equal in both; version is NULL
// until a live event came, and event_id is then the tombstone's.
const (
	upsertLive = `
INSERT INTO records AS r (source, account, resource, record_id, version, observed_at, observed_nanos, record, related,
	event_id, deleted, written_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, false, now())
ON CONFLICT (source, account, resource, record_id) DO UPDATE SET
	version = excluded.version, observed_at = excluded.observed_at, observed_nanos = excluded.observed_nanos,
	record = excluded.record, related = excluded.related, event_id = excluded.event_id, written_at = excluded.written_at,
	deleted = r.deleted_at IS NOT NULL
		AND (r.deleted_at, r.deleted_nanos) > (excluded.observed_at, excluded.observed_nanos)
WHERE r.version IS NULL OR (excluded.version, excluded.observed_at, excluded.observed_nanos, excluded.event_id)
	> (r.version, r.observed_at, r.observed_nanos, r.event_id)`

	upsertTombstone = `
INSERT INTO records AS r (source, account, resource, record_id, deleted_at, deleted_nanos, event_id, deleted, written_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, true, now())
ON CONFLICT (source, account, resource, record_id) DO UPDATE SET
	deleted_at = excluded.deleted_at, deleted_nanos = excluded.deleted_nanos, written_at = excluded.written_at,
	deleted = r.version IS NULL OR (excluded.deleted_at, excluded.deleted_nanos) > (r.observed_at, r.observed_nanos),
	event_id = CASE WHEN r.version IS NULL THEN excluded.event_id ELSE r.event_id END
WHERE r.deleted_at IS NULL OR (excluded.deleted_at, excluded.deleted_nanos) > (r.deleted_at, r.deleted_nanos)
	OR r.version IS NULL AND (excluded.deleted_at, excluded.deleted_nanos) = (r.deleted_at, r.deleted_nanos)
		AND excluded.event_id > r.event_id`
)

// statements are what writing consists of.
func (d *DB) statements() []string {
	if d.records {
		return []string{insertEvent, upsertLive, upsertTombstone}
	}
	return []string{insertEvent}
}
