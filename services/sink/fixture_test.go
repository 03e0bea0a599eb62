package sink_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/sink"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
	"github.com/tercelhq/tercel/services/sink/internal/ndjson"
	"github.com/tercelhq/tercel/services/sink/internal/sqlite"
)

// writer is an open destination, as the service uses it.
type writer interface {
	Write(ctx context.Context, items []delivery.Item) []delivery.Result
	Close() error
}

// kind is one kind of destination, with what the conformance suite needs to
// look at it from outside.
type kind struct {
	// config is the destination below folder dir, as a pipeline file has it.
	config func(dir string) pipeline.Destination
	open   func(ctx context.Context, dir string) (writer, error)
	// rows are all events in the destination, in the order of their writing.
	rows func(t *testing.T, dir string) []row
	// breakIt makes an open destination refuse all writes until heal is called.
	breakIt func(t *testing.T, dir string) (heal func())
}

// row is an event as destinations store it. Absent texts are "".
type row struct {
	EventID    string         `json:"event_id"`
	Source     string         `json:"source"`
	Account    string         `json:"account"`
	Type       string         `json:"type"`
	Resource   string         `json:"resource"`
	RecordID   string         `json:"record_id"`
	Version    string         `json:"version"`
	Origin     string         `json:"origin"`
	Deleted    bool           `json:"deleted"`
	EventTime  string         `json:"event_time"`
	ReceivedAt string         `json:"received_at"`
	ObservedAt string         `json:"observed_at"`
	WrittenAt  string         `json:"written_at"`
	Sequence   uint64         `json:"sequence"`
	Trigger    jsontext.Value `json:"trigger"`
	Record     jsontext.Value `json:"record"`
	Related    jsontext.Value `json:"related"`
}

// maxSize makes every test rotate files.
const maxSize = 16 << 10

var kinds = map[string]kind{
	"sqlite": {
		config: func(dir string) pipeline.Destination {
			return pipeline.Destination{SQLite: &pipeline.SQLite{Path: filepath.Join(dir, "db")}, Subscribe: []string{">"}}
		},
		open: func(ctx context.Context, dir string) (writer, error) {
			return sqlite.Open(ctx, filepath.Join(dir, "db"))
		},
		rows:    databaseRows,
		breakIt: lockDatabase,
	},
	"files": {
		config: func(dir string) pipeline.Destination {
			return pipeline.Destination{
				Files:     &pipeline.Files{Dir: filepath.Join(dir, "files"), MaxSize: config.Bytes(maxSize)},
				Subscribe: []string{">"},
			}
		},
		open: func(ctx context.Context, dir string) (writer, error) {
			return ndjson.Open(ctx, ndjson.Config{Dir: filepath.Join(dir, "files"), MaxSize: maxSize})
		},
		rows:    fileRows,
		breakIt: replaceFolder,
	},
}

// database opens the file as any program would. The driver is registered by
// the destination itself.
func database(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func databaseRows(t *testing.T, dir string) []row {
	t.Helper()
	result, err := database(t, dir).QueryContext(t.Context(), `SELECT event_id, source, account, type, coalesce(resource, ''),
		coalesce(record_id, ''), coalesce(version, ''), origin, deleted, coalesce(event_time, ''), coalesce(received_at, ''),
		coalesce(observed_at, ''), written_at, sequence, body FROM events ORDER BY rowid`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = result.Close() }()
	var rows []row
	for result.Next() {
		var r row
		var body string
		var parts struct {
			Trigger jsontext.Value `json:"trigger"`
			Record  jsontext.Value `json:"record"`
			Related jsontext.Value `json:"related"`
		}
		if err := result.Scan(&r.EventID, &r.Source, &r.Account, &r.Type, &r.Resource, &r.RecordID, &r.Version, &r.Origin, &r.Deleted,
			&r.EventTime, &r.ReceivedAt, &r.ObservedAt, &r.WrittenAt, &r.Sequence, &body); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(body), &parts); err != nil {
			t.Fatalf("body of %s: %v", r.EventID, err)
		}
		r.Trigger, r.Record, r.Related = parts.Trigger, parts.Record, parts.Related
		rows = append(rows, r)
	}
	if err := result.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

func fileRows(t *testing.T, dir string) []row {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "files", "events-*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for _, name := range names { // Glob sorts
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(bytes.NewReader(data))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var r row
			if err := json.Unmarshal(lines.Bytes(), &r, json.RejectUnknownMembers(true)); err != nil {
				t.Fatalf("%s: line %q: %v", name, lines.Bytes(), err)
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// lockDatabase holds the write lock, as another program could.
func lockDatabase(t *testing.T, dir string) (heal func()) {
	t.Helper()
	conn, err := database(t, dir).Conn(t.Context())
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

// replaceFolder puts a file where the folder belongs, which stops root too.
func replaceFolder(t *testing.T, dir string) (heal func()) {
	t.Helper()
	folder := filepath.Join(dir, "files")
	move := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(folder, folder+".away")
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		move(folder, folder+".file")
		move(folder+".away", folder)
	}
}

// enriched is an event with its body, as the enricher publishes it.
type enriched struct {
	event.Event
	event.Body
}

// at is a moment n seconds after an arbitrary start.
func at(n int) time.Time { return time.Date(2026, 3, 1, 12, 0, n, 0, time.UTC) }

// update is an event of order id in the given version, observed at second n.
func update(eventID, id string, version, n int) enriched {
	return enriched{event.Event{
		ID: eventID, Source: "orders", Account: "north", Type: "order.updated", Origin: event.Webhook,
		ContentType: "application/json", Time: at(n - 1), ReceivedAt: at(n), Resource: "order", RecordID: id,
		Version: event.TimeVersion(at(version)), ObservedAt: at(n), TriggerSequence: 1,
	}, event.Body{
		Trigger: jsontext.Value(fmt.Sprintf(`{"order": %q}`, id)),
		Record:  jsontext.Value(fmt.Sprintf(`{"id":%q,"version":%d,"observed":%d}`, id, version, n)),
		Related: map[string]jsontext.Value{"customer": jsontext.Value(`{"name":"Ada"}`)},
	}}
}

// tombstone is an event that says that order id was gone at second n.
func tombstone(eventID, id string, n int) enriched {
	e := update(eventID, id, 0, n)
	e.Event.Version, e.Event.Deleted, e.Body.Deleted, e.Record, e.Related = "", true, true, nil, nil
	return e
}

func (e enriched) message() *nats.Msg {
	return &nats.Msg{Subject: e.EnrichedSubject(), Header: e.Header(), Data: e.Encode()}
}

// items are events as the stage loop and the decoder hand them to a writer.
func items(events ...enriched) []delivery.Item {
	all := make([]delivery.Item, len(events))
	for i, e := range events {
		m := e.message()
		var err error
		all[i], err = delivery.Decode(consume.Message{Header: m.Header, Data: m.Data, Sequence: uint64(i + 1)})
		if err != nil {
			panic(err) // a mistake in a test
		}
	}
	return all
}

// stream is a server with Tercel's streams.
func stream(t *testing.T) (*natstest.Server, jetstream.JetStream) {
	t.Helper()
	server := natstest.Start(t, false)
	js, err := jetstream.New(server.Connect())
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	return server, js
}

// publish stores events; msgID makes their message ids, or is nil for the
// usual ones.
func publish(t *testing.T, js jetstream.JetStream, msgID func(enriched) string, events ...enriched) {
	t.Helper()
	for _, e := range events {
		id := e.MsgID()
		if msgID != nil {
			id = msgID(e)
		}
		if _, err := js.PublishMsg(t.Context(), e.message(), jetstream.WithMsgID(id)); err != nil {
			t.Fatal(err)
		}
	}
}

// quick is a configuration whose waits fit into a test.
func quick() consume.Config {
	cfg := consume.DefaultConfig()
	cfg.Workers, cfg.Batch, cfg.AckWait = 1, 100, time.Second
	cfg.RetryMin, cfg.RetryMax, cfg.MaxAttempts = 20*time.Millisecond, 200*time.Millisecond, 4
	return cfg
}

// running is a service that runs until stop is called or the test ends.
type running struct {
	*sink.Service
	stop func()
}

func start(t *testing.T, js jetstream.JetStream, cfg consume.Config, destinations map[string]pipeline.Destination) running {
	t.Helper()
	svc, err := sink.New(sink.Config{Config: cfg, Destinations: destinations},
		sink.Deps{JetStream: js, Log: slog.New(slog.NewTextHandler(testLog{t}, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	stopped := false
	r := running{svc, func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run() = %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run() didn't end within 30s")
		}
	}}
	t.Cleanup(r.stop)
	return r
}

// quiet is the log of tests that expect none.
var quiet = slog.New(slog.DiscardHandler)

// testLog shows the service's log when a test fails.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 30s: %s", what)
		}
	}
}

// settled waits until the destination's consumer has an answer to every
// message of the stream, the last of which must be for it.
func settled(t *testing.T, js jetstream.JetStream, destination string) {
	t.Helper()
	s, err := js.Stream(t.Context(), topology.StreamEnriched)
	if err != nil {
		t.Fatal(err)
	}
	last := s.CachedInfo().State.LastSeq
	eventually(t, "every message is settled", func() bool {
		c, err := js.Consumer(t.Context(), topology.StreamEnriched, topology.DeliverDurable(destination))
		return err == nil && c.CachedInfo().AckFloor.Stream >= last
	})
}
