package sink_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

func sqlitePlace(t *testing.T) *place {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	lock := func(t *testing.T) func() { return lockDatabase(t, path) }
	return &place{
		yaml:    fmt.Sprintf("sqlite: {path: %q}", path),
		rows:    func(t *testing.T) []row { return databaseRows(t, database(t, path)) },
		records: func(t *testing.T) map[string]record { return databaseRecords(t, database(t, path)) },
		breakIt: lock,
		hang:    lock,
		refuse: func(t *testing.T, eventID string) {
			if _, err := database(t, path).ExecContext(t.Context(), fmt.Sprintf(`CREATE TRIGGER picky BEFORE INSERT ON events
				WHEN NEW.event_id = '%s' BEGIN SELECT raise(ABORT, 'not this one'); END`, eventID)); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// database opens the file as any program would. The driver is registered by
// the destination itself.
func database(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// databaseRows reads table events and closes the database.
func databaseRows(t *testing.T, db *sql.DB) []row {
	t.Helper()
	defer func() { _ = db.Close() }()
	result, err := db.QueryContext(t.Context(), `SELECT event_id, source, account, type, coalesce(resource, ''),
		coalesce(record_id, ''), coalesce(version, ''), origin, deleted, coalesce(event_time, ''), coalesce(received_at, ''),
		coalesce(observed_at, ''), written_at, sequence, body FROM events ORDER BY sequence`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = result.Close() }()
	var rows []row
	for result.Next() {
		var r row
		var body string
		if err := result.Scan(&r.EventID, &r.Source, &r.Account, &r.Type, &r.Resource, &r.RecordID, &r.Version, &r.Origin, &r.Deleted,
			&r.EventTime, &r.ReceivedAt, &r.ObservedAt, &r.WrittenAt, &r.Sequence, &body); err != nil {
			t.Fatal(err)
		}
		r.splitBody(t, body)
		rows = append(rows, r)
	}
	if err := result.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// splitBody fills the parts of a row from an event's whole body.
func (r *row) splitBody(t *testing.T, body string) {
	t.Helper()
	var parts struct {
		Trigger jsontext.Value `json:"trigger"`
		Record  jsontext.Value `json:"record"`
		Related jsontext.Value `json:"related"`
	}
	if err := json.Unmarshal([]byte(body), &parts); err != nil {
		t.Fatalf("body of %s: %v", r.EventID, err)
	}
	r.Trigger, r.Record, r.Related = parts.Trigger, parts.Record, parts.Related
}

// databaseRecords reads table records and closes the database.
func databaseRecords(t *testing.T, db *sql.DB) map[string]record {
	t.Helper()
	defer func() { _ = db.Close() }()
	result, err := db.QueryContext(t.Context(), `SELECT record_id, coalesce(version, ''), coalesce(observed_at, ''),
		coalesce(deleted_at, ''), event_id, coalesce(record, ''), deleted FROM records`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = result.Close() }()
	records := map[string]record{}
	for result.Next() {
		var id string
		var r record
		var deleted bool
		if err := result.Scan(&id, &r.version, &r.observedAt, &r.deletedAt, &r.eventID, &r.record, &deleted); err != nil {
			t.Fatal(err)
		}
		if deleted != r.deleted() {
			t.Errorf("record %s: deleted is %t in %+v", id, deleted, r)
		}
		records[id] = r
	}
	if err := result.Err(); err != nil {
		t.Fatal(err)
	}
	return records
}

// lockDatabase holds the write lock, as another program could.
func lockDatabase(t *testing.T, path string) (heal func()) {
	t.Helper()
	conn, err := database(t, path).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	}
}
