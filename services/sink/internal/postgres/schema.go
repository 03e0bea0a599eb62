package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
)

// migrations bring the tables from the version that is their index to the
// next. Only ever append: databases out there have run the earlier ones.
//
// Keys and versions are compared byte by byte, whatever the database's
// collation. JSON is kept as it is spelled, which jsonb doesn't: the number
// 1.00 stays 1.00, and none is too large.
var migrations = []string{
	`CREATE TABLE events(
		source text COLLATE "C" NOT NULL, account text COLLATE "C" NOT NULL, event_id text COLLATE "C" NOT NULL,
		type text NOT NULL, resource text, record_id text, version text COLLATE "C", origin text NOT NULL,
		deleted boolean NOT NULL, delivery_id text, event_time timestamptz, received_at timestamptz,
		observed_at timestamptz, written_at timestamptz NOT NULL, sequence bigint NOT NULL, trace_id text,
		body json NOT NULL,
		PRIMARY KEY (source, account, event_id));
	CREATE TABLE records(
		source text COLLATE "C", account text COLLATE "C", resource text COLLATE "C", record_id text COLLATE "C",
		version text COLLATE "C", observed_at timestamptz, observed_nanos smallint, deleted_at timestamptz,
		deleted_nanos smallint, deleted boolean NOT NULL, record json, related json, event_id text COLLATE "C" NOT NULL,
		written_at timestamptz NOT NULL,
		PRIMARY KEY (source, account, resource, record_id));`,
}

// migrationLock is the advisory lock under which one sink at a time migrates.
const migrationLock = 0x74657263656c // "tercel"

// bringUpToDate runs the migrations that the database has not seen, all or
// none. Where there are none, it needs no privilege to make tables.
func bringUpToDate(ctx context.Context, conn *pgx.Conn) error {
	version, err := schemaVersion(ctx, conn)
	if err != nil || version == len(migrations) {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		version, err := schemaVersion(ctx, conn) // another sink may have been faster
		if err != nil || version == len(migrations) {
			return err
		}
		for i, m := range migrations[version:] {
			if _, err := tx.Exec(ctx, m); err != nil {
				return fmt.Errorf("migration %d: %w", version+i+1, err)
			}
		}
		_, err = tx.Exec(ctx, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS tercel_schema_version(version integer NOT NULL);
			DELETE FROM tercel_schema_version; INSERT INTO tercel_schema_version VALUES (%d)`, len(migrations)))
		return err
	})
}

// schemaVersion is how many migrations the database has seen.
func schemaVersion(ctx context.Context, conn *pgx.Conn) (version int, err error) {
	// Not by to_regclass: it would go by what the session remembers, which may
	// be older than the lock.
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_tables
		WHERE tablename = 'tercel_schema_version' AND schemaname = ANY (current_schemas(false)))`).Scan(&there); err != nil || !there {
		return 0, err
	}
	if err := conn.QueryRow(ctx, "SELECT max(version) FROM tercel_schema_version").Scan(&version); err != nil {
		return 0, fmt.Errorf("table tercel_schema_version: %w", err)
	}
	if version > len(migrations) {
		return 0, fmt.Errorf("schema version %d is newer than this program's %d", version, len(migrations))
	}
	return version, nil
}

// checkServer refuses a server that can't take what events hold, and warns of
// settings under which a commit is not on disk when it returns (promise 5).
func checkServer(ctx context.Context, conn *pgx.Conn, log *slog.Logger) error {
	var encoding, readOnly, fsync, synchronous, fullPages string
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_encoding'), current_setting('transaction_read_only'),
		current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes')`).
		Scan(&encoding, &readOnly, &fsync, &synchronous, &fullPages); err != nil {
		return err
	}
	switch {
	case encoding != "UTF8":
		return fmt.Errorf("the database's encoding is %s, want UTF8", encoding)
	case readOnly == "on":
		return errors.New("the server is read-only")
	}
	for setting, value := range map[string]string{"fsync": fsync, "synchronous_commit": synchronous, "full_page_writes": fullPages} {
		if value == "off" {
			log.LogAttrs(ctx, slog.LevelWarn, "the server may lose acknowledged events when it crashes",
				slog.String("setting", setting), slog.String("value", value))
		}
	}
	return nil
}

// grants are the privileges that writing needs, by table.
var grants = map[string][]string{
	"events":  {"SELECT", "INSERT"},
	"records": {"SELECT", "INSERT", "UPDATE"},
}

// tables are the tables that d writes to.
func (d *DB) tables() []string {
	if d.records {
		return []string{"events", "records"}
	}
	return []string{"events"}
}

// checkTables makes sure that the tables are those that the statements expect,
// and that they may be written to.
func (d *DB) checkTables(ctx context.Context, conn *pgx.Conn) error {
	var missing []string
	for _, table := range d.tables() {
		for _, privilege := range grants[table] {
			var granted *bool
			if err := conn.QueryRow(ctx, "SELECT has_table_privilege(to_regclass($1), $2)", table, privilege).Scan(&granted); err != nil {
				return err
			}
			switch {
			case granted == nil:
				return fmt.Errorf("table %s is missing; with migrate: true it is made, by a role that may create tables", table)
			case !*granted:
				missing = append(missing, privilege+" ON "+table)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("privileges are missing: %s", strings.Join(missing, ", "))
	}
	for _, query := range d.statements() {
		if _, err := conn.Prepare(ctx, "", query); err != nil {
			return fmt.Errorf("tables are not Tercel's: %w", err)
		}
	}
	return nil
}
