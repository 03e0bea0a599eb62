package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
	"github.com/tercelhq/tercel/services/sink/internal/sqlite"
)

func open(t testing.TB, path string) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// raw opens the file as any other program would.
func raw(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func run(t testing.TB, db *sql.DB, query string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

func ask[T any](t testing.TB, db *sql.DB, query string) (answer T) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return answer
}

// items are n events of as many records, of about a kilobyte each.
func items(from, n int) []delivery.Item {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	all := make([]delivery.Item, n)
	for i := range all {
		id := fmt.Sprint(from + i)
		record := `{"id":` + id + `,"text":"` + strings.Repeat("x", 900) + `"}`
		all[i] = delivery.Item{
			Event: event.Event{
				ID: "evt-" + id, Source: "orders", Account: "_", Type: "order.paid", Origin: event.Webhook, ReceivedAt: at,
				Resource: "order", RecordID: id, Version: event.TimeVersion(at), ObservedAt: at,
			},
			Trigger: []byte(`{}`), Record: []byte(record), Body: []byte(`{"trigger":{},"record":` + record + `}`), Sequence: 1,
		}
	}
	return all
}

func failures(results []delivery.Result) (transient, permanent int) {
	for _, r := range results {
		switch {
		case r.Err == nil:
		case fault.IsPermanent(r.Err):
			permanent++
		default:
			transient++
		}
	}
	return transient, permanent
}

func TestTablesAreAsDocumented(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	open(t, path)
	db := raw(t, path)
	for table, want := range map[string]string{
		"events": "source TEXT 1, account TEXT 2, event_id TEXT 3, type TEXT 0, resource TEXT 0, record_id TEXT 0, version TEXT 0, " +
			"origin TEXT 0, deleted INTEGER 0, delivery_id TEXT 0, event_time TEXT 0, received_at TEXT 0, observed_at TEXT 0, " +
			"written_at TEXT 0, sequence INTEGER 0, trace_id TEXT 0, body TEXT 0",
		"records": "source TEXT 1, account TEXT 2, resource TEXT 3, record_id TEXT 4, version TEXT 0, observed_at TEXT 0, " +
			"deleted_at TEXT 0, deleted INTEGER 0, record TEXT 0, related TEXT 0, event_id TEXT 0, written_at TEXT 0",
	} {
		got := ask[string](t, db, `SELECT group_concat(name || ' ' || type || ' ' || pk, ', ') FROM pragma_table_info('`+table+`')`)
		if got != want {
			t.Errorf("table %s\n got %s\nwant %s", table, got, want)
		}
	}
	if got := ask[string](t, db, "PRAGMA journal_mode"); got != "wal" {
		t.Errorf("journal_mode = %s, want wal", got)
	}
	if got := ask[int](t, db, "PRAGMA user_version"); got != 1 {
		t.Errorf("user_version = %d, want 1", got)
	}
}

// Promise 5: a commit is on disk when it returns, which is synchronous=FULL (2).
func TestPromise5CommitsAreSynced(t *testing.T) {
	t.Parallel()
	db := open(t, filepath.Join(t.TempDir(), "db"))
	for name, want := range map[string]int{"synchronous": 2, "busy_timeout": 5000} {
		if got, err := db.Pragma(t.Context(), name); err != nil || got != want {
			t.Errorf("%s = %d, %v, want %d", name, got, err, want)
		}
	}
}

func TestPathsAreTakenLiterally(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"plain.db", "with space.db", "100%41.db", "what?mode=memory", "a#b&c=d;e.db", "ü.db", ":memory:"} {
		path := filepath.Join(t.TempDir(), name)
		db := open(t, path)
		if _, err := os.Stat(path); err != nil {
			t.Errorf("Open(%q) made another file: %v", name, err)
		}
		if a, b := failures(db.Write(t.Context(), items(0, 2))); a+b != 0 {
			t.Errorf("Write to %q failed", name)
		}
	}
}

func TestOpenRefusesWhatItCouldSpoil(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		prepare func(t *testing.T, path string)
		want    string
	}{
		"a newer schema": {func(t *testing.T, path string) { run(t, raw(t, path), "PRAGMA user_version = 99") }, "version 99 is newer"},
		"another program's tables": {
			func(t *testing.T, path string) { run(t, raw(t, path), "CREATE TABLE records(x)") }, "already exists",
		},
		"other columns": {
			func(t *testing.T, path string) {
				run(t, raw(t, path), "CREATE TABLE events(x); CREATE TABLE records(x); PRAGMA user_version = 1")
			},
			"tables are not Tercel's",
		},
		"no database": {
			func(t *testing.T, path string) {
				if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 100)), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			"not a database",
		},
		"no folder": {func(*testing.T, string) {}, "unable to open"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "db")
			if name == "no folder" {
				path = filepath.Join(path, "no", "db")
			}
			tt.prepare(t, path)
			db, err := sqlite.Open(t.Context(), path)
			if err == nil {
				_ = db.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Open() = %v, want %q and the path in it", err, tt.want)
			}
		})
	}
}

// Promise 3: one event that the database refuses takes no neighbour with it,
// whether it says so as a constraint or as a failing statement.
func TestPromise3OneBadEventIsIsolated(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		trigger              string
		transient, permanent int
	}{
		"a constraint":        {`SELECT raise(ABORT, 'no') WHERE NEW.event_id IN ('evt-3', 'evt-7')`, 0, 2},
		"a failing statement": {`SELECT json_extract('{', '$.a') WHERE NEW.event_id = 'evt-3'`, 1, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "db")
			db := open(t, path)
			other := raw(t, path)
			run(t, other, "CREATE TRIGGER picky BEFORE INSERT ON events BEGIN "+tt.trigger+"; END")
			transient, permanent := failures(db.Write(t.Context(), items(0, 10)))
			if transient != tt.transient || permanent != tt.permanent {
				t.Errorf("%d transient and %d permanent failures, want %d and %d", transient, permanent, tt.transient, tt.permanent)
			}
			for _, table := range []string{"events", "records"} { // both or neither of an event's rows
				if got, want := ask[int](t, other, "SELECT count(*) FROM "+table), 10-tt.transient-tt.permanent; got != want {
					t.Errorf("%d %s, want %d", got, table, want)
				}
			}
		})
	}
}

// A file that is not where it was opened takes no more writes: nobody would
// find them (promise 5).
func TestPromise5AMovedFileTakesNoWrites(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]bool{"gone": false, "replaced": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "db")
			db := open(t, path)
			if err := os.Rename(path, path+".moved"); err != nil {
				t.Fatal(err)
			}
			if replace {
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if transient, _ := failures(db.Write(t.Context(), items(0, 3))); transient != 3 {
				t.Errorf("%d transient failures, want 3", transient)
			}
		})
	}
}

func TestWriteEndsWithItsContext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	db := open(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if transient, _ := failures(db.Write(ctx, items(0, 3))); transient != 3 {
		t.Errorf("%d transient failures, want 3", transient)
	}
	if transient, permanent := failures(db.Write(t.Context(), items(0, 3))); transient+permanent != 0 {
		t.Error("the database is unusable afterwards")
	}
}

// One transaction for a batch against one for each event.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{1, 100, 500} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			db := open(b, filepath.Join(b.TempDir(), "db"))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				for _, r := range db.Write(b.Context(), items(n, size)) {
					if r.Err != nil {
						b.Fatal(r.Err)
					}
				}
				n += size
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
