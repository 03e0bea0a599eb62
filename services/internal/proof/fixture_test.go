package proof_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/pgtest"
	"github.com/tercelhq/tercel/services/internal/proof"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

var databases pgtest.Pool

func TestMain(m *testing.M) { databases.Main(m) }

const secret = "a signing secret of the tests"

// tables are those that the sink makes.
const tables = `
CREATE TABLE events(
	source text COLLATE "C" NOT NULL, account text COLLATE "C" NOT NULL, event_id text COLLATE "C" NOT NULL,
	type text NOT NULL, resource text, record_id text, version text COLLATE "C", origin text NOT NULL,
	deleted boolean NOT NULL, delivery_id text, event_time timestamptz, received_at timestamptz,
	observed_at timestamptz, written_at timestamptz NOT NULL, sequence bigint NOT NULL, trace_id text,
	body json NOT NULL,
	PRIMARY KEY (source, account, event_id));
CREATE TABLE records(
	source text COLLATE "C", account text COLLATE "C", resource text COLLATE "C", record_id text COLLATE "C",
	version text COLLATE "C", observed_at timestamptz, observed_nanos smallint, deleted_at timestamptz,
	deleted_nanos smallint, deleted boolean NOT NULL, record json, related json, event_id text COLLATE "C" NOT NULL,
	written_at timestamptz NOT NULL,
	PRIMARY KEY (source, account, resource, record_id));`

// story is what a provider did that all tests share: it is only read.
var story = sync.OnceValues(func() (*simulator.Provider, error) {
	p, err := simulator.New(simulator.Config{
		Seed: 5, Events: 60, Records: 10, Drop: 0.1, Duplicate: 0.1, Reorder: 0.1, Forge: 0.05, Delete: 0.1,
		Secret: config.NewSecret(secret), Token: config.NewSecret("a token of the tests"),
	})
	if err != nil {
		return nil, err
	}
	v, err := signature.Compile(simulator.Scheme())
	if err != nil {
		return nil, err
	}
	key, err := signature.ParseKey(simulator.Scheme(), secret)
	if err != nil {
		return nil, err
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || v.Verify(signature.Request{Header: r.Header, Body: body}, []signature.Key{key}, time.Now()) != nil {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer srv.Close()
	return p, p.Run(context.Background(), srv.URL)
})

// world is one pipeline's far end, which has all that it should have.
type world struct {
	t      *testing.T
	source string
	book   simulator.Book
	newest map[string]simulator.Record
	db     *sql.DB
	far    *proof.Destination
	js     jetstream.JetStream // nil for a pipeline whose streams nobody looks into
	// older is a change whose record has a newer one, live both, and newer that
	// one. Both were brought by webhooks.
	older, newer simulator.Change
	alive, gone  string // records
	buried       uint64 // dead letters
}

// newWorld has all that was delivered, under a source of the test's own.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := delivered(t)
	w.source = pgtest.Name()
	w.open(databases.Server(t).URL(pgtest.Superuser, "shared", ""))
	w.exec(`INSERT INTO events SELECT $1, account, event_id, type, resource, record_id, version, origin, deleted, delivery_id,
		event_time, received_at, observed_at, written_at, sequence, trace_id, body FROM events WHERE source = 'orders'`, w.source)
	w.exec(`INSERT INTO records SELECT $1, account, resource, record_id, version, observed_at, observed_nanos, deleted_at,
		deleted_nanos, deleted, record, related, event_id, written_at FROM records WHERE source = 'orders'`, w.source)
	return w
}

// firstWorld has what was delivered as it was delivered, for a test that only
// reads it.
func firstWorld(t *testing.T) *world {
	t.Helper()
	w := delivered(t)
	w.open(databases.Server(t).URL(pgtest.Superuser, "shared", ""))
	return w
}

// delivered is a world of which everything was delivered, under the source orders.
func delivered(t *testing.T) *world {
	t.Helper()
	p, err := story()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, book: p.Book(), newest: p.Newest(), source: "orders"}
	shared.Do(func() {
		first := &world{t: t, book: w.book, newest: w.newest, source: "orders"}
		first.open(newDatabase(t, "shared"))
		first.exec(tables)
		if err := first.far.Watch(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, c := range w.book.Changes {
			first.deliver(i, c)
		}
	})
	for _, c := range w.book.Changes {
		w.remember(c)
	}
	if w.older.DeliveryID == "" || w.gone == "" || w.alive == "" {
		t.Fatal("the provider's story lacks what the tests need")
	}
	return w
}

var shared sync.Once // makes the database that has everything, of source orders

// withStreams adds the streams, with everything in them.
func (w *world) withStreams() *world {
	w.t.Helper()
	w.js = natstest.Run(w.t)
	if err := topology.Ensure(w.t.Context(), w.js, topology.DefaultConfig()); err != nil {
		w.t.Fatal(err)
	}
	for _, c := range w.book.Changes {
		e := eventOf(c)
		w.publish(e.EnrichedSubject(), e, fmt.Sprintf(`{"trigger":%s}`, trigger(c)))
		e = triggerOf(c)
		w.publish(e.RawSubject(), e, trigger(c))
	}
	return w
}

// remember picks the changes that the tests tamper with.
func (w *world) remember(c simulator.Change) {
	switch {
	case c.Deleted:
		w.gone = c.RecordID
	case w.newest[c.RecordID].Deleted:
	case w.newest[c.RecordID].Version == c.Version && !c.Dropped && c.Version > 1:
		for _, o := range w.book.Changes {
			if o.RecordID == c.RecordID && o.Version == c.Version-1 && !o.Dropped {
				w.older, w.newer, w.alive = o, c, c.RecordID
			}
		}
	}
}

// newDatabase makes a database and returns its connection string.
func newDatabase(t *testing.T, name string) string {
	t.Helper()
	server := databases.Server(t)
	admin, err := sql.Open("pgx", server.URL(pgtest.Superuser, pgtest.Database, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return server.URL(pgtest.Superuser, name, "")
}

// open connects to a database.
func (w *world) open(dsn string) {
	w.t.Helper()
	var err error
	if w.db, err = sql.Open("pgx", dsn); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = w.db.Close() })
	if w.far, err = proof.OpenPostgres(dsn, w.source, "order"); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = w.far.Close() })
}

// exec runs a query, in which MINE chooses the rows of the test's own source.
func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	if _, err := w.db.ExecContext(w.t.Context(), w.mine(query), args...); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

func (w *world) mine(query string) string {
	return strings.ReplaceAll(query, "MINE", "source = '"+w.source+"'")
}

// unseen runs a query whose effects no trigger sees.
func (w *world) unseen(query string, args ...any) {
	w.t.Helper()
	tx, err := w.db.BeginTx(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	_, err = tx.ExecContext(w.t.Context(), `SET LOCAL session_replication_role = replica`)
	if err == nil {
		_, err = tx.ExecContext(w.t.Context(), w.mine(query), args...)
	}
	if err := errors.Join(err, tx.Commit()); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

// eventOf is the event that a change becomes: by its webhook, or by a list.
func eventOf(c simulator.Change) event.Event {
	e := event.Event{
		ID: c.DeliveryID, DeliveryID: c.DeliveryID, Source: "orders", Account: event.NoAccount, Type: "order.updated",
		Origin: event.Webhook, ContentType: "application/json", ReceivedAt: c.At,
		Resource: "order", RecordID: c.RecordID, Version: event.TimeVersion(c.At), ObservedAt: c.At, Deleted: c.Deleted,
	}
	if c.Dropped {
		e.ID, e.DeliveryID, e.Origin = "reconcile:order:"+c.RecordID+":"+string(e.Version), "", event.Reconcile
	}
	if c.Deleted {
		e.Version, e.ObservedAt = "", event.GoneAt(c.At)
	}
	return e
}

// triggerOf is what the ingress stores of a change's webhook.
func triggerOf(c simulator.Change) event.Event {
	e := eventOf(c)
	e.Resource, e.RecordID, e.Version, e.ObservedAt, e.Deleted = "", "", "", time.Time{}, false
	return e
}

// deliver does what a pipeline does with a change.
func (w *world) deliver(i int, c simulator.Change) {
	e := eventOf(c)
	record := []byte(`{"id":"of an older version"}`)
	if r := w.newest[c.RecordID]; r.Version == c.Version && !c.Deleted {
		record = r.JSON
	}
	body := fmt.Sprintf(`{"trigger":%s,"record":%s,"related":{}}`, trigger(c), record)
	w.write(e, body)
	w.record(e, string(record))
	if i%30 == 0 { // a repeat that changes nothing
		w.exec(`UPDATE records SET written_at = now() WHERE MINE AND record_id = $1`, c.RecordID)
	}
}

func trigger(c simulator.Change) string { return fmt.Sprintf(`{"delivery":%q}`, c.DeliveryID) }

func (w *world) write(e event.Event, body string) {
	w.t.Helper()
	w.exec(`INSERT INTO events(source, account, event_id, type, resource, record_id, version, origin, deleted, delivery_id, written_at, sequence, body)
		VALUES ($1, $2, $3, $4, $5, $6, nullif($7, ''), $8, $9, nullif($10, ''), now(), 1, $11)`,
		w.source, e.Account, e.ID, e.Type, e.Resource, e.RecordID, string(e.Version), string(e.Origin), e.Deleted, e.DeliveryID, body)
}

func (w *world) record(e event.Event, record string) {
	w.t.Helper()
	if e.Deleted {
		w.exec(`UPDATE records SET deleted = true, deleted_at = $1, deleted_nanos = 0 WHERE MINE AND record_id = $2`, e.ObservedAt, e.RecordID)
		return
	}
	w.exec(`INSERT INTO records AS r (source, account, resource, record_id, version, observed_at, observed_nanos, record, event_id, deleted, written_at)
		VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, false, now())
		ON CONFLICT (source, account, resource, record_id) DO UPDATE SET version = excluded.version, observed_at = excluded.observed_at,
			record = excluded.record, event_id = excluded.event_id, written_at = excluded.written_at
		WHERE excluded.version > r.version`,
		w.source, e.Account, e.Resource, e.RecordID, string(e.Version), e.ObservedAt, record, e.ID)
}

func (w *world) publish(subject string, e event.Event, body string) {
	w.t.Helper()
	m := nats.NewMsg(subject)
	m.Header, m.Data = e.Header(), []byte(body)
	if _, err := w.js.PublishMsg(w.t.Context(), m, jetstream.WithMsgID(e.MsgID())); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) verdict() proof.Verdict { return w.verdictOf(true) }

func (w *world) verdictOf(healed bool) proof.Verdict {
	w.t.Helper()
	far, err := w.far.Read(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if w.js == nil {
		return proof.Compare(w.book, w.newest, far, healed)
	}
	if far.Streams, err = proof.ReadStreams(w.t.Context(), w.js, w.book); err != nil {
		w.t.Fatal(err)
	}
	return proof.Compare(w.book, w.newest, far, healed)
}
