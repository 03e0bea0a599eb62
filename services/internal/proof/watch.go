package proof

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Errors of [Destination.Watch].
var (
	// ErrNoTables means that the sink hasn't made its tables yet.
	ErrNoTables = errors.New("the destination has no tables yet")
	// ErrTooLate means that the tables hold something whose effects nobody saw.
	ErrTooLate = errors.New("the destination's tables are not empty")
)

// auditSchema writes down every effect on the sink's tables, in the transaction
// that has it: what is undone had none. A row that stays the same but for when it
// was written is no effect.
//
// Rows of one record wait for each other, and the trigger runs when they have: n
// is the order in which a record's row changed.
const auditSchema = `
CREATE SCHEMA proof;
CREATE TABLE proof.effects(
	n bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
	target text NOT NULL, did text NOT NULL,
	source text COLLATE "C" NOT NULL, account text COLLATE "C" NOT NULL, resource text COLLATE "C",
	record_id text COLLATE "C", event_id text COLLATE "C" NOT NULL,
	was text COLLATE "C", version text COLLATE "C", was_deleted_at timestamptz, deleted_at timestamptz,
	was_deleted boolean NOT NULL DEFAULT false, deleted boolean NOT NULL DEFAULT false,
	observed_at timestamptz, observed_nanos smallint, deleted_nanos smallint);

CREATE FUNCTION proof.event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE r record;
BEGIN
	r := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
	INSERT INTO proof.effects(target, did, source, account, resource, record_id, event_id, version)
	VALUES ('events', TG_OP, r.source, r.account, r.resource, r.record_id, r.event_id, r.version);
	RETURN NULL;
END $$;

CREATE FUNCTION proof.record() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE r record; was text; was_deleted_at timestamptz; was_deleted boolean := false;
BEGIN
	r := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
	IF TG_OP <> 'INSERT' THEN
		was := OLD.version; was_deleted_at := OLD.deleted_at; was_deleted := OLD.deleted;
	END IF;
	IF TG_OP = 'UPDATE' THEN
		IF (OLD.version, OLD.observed_at, OLD.observed_nanos, OLD.deleted_at, OLD.deleted_nanos, OLD.deleted, OLD.event_id,
			OLD.record::text, OLD.related::text)
			IS NOT DISTINCT FROM (NEW.version, NEW.observed_at, NEW.observed_nanos, NEW.deleted_at, NEW.deleted_nanos, NEW.deleted,
			NEW.event_id, NEW.record::text, NEW.related::text)
		THEN RETURN NULL; END IF;
	END IF;
	INSERT INTO proof.effects(target, did, source, account, resource, record_id, event_id, was, version,
		was_deleted_at, deleted_at, was_deleted, deleted, observed_at, observed_nanos, deleted_nanos)
	VALUES ('records', TG_OP, r.source, r.account, r.resource, r.record_id, r.event_id, was, r.version,
		was_deleted_at, r.deleted_at, was_deleted, r.deleted, r.observed_at, r.observed_nanos, r.deleted_nanos);
	RETURN NULL;
END $$;

CREATE TRIGGER proof AFTER INSERT OR UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION proof.event();
CREATE TRIGGER proof AFTER INSERT OR UPDATE OR DELETE ON records FOR EACH ROW EXECUTE FUNCTION proof.record();`

// Watch has a PostgreSQL destination write down every effect on its tables from
// now on, in a schema of its own, which [Destination.Read] then reads too. A row
// takes about 40 microseconds longer to write. It needs the role that the sink
// writes as, and returns [ErrNoTables] or [ErrTooLate] when it is called too early
// or too late; a second call does nothing.
func (d *Destination) Watch(ctx context.Context) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("watch destination: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after the commit it does nothing
	if err := watch(ctx, tx); err != nil {
		return fmt.Errorf("watch destination: %w", err)
	}
	return tx.Commit()
}

func watch(ctx context.Context, tx *sql.Tx) error {
	var tables, watched, filled bool
	if err := tx.QueryRowContext(ctx, `SELECT to_regclass('events') IS NOT NULL AND to_regclass('records') IS NOT NULL,
		to_regclass('proof.effects') IS NOT NULL`).Scan(&tables, &watched); err != nil || watched {
		return err
	}
	if !tables {
		return ErrNoTables
	}
	if _, err := tx.ExecContext(ctx, auditSchema); err != nil {
		return err
	}
	// The triggers keep others from writing until they are committed.
	if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM events) OR EXISTS (SELECT FROM records)`).Scan(&filled); err != nil {
		return err
	}
	if filled {
		return ErrTooLate
	}
	return nil
}

// effects are those that must not be, at most maxEffects of each kind, and those that
// only the source's book can tell of whether they may be.
type effects struct {
	doubled  []string // events or versions of records that were written again
	backward []string // records that were older after an effect than before it
	undone   []string // events that were changed or removed
	turns    []turn   // in their order
}

// turn is an effect by which a record became deleted, or was it no longer.
type turn struct {
	record, version string // as they were afterwards
	deleted         bool
	at              time.Time
	// by is when the source must have deleted a record that is deleted now, or that
	// should still be: at, or when it was asked that said that the record is gone.
	by time.Time
}

// maxEffects bounds what is told of each kind.
const maxEffects = 100

func readEffects(ctx context.Context, tx *sql.Tx, source string) (e effects, err error) {
	var watched bool
	if err := tx.QueryRowContext(ctx, `SELECT to_regclass('proof.effects') IS NOT NULL`).Scan(&watched); err != nil || !watched {
		return effects{}, err
	}
	for _, kind := range []struct {
		into  *[]string
		query string
	}{
		{&e.doubled, writtenTwice},
		{&e.doubled, setTwice},
		{&e.backward, wentBack},
		{&e.undone, takenBack},
	} {
		err := query(ctx, tx, kind.query+" LIMIT $2", []any{source, maxEffects}, func(rows *sql.Rows) error {
			var id, what string
			var at time.Time
			if err := rows.Scan(&id, &what, &at); err != nil {
				return err
			}
			*kind.into = append(*kind.into, fmt.Sprintf("%s %s at %s", id, what, at.UTC().Format(time.RFC3339Nano)))
			return nil
		})
		if err != nil {
			return effects{}, err
		}
	}
	err = query(ctx, tx, turned, []any{source}, func(rows *sql.Rows) error {
		var t turn
		err := rows.Scan(&t.record, &t.version, &t.deleted, &t.at, &t.by)
		e.turns = append(e.turns, t)
		return err
	})
	return e, err
}

// The queries for effects that must not be. Each yields whose effect it is, what
// is wrong with it, and when it was.
const (
	writtenTwice = `
SELECT event_id, 'was written ' || count(*) || ' times, last', max(at) FROM proof.effects
WHERE source = $1 AND target = 'events' AND did = 'INSERT'
GROUP BY account, event_id HAVING count(*) > 1 ORDER BY max(n)`

	// A record may get the same version from several events, and several
	// versions from one that was sent again, but no state of one event twice.
	setTwice = `
SELECT record_id, 'was made version ' || coalesce(version, 'none') || ' of ' || event_id || ' ' || count(*) || ' times, last', max(at)
FROM proof.effects
WHERE source = $1 AND target = 'records' AND did <> 'DELETE'
GROUP BY account, resource, record_id, event_id, version, observed_at, observed_nanos, deleted_at, deleted_nanos, deleted
HAVING count(*) > 1 ORDER BY max(n)`

	wentBack = `
SELECT record_id, CASE
	WHEN did = 'DELETE' THEN 'was removed with version ' || coalesce(was, 'none')
	WHEN version IS DISTINCT FROM was AND (version IS NULL OR version < was) THEN 'went from version ' || was || ' back to ' || coalesce(version, 'none')
	ELSE 'went from deleted at ' || was_deleted_at || ' back to ' || coalesce(deleted_at::text, 'never') END, at
FROM proof.effects
WHERE source = $1 AND target = 'records' AND (did = 'DELETE' OR did = 'UPDATE'
	AND (was IS NOT NULL AND (version IS NULL OR version < was)
		OR was_deleted_at IS NOT NULL AND (deleted_at IS NULL OR deleted_at < was_deleted_at)))
ORDER BY n`

	turned = `
SELECT record_id, coalesce(version, ''), deleted, at, CASE WHEN deleted THEN at ELSE coalesce(was_deleted_at, at) END
FROM proof.effects
WHERE source = $1 AND target = 'records' AND did <> 'DELETE' AND deleted <> was_deleted ORDER BY n`

	takenBack = `
SELECT event_id, CASE did WHEN 'DELETE' THEN 'was removed' ELSE 'was changed' END, at FROM proof.effects
WHERE source = $1 AND target = 'events' AND did <> 'INSERT' ORDER BY n`
)
