package destination

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/services/internal/pg"
)

// postgresStore reads the tables that package postgres of the sink writes.
type postgresStore struct{ pool *pgxpool.Pool }

func openPostgres(ctx context.Context, name, dsn string) (store, error) {
	c, err := pg.Parse(dsn, "reader of "+name)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	return postgresStore{pool}, nil
}

func (s postgresStore) close() error {
	s.pool.Close()
	return nil
}

const selectFrom = `SELECT record_id, coalesce(version, ''), observed_at, deleted FROM records
WHERE source = $1 AND account = $2 AND resource = $3`

func (s postgresStore) versions(ctx context.Context, k Key, ids []string) ([]Held, error) {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = pg.Text(id)
	}
	return s.read(ctx, selectFrom+" AND record_id = ANY($4)", pg.Text(k.Source), pg.Text(k.Account), pg.Text(k.Resource), texts)
}

func (s postgresStore) page(ctx context.Context, k Key, after *string, limit int) ([]Held, error) {
	source, account, resource := pg.Text(k.Source), pg.Text(k.Account), pg.Text(k.Resource)
	if after == nil {
		return s.read(ctx, selectFrom+" ORDER BY record_id LIMIT $4", source, account, resource, limit)
	}
	return s.read(ctx, selectFrom+" AND record_id > $4 ORDER BY record_id LIMIT $5", source, account, resource, pg.Text(*after), limit)
}

func (s postgresStore) read(ctx context.Context, query string, args ...any) ([]Held, error) {
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (h Held, err error) {
		var id, version string
		var observed *time.Time
		if err := row.Scan(&id, &version, &observed, &h.Deleted); err != nil {
			return Held{}, err
		}
		h.ID, h.Version = pg.FromText(id), event.Version(pg.FromText(version))
		if observed != nil {
			h.ObservedAt = observed.UTC()
		}
		return h, nil
	})
}
