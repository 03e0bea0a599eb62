// Package postgres is the destination that keeps events and records in a
// PostgreSQL database.
//
// Table events has every event once; table records has the newest version of
// each record, whatever order its events came in. What an event doesn't have
// is NULL. A batch is one transaction, sent in one piece and answered in one.
//
// PostgreSQL can't hold the character NUL. In JSON, where it is written as an
// escape, it becomes U+FFFD; in ids it becomes "␀0" (and "␀" becomes "␀␀"), so
// that no two ids become one. Times are kept to the microsecond; where their
// order decides, the nanoseconds have a column of their own.
package postgres

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/pg"
)

// Config is where and how a destination writes.
type Config struct {
	// DSN is the connection string. It is a secret.
	DSN string
	// Name is the destination's name, which the server shows with its sessions.
	Name string
	// Migrate makes the tables and brings them up to date.
	Migrate bool
	// Records keeps table records too, beside events.
	Records bool
	// Table, if set, is a table of the user's own that is written to instead:
	// a row for each record with Records, else for each event.
	Table *pipeline.Table
}

// DB is an open destination. It is safe for concurrent use.
type DB struct {
	pool    *pgxpool.Pool
	target  string
	records bool
	own     *table // nil for Tercel's own tables
}

// Check returns the one database that dsn names, as text without secrets, or
// what is wrong with it. It connects nowhere.
func Check(dsn string) (string, error) {
	c, err := pg.Parse(dsn, "")
	if err != nil {
		return "", err
	}
	return pg.Target(c), nil
}

// Open connects and makes sure that all is there which writing needs: the
// tables in their newest form, the privileges, a server that takes writes.
// What may lose acknowledged events is logged as a warning.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*DB, error) {
	c, err := pg.Parse(cfg.DSN, cfg.Name)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", pg.Target(c), err)
	}
	d := &DB{pool: pool, target: pg.Target(c), records: cfg.Records}
	if err := d.prepare(ctx, cfg.Migrate, cfg.Table, log); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open %s: %w", d.target, err)
	}
	return d, nil
}

func (d *DB) prepare(ctx context.Context, migrate bool, own *pipeline.Table, log *slog.Logger) error {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if err := checkServer(ctx, conn.Conn(), log); err != nil {
		return err
	}
	if own != nil {
		d.own, err = openTable(ctx, conn.Conn(), *own, d.records)
		return err
	}
	if migrate {
		if err := bringUpToDate(ctx, conn.Conn()); err != nil {
			return err
		}
	}
	return d.checkTables(ctx, conn.Conn())
}

// Close ends all sessions. Writes in progress are finished.
func (d *DB) Close() error {
	d.pool.Close()
	return nil
}
