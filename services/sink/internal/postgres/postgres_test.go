package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/services/internal/pgtest"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
	"github.com/tercelhq/tercel/services/sink/internal/postgres"
)

var databases pgtest.Pool

func TestMain(m *testing.M) { databases.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// schema is a schema of a test's own, as its owner sees it.
type schema struct {
	t    testing.TB
	name string
	conn *pgx.Conn
}

func newSchema(t testing.TB, s *pgtest.Server) *schema {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL(pgtest.Superuser, pgtest.Database, ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	x := &schema{t, pgtest.Name(), conn}
	x.run("CREATE SCHEMA " + x.name)
	x.run("SET search_path = " + x.name)
	return x
}

func (x *schema) run(query string) {
	x.t.Helper()
	if _, err := x.conn.Exec(x.t.Context(), query); err != nil {
		x.t.Fatalf("%s: %v", query, err)
	}
}

func ask[T any](x *schema, query string) (answer T) {
	x.t.Helper()
	if err := x.conn.QueryRow(x.t.Context(), query).Scan(&answer); err != nil {
		x.t.Fatalf("%s: %v", query, err)
	}
	return answer
}

// config is a destination in x, for a user at addr.
func (x *schema) config(s *pgtest.Server, user, addr string) postgres.Config {
	return postgres.Config{
		DSN: s.URL(user, pgtest.Database, addr) + "?search_path=" + x.name, Name: "out", Migrate: true, Records: true,
	}
}

func open(t testing.TB, cfg postgres.Config) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// setup is an open destination in a schema of its own.
func setup(t testing.TB) (*postgres.DB, *schema) {
	t.Helper()
	s := databases.Server(t)
	x := newSchema(t, s)
	return open(t, x.config(s, pgtest.Superuser, "")), x
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

// tombstone makes it the end of its record, seen the given time later.
func tombstone(it delivery.Item, later time.Duration) delivery.Item {
	it.Event.Deleted, it.Event.Version, it.Record = true, "", nil
	it.Event.ObservedAt = it.Event.ObservedAt.Add(later)
	it.Event.ID += "-gone"
	return it
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

func mustWrite(t testing.TB, db *postgres.DB, items []delivery.Item) {
	t.Helper()
	for i, r := range db.Write(t.Context(), items) {
		if r.Err != nil {
			t.Errorf("item %d: %v", i, r.Err)
		}
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := databases.Server(t)
	tests := map[string]struct {
		prepare func(x *schema)
		change  func(x *schema, cfg *postgres.Config)
		want    string
	}{
		"tables of a newer program": {
			prepare: func(x *schema) {
				x.run("CREATE TABLE tercel_schema_version(version int); INSERT INTO tercel_schema_version VALUES (99)")
			},
			want: "version 99 is newer",
		},
		"another program's tables": {prepare: func(x *schema) { x.run("CREATE TABLE records(x int)") }, want: `"records" already exists`},
		"other columns": {
			prepare: func(x *schema) { x.run("CREATE TABLE events(x int); CREATE TABLE records(x int)") },
			change:  func(_ *schema, cfg *postgres.Config) { cfg.Migrate = false },
			want:    "tables are not Tercel's",
		},
		"no tables and no migration": {
			change: func(_ *schema, cfg *postgres.Config) { cfg.Migrate = false },
			want:   "table events is missing; with migrate: true it is made",
		},
		"no schema": {change: func(x *schema, cfg *postgres.Config) {
			cfg.DSN = strings.ReplaceAll(cfg.DSN, x.name, "nowhere")
		}, want: "no schema has been selected"},
		"no database": {change: func(_ *schema, cfg *postgres.Config) {
			cfg.DSN = strings.ReplaceAll(cfg.DSN, "/"+pgtest.Database, "/nowhere")
		}, want: `database "nowhere" does not exist`},
		"read-only": {change: func(_ *schema, cfg *postgres.Config) {
			cfg.DSN += "&default_transaction_read_only=on"
		}, want: "read-only"},
		"another encoding": {
			prepare: func(x *schema) {
				x.run("CREATE DATABASE " + x.name + " ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
			},
			change: func(x *schema, cfg *postgres.Config) {
				cfg.DSN = strings.ReplaceAll(cfg.DSN, "/"+pgtest.Database, "/"+x.name)
			},
			want: "encoding is LATIN1, want UTF8",
		},
		"no string": {change: func(_ *schema, cfg *postgres.Config) { cfg.DSN = "postgres://u:sesame@h:port/" }, want: "dsn: want"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newSchema(t, s)
			cfg := x.config(s, pgtest.Superuser, "")
			if tt.prepare != nil {
				tt.prepare(x)
			}
			if tt.change != nil {
				tt.change(x, &cfg)
			}
			db, err := postgres.Open(t.Context(), cfg, quiet)
			if err == nil {
				_ = db.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open() = %v, want %q in it", err, tt.want)
			}
			if fault.IsPermanent(err) {
				t.Errorf("Open() = %v, which is permanent", err)
			}
		})
	}
}

// Promise 9: neither a connection string nor what the server says of a login
// brings a password into an error.
func TestPromise9PasswordsStayOutOfErrors(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://u:sesame@127.0.0.1:1/db", "postgres://u:sesame@127.0.0.1:x/db", "postgres://u:ses%ame@h/sesame",
		"user=u password=sesame host=127.0.0.1 port=1", "user=u password=sesame host=127.0.0.1 port=x",
		"postgres://u:sesame@127.0.0.1:1/db?sslmode=sesame",
	} {
		_, err := postgres.Open(t.Context(), postgres.Config{DSN: dsn, Name: "out"}, quiet)
		if err == nil || strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "ses%ame") {
			t.Errorf("Open() = %v", err)
		}
		if target, err := postgres.Check(dsn); strings.Contains(target+fmt.Sprint(err), "sesame") {
			t.Errorf("Check() = %s, %v", target, err)
		}
	}
}

func TestSettingsThatLoseCommitsAreWarnedOf(t *testing.T) {
	t.Parallel()
	s := databases.Server(t) // which has fsync off
	x := newSchema(t, s)
	cfg := x.config(s, pgtest.Superuser, "")
	cfg.DSN += "&synchronous_commit=off"
	var log strings.Builder
	db, err := postgres.Open(t.Context(), cfg, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	for setting, want := range map[string]bool{"fsync": true, "synchronous_commit": true, "full_page_writes": false} {
		if got := strings.Contains(log.String(), "setting="+setting); got != want {
			t.Errorf("a warning of %s: %t, want %t", setting, got, want)
		}
	}
}

func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	s := databases.Server(t)
	x := newSchema(t, s)
	for query, want := range map[string]string{
		"": "application_name=tercel out lock_timeout=10s statement_timeout=30s",
		"&lock_timeout=50&statement_timeout=70&application_name=mine":    "application_name=mine lock_timeout=50ms statement_timeout=70ms",
		"&options=-c%20statement_timeout%3D5min%20-c%20lock_timeout%3D0": "application_name=tercel out lock_timeout=0 statement_timeout=5min",
		"&statement_timeout=0":                     "application_name=tercel out lock_timeout=10s statement_timeout=0",
		"&default_query_exec_mode=simple_protocol": "application_name=tercel out lock_timeout=10s statement_timeout=30s",
	} {
		cfg := x.config(s, pgtest.Superuser, "")
		cfg.DSN += query
		got, err := open(t, cfg).Settings(t.Context(), "application_name", "lock_timeout", "statement_timeout")
		if err != nil || got != want {
			t.Errorf("with %q sessions have %s, %v, want %s", query, got, err, want)
		}
	}
}

// What the database says of a user's sessions stays.
func TestTheDatabasesBoundsOfSessionsStay(t *testing.T) {
	t.Parallel()
	s := databases.Server(t)
	x := newSchema(t, s)
	user := pgtest.Name()
	x.run("CREATE ROLE " + user + " LOGIN SUPERUSER")
	x.run("ALTER ROLE " + user + " SET statement_timeout = '7min'")
	got, err := open(t, x.config(s, user, "")).Settings(t.Context(), "lock_timeout", "statement_timeout")
	if want := "lock_timeout=10s statement_timeout=7min"; err != nil || got != want {
		t.Errorf("sessions have %s, %v, want %s", got, err, want)
	}
}

// Several sinks that start at once make the tables once.
func TestSinksStartTogether(t *testing.T) {
	t.Parallel()
	s := databases.Server(t)
	for range 3 {
		x := newSchema(t, s)
		errs := make(chan error)
		const n = 8
		for range n {
			go func() {
				db, err := postgres.Open(context.Background(), x.config(s, pgtest.Superuser, ""), quiet)
				if err == nil {
					err = db.Close()
				}
				errs <- err
			}()
		}
		for range n {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if got := ask[int](x, "SELECT count(*) FROM tercel_schema_version"); got != 1 {
			t.Errorf("%d versions", got)
		}
	}
}

func TestInsertModeKeepsEventsAlone(t *testing.T) {
	t.Parallel()
	s := databases.Server(t)
	x := newSchema(t, s)
	cfg := x.config(s, pgtest.Superuser, "")
	cfg.Records = false
	mustWrite(t, open(t, cfg), items(0, 10))
	if events, records := ask[int](x, "SELECT count(*) FROM events"), ask[int](x, "SELECT count(*) FROM records"); events != 10 || records != 0 {
		t.Errorf("%d events and %d records, want 10 and 0", events, records)
	}
}

// The nanoseconds that a timestamp doesn't hold decide all the same.
func TestPromise7NanosecondsDecide(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]time.Duration{"deleted after": 1, "seen alive after": -1, "at once": 0} {
		for order := range 2 {
			t.Run(fmt.Sprint(name, order), func(t *testing.T) {
				t.Parallel()
				db, x := setup(t)
				live := items(0, 1)[0]
				live.Event.ObservedAt = live.Event.ObservedAt.Add(1234567)
				newer := live
				newer.Event.ID, newer.Record = "evt-newer", []byte(`{"newer":true}`)
				newer.Event.ObservedAt = newer.Event.ObservedAt.Add(2)
				all := []delivery.Item{live, newer, tombstone(newer, later)}
				if order == 1 {
					all[0], all[2] = all[2], all[0]
				}
				for _, it := range all {
					mustWrite(t, db, []delivery.Item{it})
				}
				if got, want := ask[bool](x, "SELECT deleted FROM records"), later > 0; got != want {
					t.Errorf("deleted is %t, want %t", got, want)
				}
				if got := ask[string](x, "SELECT event_id FROM records"); got != "evt-newer" {
					t.Errorf("the record is %s's", got)
				}
			})
		}
	}
}

// What PostgreSQL can't hold is no poison, and readers can use every document.
func TestNULIsNoPoison(t *testing.T) {
	t.Parallel()
	db, x := setup(t)
	it := items(0, 1)[0]
	it.Record = []byte(`{"a":"x\u0000y","b\u0000":"\\u0000","c":"\\\u0000","d":1e400000,"e":1.00}`)
	it.Body = []byte(`{"trigger":"\u0000","record":` + string(it.Record) + `}`)
	ids := []string{"a\x00b", "a␀0b", "a␀b", "a␀␀b", "a\x000b"}
	for _, id := range ids {
		it.Event.ID, it.Event.RecordID, it.Event.Type = id, id, "t\x00"
		mustWrite(t, db, []delivery.Item{it})
	}
	if got := ask[int](x, "SELECT count(*) FROM events") + ask[int](x, "SELECT count(*) FROM records"); got != 2*len(ids) {
		t.Errorf("%d rows, want %d: different ids became one", got, 2*len(ids))
	}
	for query, want := range map[string]string{
		"record->>'a'": "x\ufffdy", "record->>'b\ufffd'": `\u0000`, "record->>'c'": "\\\ufffd", "record->>'d'": "1e400000", "record->>'e'": "1.00",
	} {
		if got := ask[string](x, "SELECT min("+query+") FROM records"); got != want {
			t.Errorf("%s = %q, want %q", query, got, want)
		}
	}
	if got := ask[string](x, "SELECT min(body->>'trigger') FROM events"); got != "\ufffd" {
		t.Errorf("trigger %q", got)
	}
}
