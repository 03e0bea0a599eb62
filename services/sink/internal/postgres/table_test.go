package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/pgtest"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
	"github.com/tercelhq/tercel/services/sink/internal/postgres"
)

const ownTable = `CREATE TABLE "Orders"(order_id text PRIMARY KEY, status varchar(8), total numeric(12,2), paid boolean, tags jsonb,
	customer json, changed timestamptz, note text DEFAULT 'mine', version text, observed_at timestamptz, deleted_at timestamptz)`

// own is a configuration for ownTable, with columns as a pipeline file has them.
func own(t testing.TB) *pipeline.Table {
	t.Helper()
	columns := map[string]pipeline.Column{}
	for name, from := range map[string]string{
		"order_id": "record_id", "status": "record.status", "total": "record.total", "paid": "record.paid", "tags": "record.tags",
		"customer": "related.customer", "changed": "observed_at",
	} {
		c, err := pipeline.ParseColumn(from)
		if err != nil {
			t.Fatal(err)
		}
		columns[name] = c
	}
	return &pipeline.Table{
		Name: "Orders", Key: []string{"order_id"}, Columns: columns, Version: "version", Observed: "observed_at", Deleted: "deleted_at",
	}
}

func openOwn(t testing.TB, change func(x *schema, cfg *postgres.Config)) (*postgres.DB, *schema, error) {
	t.Helper()
	s := databases.Server(t)
	x := newSchema(t, s)
	x.run(ownTable)
	cfg := x.config(s, pgtest.Superuser, "")
	cfg.Table = own(t)
	if change != nil {
		change(x, &cfg)
	}
	db, err := postgres.Open(t.Context(), cfg, quiet)
	if err == nil {
		t.Cleanup(func() { _ = db.Close() })
	}
	return db, x, err
}

// order is an event of order 7 in a version, seen the given seconds later.
func order(version string, later int, record string) delivery.Item {
	it := items(7, 1)[0]
	it.Event.Version = event.Version(version)
	it.Event.ObservedAt = it.Event.ObservedAt.Add(time.Duration(later) * time.Second)
	it.Event.ID = fmt.Sprint(version, later)
	it.Body = []byte(`{"trigger":{},"record":` + record + `,"related":{"customer":{"name":"A\u0000"}}}`)
	return it
}

const state = `SELECT concat_ws('|', order_id, status, total, paid, tags, customer->>'name', note, version,
	coalesce(deleted_at > observed_at, version IS NULL)) FROM "Orders"`

func TestPromise7OwnTablesEndInOneState(t *testing.T) {
	t.Parallel()
	old := order("n0011", 9, `{"status":"new"}`)
	newer := order("n0012", 4, `{"status":"paid\u0000","total":7.50,"paid":true,"tags":["a",1.0]}`)
	stale := order("n0012", 2, `{"status":"stale"}`)
	for name, tt := range map[string]struct {
		events []delivery.Item
		want   string
	}{
		"the newest wins":           {[]delivery.Item{old, newer, stale, newer}, "7|paid\ufffd|7.50|t|[\"a\", 1.0]|A\ufffd|mine|n0012|f"},
		"deleted after it was seen": {[]delivery.Item{old, newer, tombstone(newer, time.Second), tombstone(old, -time.Hour)}, "7|paid\ufffd|7.50|t|[\"a\", 1.0]|A\ufffd|mine|n0012|t"},
		"seen after its deletion":   {[]delivery.Item{tombstone(newer, -time.Second), newer, old}, "7|paid\ufffd|7.50|t|[\"a\", 1.0]|A\ufffd|mine|n0012|f"},
		"only its deletion":         {[]delivery.Item{tombstone(newer, 0)}, "7|mine|t"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, x, err := openOwn(t, nil)
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(1, 7))
			for round := range 6 {
				events := slices.Clone(tt.events)
				rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
				x.run(`DELETE FROM "Orders"`)
				for batch := range slices.Chunk(events, 1+round%2) {
					mustWrite(t, db, batch)
				}
				if got := ask[string](x, state); got != tt.want {
					t.Errorf("%q, want %q", got, tt.want)
				}
			}
		})
	}
}

// An event without a record has no place among records, and is no failure; a
// value that a column can't take is one, of that event alone, and not quoted.
func TestPromise3OwnTablesRefuseOneEvent(t *testing.T) {
	t.Parallel()
	db, x, err := openOwn(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	ping := items(1, 1)[0]
	ping.Event.Resource, ping.Event.RecordID = "", ""
	long := order("n0012", 1, `{"status":"sesame is too long"}`)
	long.Event.RecordID = "long"
	text := order("n0012", 1, `{"total":"sesame"}`)
	text.Event.RecordID = "text"
	results := db.Write(t.Context(), []delivery.Item{ping, long, order("n0012", 1, `{}`), text})
	for i, bad := range []bool{false, true, false, true} {
		if err := results[i].Err; bad != fault.IsPermanent(err) || bad && strings.Contains(err.Error(), "sesame") || !bad && err != nil {
			t.Errorf("item %d: %v", i, err)
		}
	}
	if got := ask[int](x, `SELECT count(*) FROM "Orders"`); got != 1 {
		t.Errorf("%d rows, want 1", got)
	}
}

func TestOwnTablesOfEvents(t *testing.T) {
	t.Parallel()
	db, x, err := openOwn(t, func(x *schema, cfg *postgres.Config) {
		x.run("CREATE TABLE log(id text, source text, at timestamptz, PRIMARY KEY (source, id))")
		cfg.Records = false
		cfg.Table = &pipeline.Table{Name: x.name + ".log", Key: []string{"source", "id"}, Columns: map[string]pipeline.Column{}}
		for name, from := range map[string]string{"id": "id", "source": "source", "at": "received_at"} {
			cfg.Table.Columns[name], _ = pipeline.ParseColumn(from)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	all := append(items(0, 20), tombstone(items(0, 1)[0], 0))
	mustWrite(t, db, all)
	for i, r := range db.Write(t.Context(), all) {
		if r.Err != nil || !r.Duplicate {
			t.Errorf("item %d again: %+v", i, r)
		}
	}
	if got := ask[int](x, "SELECT count(*) FROM log"); got != 21 {
		t.Errorf("%d rows, want 21", got)
	}
}

// byDelivery has the key be of the record and the delivery, which not every event has.
func byDelivery(t *testing.T, cfg *postgres.Config) {
	t.Helper()
	c, err := pipeline.ParseColumn("delivery_id")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Table.Key, cfg.Table.Columns["delivery"] = []string{"order_id", "delivery"}, c
}

// A part of the key that an event may lack is one that repeats are told by too, if the
// index takes NULLs for alike.
func TestPromise4RepeatsWithoutAPartOfTheKey(t *testing.T) {
	t.Parallel()
	db, x, err := openOwn(t, func(x *schema, cfg *postgres.Config) {
		x.run(`ALTER TABLE "Orders" DROP CONSTRAINT "Orders_pkey"; ALTER TABLE "Orders" ADD delivery text, ADD UNIQUE NULLS NOT DISTINCT (order_id, delivery)`)
		byDelivery(t, cfg)
	})
	if err != nil {
		t.Fatal(err)
	}
	it := order("n001", 0, `{"status":"paid"}`)
	it.Event.DeliveryID = ""
	for range 2 {
		if r := db.Write(t.Context(), []delivery.Item{it})[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if got := ask[int](x, `SELECT count(*) FROM "Orders"`); got != 1 {
		t.Errorf("%d rows, want 1", got)
	}
}

func TestOpenComparesOwnTables(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(x *schema, cfg *postgres.Config)
		want   string
	}{
		"no table":       {func(_ *schema, cfg *postgres.Config) { cfg.Table.Name = "orders" }, "table orders: it is missing"},
		"no column":      {func(x *schema, _ *postgres.Config) { x.run(`ALTER TABLE "Orders" DROP paid`) }, `column paid is ""`},
		"version's type": {func(x *schema, _ *postgres.Config) { x.run(`ALTER TABLE "Orders" ALTER version TYPE int USING 1`) }, `column version is "integer", want text`},
		"no time": {func(x *schema, _ *postgres.Config) {
			x.run(`ALTER TABLE "Orders" ALTER deleted_at TYPE date`)
		}, `column deleted_at is "date", want timestamp with time zone`},
		"needed": {func(x *schema, _ *postgres.Config) { x.run(`ALTER TABLE "Orders" ALTER status SET NOT NULL`) }, "status is NOT NULL without a default"},
		"no unique index": {func(x *schema, _ *postgres.Config) {
			x.run(`ALTER TABLE "Orders" DROP CONSTRAINT "Orders_pkey"; ALTER TABLE "Orders" ALTER order_id DROP NOT NULL`)
		}, "no unique or exclusion constraint"},
		"a key that may be NULL": {func(x *schema, cfg *postgres.Config) {
			x.run(`ALTER TABLE "Orders" DROP CONSTRAINT "Orders_pkey"; ALTER TABLE "Orders" ALTER order_id DROP NOT NULL, ADD delivery text, ADD UNIQUE (order_id, delivery)`)
			byDelivery(t, cfg)
		}, "column delivery of the key is NULL"},
		"no privilege": {func(x *schema, cfg *postgres.Config) {
			x.run("CREATE ROLE " + x.name + "r LOGIN; GRANT USAGE ON SCHEMA " + x.name + " TO " + x.name + "r")
			x.run(`GRANT SELECT, INSERT ON "Orders" TO ` + x.name + "r")
			cfg.DSN = strings.Replace(cfg.DSN, pgtest.Superuser, x.name+"r", 1)
		}, "privileges are missing: UPDATE ON Orders"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := openOwn(t, tt.change); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open() = %v, want %q in it", err, tt.want)
			}
		})
	}
}
