package proof

import "database/sql"

// sqlite reads the tables that the sink makes in a SQLite file.
var sqlite = dialect{
	records: `
SELECT record_id, coalesce(version, ''), coalesce(record, ''), deleted FROM records
WHERE source = ? AND resource = ?`,
	events: `
SELECT event_id, coalesce(delivery_id, ''), coalesce(record_id, ''), coalesce(version, ''), origin, written_at,
	coalesce(body ->> '$.record.id' = record_id AND body ->> '$.related.customer.id' = body ->> '$.record.customer_id', 0),
	instr(event_id || body, ?2) > 0
FROM events WHERE source = ?1`,
}

// postgres reads the tables that the sink makes in a PostgreSQL database.
var postgres = dialect{
	records: `
SELECT record_id, coalesce(version, ''), coalesce(record::text, ''), deleted FROM records
WHERE source = $1 AND resource = $2`,
	events: `
SELECT event_id, coalesce(delivery_id, ''), coalesce(record_id, ''), coalesce(version, ''), origin,
	to_char(written_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
	coalesce(body #>> '{record,id}' = record_id AND body #>> '{related,customer,id}' = body #>> '{record,customer_id}', false),
	position($2::text IN event_id || body::text) > 0
FROM events WHERE source = $1`,
	watched: true,
}

// isolation is what lets a transaction see one moment.
func (d dialect) isolation() sql.IsolationLevel {
	if d.watched {
		return sql.LevelRepeatableRead
	}
	return sql.LevelDefault
}
