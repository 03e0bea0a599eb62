//go:build containers

package containers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

// farEnd is the database that the sink writes to.
type farEnd struct{ db *pgx.Conn }

// open connects as the sink does, where the port is published.
func open(t *testing.T) farEnd {
	t.Helper()
	folder := os.Getenv("TERCEL_SECRETS")
	url, err := os.ReadFile(filepath.Join(folder, "database_url"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := pgx.Connect(t.Context(), strings.TrimSpace(strings.Replace(string(url), "@postgres:", "@127.0.0.1:", 1)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return farEnd{db}
}

// compare holds every webhook and every record against the database.
func (f farEnd) compare(ctx context.Context, book simulator.Book) error {
	// What reconciliation has sent again is no webhook's.
	rows, err := pairs[int](ctx, f.db, `SELECT delivery_id, count(*) FROM events WHERE source = 'orders' AND delivery_id <> '' GROUP BY 1`)
	if err != nil {
		return err
	}
	var errs []error
	fault := func(format string, args ...any) {
		if len(errs) < 10 {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	want := map[string]bool{}
	for _, d := range book.Deliveries {
		switch {
		case d.Kind == simulator.Forged && (d.Taken() || rows[d.ID] > 0):
			fault("forged webhook %s: answered %d, %d rows", d.ID, d.Status, rows[d.ID])
		case d.Kind != simulator.Forged && d.Taken():
			want[d.ID] = true
			if rows[d.ID] != 1 {
				fault("accepted webhook %s: %d rows, want 1", d.ID, rows[d.ID])
			}
		case d.GaveUp:
			fault("webhook %s was never accepted: %d", d.ID, d.Status)
		}
	}
	for id := range rows {
		if !want[id] {
			fault("webhook %s has a row, and was never accepted", id)
		}
	}
	return errors.Join(append(errs, f.compareRecords(ctx, book))...)
}

// compareRecords wants each record's last change, whether its webhook was sent or
// only a list tells of it.
func (f farEnd) compareRecords(ctx context.Context, book simulator.Book) error {
	last := map[string]simulator.Change{}
	for _, c := range book.Changes {
		last[c.RecordID] = c
	}
	have, err := pairs[string](ctx, f.db, `SELECT record_id, CASE WHEN deleted THEN 'deleted' ELSE version END FROM records WHERE source = 'orders'`)
	if err != nil {
		return err
	}
	for id, c := range last {
		want := string(event.TimeVersion(c.At))
		if c.Deleted {
			want = "deleted"
		}
		if have[id] != want {
			return fmt.Errorf("record %s (dropped %t) is %q, want %q", id, c.Dropped, have[id], want)
		}
	}
	return nil
}

// pairs are the rows of a query with two columns, by the first.
func pairs[V any](ctx context.Context, db *pgx.Conn, query string) (map[string]V, error) {
	rows, err := db.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	all := map[string]V{}
	var key string
	var value V
	_, err = pgx.ForEachRow(rows, []any{&key, &value}, func() error {
		all[key] = value
		return nil
	})
	return all, err
}
