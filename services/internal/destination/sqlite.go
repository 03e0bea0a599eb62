package destination

import (
	"context"
	"database/sql"
	"maps"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // registers the driver

	"github.com/tercelhq/tercel/pkg/event"
)

// sqliteStore reads the file that package sqlite of the sink writes.
type sqliteStore struct{ db *sql.DB }

// SQLiteDSN names the database file at path, whatever characters are in that, and
// how it is opened: pragmas, and settings of the driver. A statement waits up to 5s
// for another process to release the file.
func SQLiteDSN(path string, pragmas []string, settings url.Values) string {
	query := maps.Clone(settings)
	query["_pragma"] = append([]string{"busy_timeout(5000)"}, pragmas...)
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath(), RawQuery: query.Encode()}
	return dsn.String()
}

func openSQLite(path string) (store, error) {
	db, err := sql.Open("sqlite", SQLiteDSN(path, nil, url.Values{"mode": {"ro"}}))
	if err != nil {
		return nil, err
	}
	return sqliteStore{db}, nil
}

func (s sqliteStore) close() error { return s.db.Close() }

const selectHeld = `SELECT record_id, coalesce(version, ''), coalesce(observed_at, ''), deleted FROM records
WHERE source = ? AND account = ? AND resource = ?`

func (s sqliteStore) versions(ctx context.Context, k Key, ids []string) ([]Held, error) {
	args := []any{k.Source, k.Account, k.Resource}
	for _, id := range ids {
		args = append(args, id)
	}
	return s.read(ctx, selectHeld+" AND record_id IN (?"+strings.Repeat(", ?", len(ids)-1)+")", args...)
}

func (s sqliteStore) page(ctx context.Context, k Key, after *string, limit int) ([]Held, error) {
	if after == nil {
		return s.read(ctx, selectHeld+" ORDER BY record_id LIMIT ?", k.Source, k.Account, k.Resource, limit)
	}
	return s.read(ctx, selectHeld+" AND record_id > ? ORDER BY record_id LIMIT ?", k.Source, k.Account, k.Resource, *after, limit)
}

func (s sqliteStore) read(ctx context.Context, query string, args ...any) (all []Held, err error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var h Held
		var version, observed string
		if err := rows.Scan(&h.ID, &version, &observed, &h.Deleted); err != nil {
			return nil, err
		}
		h.Version = event.Version(version)
		if observed != "" {
			if h.ObservedAt, err = time.Parse(time.RFC3339Nano, observed); err != nil {
				return nil, err
			}
		}
		all = append(all, h)
	}
	return all, rows.Err()
}
