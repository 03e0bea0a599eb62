package sink_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tercelhq/tercel/services/internal/pgtest"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// databases is the PostgreSQL server of all tests.
var databases pgtest.Pool

// postgresPlace is a schema of its own, behind a link of its own.
func postgresPlace(t *testing.T) *place {
	t.Helper()
	server := databases.Server(t)
	link, schema := server.Linked(t), pgtest.Name()
	ask := func(t *testing.T) *pgx.Conn {
		return postgresConn(t, server.URL(pgtest.Superuser, pgtest.Database, ""), schema)
	}
	run := func(t *testing.T, query string) {
		t.Helper()
		if _, err := ask(t).Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "CREATE SCHEMA "+schema)
	return &place{
		yaml:    "postgres: {dsn: env:DATABASE_URL}",
		env:     map[string]string{"DATABASE_URL": server.URL(pgtest.Superuser, pgtest.Database, link.Addr()) + "?search_path=" + schema},
		rows:    func(t *testing.T) []row { return postgresRows(t, ask(t)) },
		records: func(t *testing.T) map[string]record { return postgresRecords(t, ask(t)) },
		breakIt: func(*testing.T) func() { link.Cut(); return link.Mend },
		hang:    func(*testing.T) func() { link.Hold(); return link.Mend },
		fill: func(t *testing.T) func() {
			run(t, `CREATE FUNCTION refuse_all() RETURNS trigger LANGUAGE plpgsql AS
				$$BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END$$;
				CREATE TRIGGER refuse_all BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse_all()`)
			return func() { run(t, "DROP TRIGGER refuse_all ON events") }
		},
		refuse: func(t *testing.T, eventID string) {
			run(t, fmt.Sprintf("ALTER TABLE events ADD CONSTRAINT picky CHECK (event_id <> '%s')", eventID))
		},
	}
}

func postgresConn(t *testing.T, url, schema string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url+"?search_path="+schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// nul reads texts as the documentation says that NUL is written.
var nul = strings.NewReplacer("␀0", "\x00", "␀␀", "␀")

func postgresRows(t *testing.T, conn *pgx.Conn) []row {
	t.Helper()
	defer func() { _ = conn.Close(context.Background()) }()
	result, err := conn.Query(t.Context(), `SELECT event_id, source, account, type, coalesce(resource, ''),
		coalesce(record_id, ''), coalesce(version, ''), origin, deleted, event_time, received_at, observed_at, written_at,
		sequence, body::text FROM events ORDER BY sequence`)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := pgx.CollectRows(result, func(from pgx.CollectableRow) (r row, err error) {
		var body string
		var times [4]*time.Time
		err = from.Scan(&r.EventID, &r.Source, &r.Account, &r.Type, &r.Resource, &r.RecordID, &r.Version, &r.Origin, &r.Deleted,
			&times[0], &times[1], &times[2], &times[3], &r.Sequence, &body)
		r.EventID = nul.Replace(r.EventID)
		for i, to := range []*string{&r.EventTime, &r.ReceivedAt, &r.ObservedAt, &r.WrittenAt} {
			*to = written(times[i])
		}
		r.splitBody(t, body)
		return r, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// written is a time as other destinations write it.
func written(t *time.Time) string {
	if t == nil {
		return ""
	}
	return delivery.Time(*t)
}

func postgresRecords(t *testing.T, conn *pgx.Conn) map[string]record {
	t.Helper()
	defer func() { _ = conn.Close(context.Background()) }()
	result, err := conn.Query(t.Context(), `SELECT record_id, coalesce(version, ''), observed_at, deleted_at, event_id,
		coalesce(record::text, ''), deleted FROM records`)
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]record{}
	_, err = pgx.CollectRows(result, func(from pgx.CollectableRow) (id string, err error) {
		var r record
		var observed, gone *time.Time
		var deleted bool
		err = from.Scan(&id, &r.version, &observed, &gone, &r.eventID, &r.record, &deleted)
		r.observedAt, r.deletedAt = written(observed), written(gone)
		if deleted != r.deleted() {
			t.Errorf("record %s: deleted is %t in %+v", id, deleted, r)
		}
		records[id] = r
		return id, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return records
}
