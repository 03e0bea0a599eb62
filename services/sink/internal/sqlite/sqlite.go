// Package sqlite is the destination that keeps events and records in a SQLite
// database file.
//
// Table events has every event once; table records has the newest version of
// each record, whatever order its events came in. What an event doesn't have
// is NULL. Times are texts in UTC with nanoseconds whose order is the order of
// times; booleans are 0 and 1; record, related and body are JSON.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"

	_ "modernc.org/sqlite" // registers the driver

	"github.com/tercelhq/tercel/services/internal/destination"
)

// DB is an open database file. It is safe for concurrent use; one batch is
// written at a time.
type DB struct {
	path string
	db   *sql.DB
	file os.FileInfo // the file that was opened

	mu     sync.Mutex // guards the statements' turns
	event  *sql.Stmt
	live   *sql.Stmt
	absent *sql.Stmt
}

// Open opens the database file at path, makes it if its folder exists, and
// brings its tables up to date. It takes the write lock once, so that a
// database which can't be written is an error here and not with every event.
func Open(ctx context.Context, path string) (*DB, error) {
	// A commit is on disk when it returns (promise 5): WAL with synchronous=FULL
	// syncs the log with every transaction.
	pool, err := sql.Open("sqlite", destination.SQLiteDSN(path,
		[]string{"journal_mode(WAL)", "synchronous(FULL)"}, url.Values{"_txlock": {"immediate"}}))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	pool.SetMaxOpenConns(1)
	d := &DB{path: path, db: pool}
	if err := d.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), pool.Close())
	}
	return d, nil
}

func (d *DB) prepare(ctx context.Context) (err error) {
	if err := d.migrate(ctx); err != nil {
		return err
	}
	if d.file, err = os.Stat(d.path); err != nil {
		return err
	}
	for query, stmt := range map[string]**sql.Stmt{insertEvent: &d.event, upsertLive: &d.live, upsertTombstone: &d.absent} {
		if *stmt, err = d.db.PrepareContext(ctx, query); err != nil {
			return fmt.Errorf("tables are not Tercel's: %w", err)
		}
	}
	return nil
}

// Close closes the file. Writes in progress are finished.
func (d *DB) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.db.Close(); err != nil {
		return fmt.Errorf("close %s: %w", d.path, err)
	}
	return nil
}
