package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// Write writes items in one transaction and returns one result for each, in
// their order. If one of them makes the transaction fail, each gets a
// transaction of its own, so that its neighbours are written all the same.
// An error that the same item would meet again is permanent.
func (d *DB) Write(ctx context.Context, items []delivery.Item) []delivery.Result {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.inPlace(); err != nil {
		return delivery.Out(len(items), err)
	}
	results, err := d.transaction(ctx, items)
	if err == nil {
		return results
	}
	switch {
	case !itemsOwn(err):
		return delivery.Out(len(items), d.describe(err))
	case len(items) == 1:
		return delivery.Failed(1, d.describe(err))
	}
	results = results[:0]
	for i := range items {
		one, err := d.transaction(ctx, items[i:i+1])
		switch {
		case err == nil:
			results = append(results, one[0])
		case itemsOwn(err):
			results = append(results, delivery.Result{Err: d.describe(err)})
		default: // nothing after it would fare better
			return append(results, delivery.Out(len(items)-i, d.describe(err))...)
		}
	}
	return results
}

// inPlace makes sure that the file is still where it was opened. SQLite would
// go on writing to a file that was deleted or moved away, and nobody would
// find there what was acknowledged (promise 5).
func (d *DB) inPlace() error {
	now, err := os.Stat(d.path)
	if err == nil && !os.SameFile(now, d.file) {
		err = errors.New("another file took its place")
	}
	if err != nil {
		return fmt.Errorf("write to %s: %w", d.path, err)
	}
	return nil
}

// transaction writes items, all or none.
func (d *DB) transaction(ctx context.Context, items []delivery.Item) ([]delivery.Result, error) {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // after the commit it does nothing
	w := batch{
		now:   delivery.Time(time.Now()),
		event: tx.StmtContext(ctx, d.event), live: tx.StmtContext(ctx, d.live), absent: tx.StmtContext(ctx, d.absent),
	}
	results := make([]delivery.Result, len(items))
	for i, it := range items {
		if results[i].Duplicate, err = w.write(ctx, it); err != nil {
			return nil, err
		}
	}
	return results, tx.Commit()
}

// batch is one transaction's statements and time.
type batch struct {
	now                 string
	event, live, absent *sql.Stmt
}

// write writes one event and its record. The record is written for an event
// that is known too: sent again, it may carry a fresher one.
func (b batch) write(ctx context.Context, it delivery.Item) (duplicate bool, err error) {
	e := it.Event
	observed := delivery.Time(e.ObservedAt)
	done, err := b.event.ExecContext(ctx, e.Source, e.Account, e.ID, e.Type, orNull(e.Resource), orNull(e.RecordID),
		orNull(string(e.Version)), string(e.Origin), e.Deleted, orNull(e.DeliveryID), orNull(delivery.Time(e.Time)),
		orNull(delivery.Time(e.ReceivedAt)), orNull(observed), b.now, int64(it.Sequence), orNull(it.TraceID), string(it.Body))
	if err != nil {
		return false, err
	}
	inserted, err := done.RowsAffected()
	if err != nil {
		return false, err
	}
	switch {
	case e.Resource == "":
	case e.Deleted:
		_, err = b.absent.ExecContext(ctx, e.Source, e.Account, e.Resource, e.RecordID, observed, e.ID, b.now)
	default:
		_, err = b.live.ExecContext(ctx, e.Source, e.Account, e.Resource, e.RecordID, string(e.Version), observed,
			string(it.Record), orNull(string(it.Related)), e.ID, b.now)
	}
	return inserted == 0, err
}

func orNull(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

// describe says where err happened, and marks it if the same item would meet
// it again. SQLite's texts name tables and columns, never values.
func (d *DB) describe(err error) error {
	err = fmt.Errorf("write to %s: %w", d.path, err)
	switch code(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH:
		return fault.Permanent(err)
	}
	return err
}

// itemsOwn reports whether err may come from one item's content. A statement
// fails with SQLITE_ERROR when a trigger or an index of the operator's can't
// digest a body, but also when a table is gone: that error is not permanent.
func itemsOwn(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_ERROR:
		return true
	}
	return false
}

// code is err's primary result code, or SQLITE_OK if SQLite has not spoken.
func code(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return sqlite3.SQLITE_OK
	}
	return e.Code() & 0xff
}
