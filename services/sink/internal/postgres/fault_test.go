package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/services/internal/pgtest"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
	"github.com/tercelhq/tercel/services/sink/internal/postgres"
)

// trigger makes table events run a body of PL/pgSQL before each insert.
func (x *schema) trigger(body string) {
	x.run(`CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN ` + body + ` RETURN NEW; END$$`)
	x.run(`CREATE TRIGGER picky BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION picky()`)
}

// Promise 3: what the server refuses of one event takes no neighbour with it,
// and only what it would refuse again is permanent.
func TestPromise3OneBadEventIsIsolated(t *testing.T) {
	t.Parallel()
	refuses := func(statement string) func(x *schema) {
		return func(x *schema) {
			x.trigger(`IF NEW.event_id IN ('evt-3', 'evt-7') THEN ` + statement + `; END IF;`)
		}
	}
	tests := map[string]struct {
		prepare              func(x *schema)
		transient, permanent int
		want                 string
	}{
		"a check": {func(x *schema) {
			x.run("ALTER TABLE events ADD CONSTRAINT c CHECK (event_id NOT IN ('evt-3', 'evt-7'))")
		}, 0, 2, `violates check constraint "c"`},
		"a unique index": {func(x *schema) {
			x.run("CREATE UNIQUE INDEX u ON events ((event_id IN ('evt-3', 'evt-7'))) WHERE event_id IN ('evt-3', 'evt-7')")
		}, 0, 1, `unique constraint "u"`},
		"a foreign key": {func(x *schema) {
			x.run("CREATE TABLE known(id text PRIMARY KEY); INSERT INTO known SELECT i::text FROM generate_series(0, 19) i WHERE i NOT IN (3, 7)")
			x.run("ALTER TABLE records ADD FOREIGN KEY (record_id) REFERENCES known")
		}, 0, 2, "foreign key"},
		"a foreign key that is looked at when all is done": {func(x *schema) {
			x.run("CREATE TABLE known(id text PRIMARY KEY); INSERT INTO known SELECT i::text FROM generate_series(0, 19) i WHERE i NOT IN (3, 7)")
			x.run("ALTER TABLE records ADD FOREIGN KEY (record_id) REFERENCES known DEFERRABLE INITIALLY DEFERRED")
		}, 0, 2, "foreign key"},
		"an exception":     {refuses("RAISE EXCEPTION 'not this one'"), 0, 2, "not this one (SQLSTATE P0001)"},
		"a value":          {refuses("PERFORM 'sesame'::int"), 0, 2, "a value is not what the column takes (SQLSTATE 22P02)"},
		"a fault of its":   {refuses("RAISE EXCEPTION USING ERRCODE = 'XX000'"), 2, 0, "XX000"},
		"a subquery":       {refuses("PERFORM (SELECT generate_series(1, 2))"), 2, 0, "21000"},
		"an index's limit": {refuses("NEW.type := (SELECT string_agg(gen_random_uuid()::text, '') FROM generate_series(1, 400))"), 0, 2, "54000"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, x := setup(t)
			if strings.HasPrefix(tt.want, "54") {
				x.run("CREATE INDEX ON events(type)")
			}
			tt.prepare(x)
			results := db.Write(t.Context(), items(0, 20))
			if transient, permanent := failures(results); transient != tt.transient || permanent != tt.permanent {
				t.Errorf("%d transient and %d permanent failures, want %d and %d", transient, permanent, tt.transient, tt.permanent)
			}
			for i, r := range results {
				if r.Err != nil && (i != 3 && i != 7 || !strings.Contains(r.Err.Error(), tt.want) || strings.Contains(r.Err.Error(), "sesame")) {
					t.Errorf("item %d: %v, want %q", i, r.Err, tt.want)
				}
			}
			for _, table := range []string{"events", "records"} { // both or neither of an event's rows
				if got, want := ask[int](x, "SELECT count(*) FROM "+table), 20-tt.transient-tt.permanent; got != want {
					t.Errorf("%d %s, want %d", got, table, want)
				}
			}
		})
	}
}

// What has nothing to do with the items fails all of them, for now, and the
// server isn't asked again and again.
func TestWhatIsOutsideIsTransient(t *testing.T) {
	t.Parallel()
	for _, condition := range []string{
		"disk_full", "out_of_memory", "too_many_connections", "serialization_failure", "deadlock_detected", "read_only_sql_transaction",
		"admin_shutdown", "crash_shutdown", "cannot_connect_now", "query_canceled", "lock_not_available", "io_error",
		"insufficient_privilege", "undefined_table", "undefined_column", "invalid_password",
	} {
		t.Run(condition, func(t *testing.T) {
			t.Parallel()
			db, x := setup(t)
			x.run("CREATE SEQUENCE asked")
			x.trigger("PERFORM nextval('asked'); IF NEW.event_id = 'evt-7' THEN RAISE EXCEPTION USING ERRCODE = '" + condition + "'; END IF;")
			if transient, permanent := failures(db.Write(t.Context(), items(0, 20))); transient != 20 || permanent != 0 {
				t.Errorf("%d transient and %d permanent failures, want 20 and 0", transient, permanent)
			}
			if got := ask[int](x, "SELECT last_value FROM asked"); got > 20 {
				t.Errorf("the server was asked for %d rows, want no more than were there", got)
			}
			x.run("DROP TRIGGER picky ON events")
			mustWrite(t, db, items(0, 20))
		})
	}
}

// What comes from outside while a batch is taken apart ends that at once.
func TestNothingIsTriedWhenTheServerIsFull(t *testing.T) {
	t.Parallel()
	db, x := setup(t)
	x.run("CREATE SEQUENCE tried")
	x.trigger(`IF NEW.event_id = 'evt-0' THEN
		IF nextval('tried') = 1 THEN RAISE EXCEPTION 'not this one'; ELSE RAISE EXCEPTION USING ERRCODE = 'disk_full'; END IF; END IF;`)
	if transient, permanent := failures(db.Write(t.Context(), items(0, 20))); transient != 20 || permanent != 0 {
		t.Errorf("%d transient and %d permanent failures, want 20 and 0", transient, permanent)
	}
	if got := ask[int](x, "SELECT count(*) FROM events"); got != 0 {
		t.Errorf("%d events are there, of those that were not to be tried", got)
	}
}

// A batch that is all poison ends too, each with its own error.
func TestPromise3ABatchOfPoison(t *testing.T) {
	t.Parallel()
	db, x := setup(t)
	x.trigger("IF NEW.event_id <> 'evt-250' THEN RAISE EXCEPTION '% refused', NEW.event_id; END IF;")
	for i, r := range db.Write(t.Context(), items(0, 500)) {
		if i == 250 && r.Err != nil || i != 250 && (!fault.IsPermanent(r.Err) || !strings.Contains(r.Err.Error(), fmt.Sprintf("evt-%d refused", i))) {
			t.Fatalf("item %d: %v", i, r.Err)
		}
	}
}

func TestALockIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	s := databases.Server(t)
	x := newSchema(t, s)
	cfg := x.config(s, pgtest.Superuser, "")
	cfg.DSN += "&lock_timeout=100"
	db := open(t, cfg)
	x.run("BEGIN; LOCK TABLE events")
	if transient, _ := failures(db.Write(t.Context(), items(0, 3))); transient != 3 {
		t.Errorf("%d transient failures, want 3", transient)
	}
	x.run("ROLLBACK")
	mustWrite(t, db, items(0, 3))
}

// Promise 5: connections that end anywhere on the way, before and after the
// commit, lose nothing that was acknowledged and write nothing twice.
func TestPromise5CutConnections(t *testing.T) {
	t.Parallel()
	s := databases.Server(t)
	x, link := newSchema(t, s), s.Linked(t)
	db := open(t, x.config(s, pgtest.Superuser, link.Addr()))
	rng := rand.New(rand.NewPCG(1, 1))
	all := items(0, 400)
	cuts, repeated := 0, 0
	for batch := range slices.Chunk(all, 10) {
		if rng.IntN(3) == 0 {
			link.ResetAtAnswer()
		} else {
			link.ResetAfter(rng.IntN(40_000)) // a batch has some 25 KB
		}
		for attempt := 0; ; attempt++ {
			results := db.Write(t.Context(), batch)
			transient, permanent := failures(results)
			if permanent > 0 || transient > 0 && transient < len(batch) {
				t.Fatalf("%d transient and %d permanent failures of %d: %v", transient, permanent, len(batch), results[0].Err)
			}
			if transient == 0 {
				if results[0].Duplicate {
					repeated++
				}
				break
			}
			if cuts++; attempt > 100 {
				t.Fatal("it never recovers: ", results[0].Err)
			}
		}
	}
	if cuts < 10 || repeated < 3 {
		t.Errorf("%d cuts, %d of them after the commit: too few to tell", cuts, repeated)
	}
	checkThere(x, 400)
}

// checkThere checks that events 0 to n-1 and their records are there.
func checkThere(x *schema, n int) {
	x.t.Helper()
	for _, column := range []string{"events WHERE event_id LIKE 'evt-%'", "records WHERE record_id = substr(event_id, 5)"} {
		if got := ask[int](x, "SELECT count(*) FROM "+column); got != n {
			x.t.Errorf("%d %s, want %d", got, column, n)
		}
	}
}

// Promise 5: a server that crashes again and again in the middle of commits
// has all that was acknowledged, and takes the rest when it is back.
func TestPromise5TheServerCrashes(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	x := newSchema(t, s)
	db := open(t, x.config(s, pgtest.Superuser, ""))
	next := 0
	for range 3 {
		failed := make(chan error, 1)
		enough := make(chan struct{})
		go func() {
			for begun := next; ; next += 10 {
				if next == begun+200 {
					close(enough)
				}
				if r := db.Write(context.WithoutCancel(t.Context()), items(next, 10)); r[0].Err != nil {
					failed <- r[0].Err
					return
				}
			}
		}()
		<-enough
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; fault.IsPermanent(err) {
			t.Errorf("a crash is permanent: %v", err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.Connect(t.Context(), s.URL(pgtest.Superuser, pgtest.Database, "")+"?search_path="+x.name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		x.conn = conn
		if got := ask[int](x, "SELECT count(*) FROM events"); got < next || got > next+10 {
			t.Errorf("%d events are there, want the %d that were acknowledged and at most one batch more", got, next)
		}
		_ = db.Close()
		db = open(t, x.config(s, pgtest.Superuser, "")) // as the service does
	}
	mustWrite(t, db, items(0, next+10))
	checkThere(x, next+10)
}

// An operator who ends sessions costs an attempt, no more.
func TestSessionsThatEndAreReplaced(t *testing.T) {
	t.Parallel()
	s := databases.Server(t)
	x := newSchema(t, s)
	cfg := x.config(s, pgtest.Superuser, "")
	cfg.Name = x.name
	db := open(t, cfg)
	for range 5 {
		mustWrite(t, db, items(0, 3))
		if n := ask[int](x, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'tercel "+x.name+"'"); n == 0 {
			t.Error("there was no session to end")
		}
		if transient, permanent := failures(db.Write(t.Context(), items(0, 3))); permanent > 0 || transient != 0 && transient != 3 {
			t.Errorf("%d transient and %d permanent failures", transient, permanent)
		}
	}
}

// Sinks that write the same events and records in any order don't wait for
// each other in a circle.
func TestSinksDontDeadlock(t *testing.T) {
	t.Parallel()
	db, x := setup(t)
	all := items(0, 60)
	var sinks sync.WaitGroup
	for n := range uint64(4) {
		sinks.Go(func() {
			rng := rand.New(rand.NewPCG(n, 2))
			for round := range 25 {
				batch := slices.Clone(all)
				for i := range batch {
					if round%2 == 0 { // new events of the same records
						batch[i].Event.ID = fmt.Sprint(n, "-", round, "-", i)
					}
				}
				rng.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
				for i, r := range db.Write(t.Context(), batch) {
					if r.Err != nil {
						t.Errorf("round %d, item %d: %v", round, i, r.Err)
						return
					}
				}
			}
		})
	}
	sinks.Wait()
	if got := ask[int](x, "SELECT count(*) FROM records"); got != 60 {
		t.Errorf("%d records, want 60", got)
	}
}

func TestWriteEndsWithItsContext(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if transient, _ := failures(db.Write(ctx, items(0, 3))); transient != 3 {
		t.Errorf("%d transient failures, want 3", transient)
	}
	mustWrite(t, db, items(0, 3))
}

// The documentation's statements give a user all that writing needs, and each
// is needed: without it, the sink says so when it opens.
func TestDocumentedPrivilegesSuffice(t *testing.T) {
	t.Parallel()
	s := databases.Server(t)
	text, err := os.ReadFile("../../../../docs/destinations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "<!-- privileges -->\n```sql\n")
	block, _, found := strings.Cut(block, "```")
	if !found {
		t.Fatal("docs/destinations.md has no statements")
	}
	x := newSchema(t, s)
	open(t, x.config(s, pgtest.Superuser, ""))
	user := pgtest.Name()
	x.run("CREATE ROLE " + user + " LOGIN")
	cfg := x.config(s, user, "")
	statements := strings.Split(strings.NewReplacer("tercel_sink", user, "SCHEMA tercel", "SCHEMA "+x.name).Replace(strings.TrimSpace(block)), "\n")
	for _, grant := range statements {
		x.run(grant)
	}
	for _, cfg.Migrate = range []bool{false, true} { // where the tables are made, nothing is left to migrate
		db := open(t, cfg)
		for range 2 {
			mustWrite(t, db, []delivery.Item{items(0, 1)[0], tombstone(items(0, 1)[0], 1), items(1, 1)[0]})
		}
	}
	for _, grant := range statements {
		x.run(strings.NewReplacer("GRANT", "REVOKE", " TO ", " FROM ").Replace(grant))
		if db, err := postgres.Open(t.Context(), cfg, quiet); err == nil {
			_ = db.Close()
			t.Errorf("it opens without %q", grant)
		}
		x.run(grant)
	}
}
