package sink_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/sink"
)

// Every kind of destination passes this suite inside the whole service, with a
// real server.
func TestServiceDeliversToEveryKind(t *testing.T) {
	t.Parallel()
	suite := map[string]func(t *testing.T, k kind){
		"promise 3: each event has one outcome":              deliversOnce,
		"promise 4: redelivered and republished events":      absorbsRepeats,
		"promise 4: written, but not acknowledged":           survivesCrashBeforeAck,
		"promise 5: nothing is acknowledged while it's down": waitsForDestination,
		"promise 5: a restart in the middle of a batch":      restartsMidBatch,
		"promise 3: poison doesn't hold up its neighbours":   isolatesPoison,
	}
	for name, k := range kinds {
		for what, test := range suite {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				test(t, k)
			})
		}
	}
}

func one(k kind, dir string) map[string]pipeline.Destination {
	return map[string]pipeline.Destination{"out": k.config(dir)}
}

// checkRows checks that exactly the events numbered 0 to n-1 are there.
func checkRows(t *testing.T, rows []row, n int) {
	t.Helper()
	seen := map[string]int{}
	for _, r := range rows {
		seen[r.EventID]++
	}
	for i := range n {
		if got := seen[fmt.Sprint("evt-", i)]; got != 1 {
			t.Errorf("event %d is there %d times", i, got)
		}
	}
	if len(rows) != n {
		t.Errorf("%d rows, want %d", len(rows), n)
	}
}

func deliversOnce(t *testing.T, k kind) {
	_, js := stream(t)
	dir := t.TempDir()
	dest := k.config(dir)
	dest.Subscribe = []string{"orders.>"}
	svc := start(t, js, quick(), map[string]pipeline.Destination{"out": dest})
	other := update("other", "1", 1, 1)
	other.Source = "refunds"
	publish(t, js, nil, append([]enriched{other}, numbered(0, 300)...)...)
	settled(t, js, "out")
	checkRows(t, k.rows(t, dir), 300)
	if err := svc.Healthy(t.Context()); err != nil {
		t.Errorf("Healthy() = %v", err)
	}
	svc.stop()
	if err := svc.Healthy(t.Context()); err == nil {
		t.Error("Healthy() = nil after the end")
	}
}

func absorbsRepeats(t *testing.T, k kind) {
	_, js := stream(t)
	dir := t.TempDir()
	events := numbered(0, 60)
	publish(t, js, nil, events...)
	publish(t, js, func(e enriched) string { return event.AgainID(e.MsgID(), event.Replay) }, events...)
	start(t, js, quick(), one(k, dir))
	settled(t, js, "out")
	checkRows(t, k.rows(t, dir), 60)
	// All over again, as after the loss of the consumer's state.
	if err := js.DeleteConsumer(t.Context(), topology.StreamEnriched, topology.DeliverDurable("out")); err != nil {
		t.Fatal(err)
	}
	settled(t, js, "out")
	checkRows(t, k.rows(t, dir), 60)
}

// The test is the process that dies: it takes messages, writes them, and never
// acknowledges them.
func survivesCrashBeforeAck(t *testing.T, k kind) {
	_, js := stream(t)
	dir := t.TempDir()
	events := numbered(0, 50)
	publish(t, js, nil, events...)
	cfg := quick()
	consumer, err := js.CreateOrUpdateConsumer(t.Context(), topology.StreamEnriched,
		topology.DeliverConsumer("out", []string{"tercel.enriched.>"}, cfg.Delivery()))
	if err != nil {
		t.Fatal(err)
	}
	fetched, err := consumer.Fetch(30)
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for range fetched.Messages() {
		taken++
	}
	w := open(t, k, dir)
	write(t, w, items(events[:taken]...), 0)
	if err := w.Close(); err != nil || taken != 30 {
		t.Fatalf("took %d messages, Close() = %v", taken, err)
	}
	start(t, js, cfg, one(k, dir))
	settled(t, js, "out")
	checkRows(t, k.rows(t, dir), 50)
}

func waitsForDestination(t *testing.T, k kind) {
	_, js := stream(t)
	dir := t.TempDir()
	svc := start(t, js, quick(), one(k, dir))
	publish(t, js, nil, numbered(0, 10)...)
	settled(t, js, "out")
	heal := k.breakIt(t, dir)
	publish(t, js, nil, numbered(10, 400)...)
	eventually(t, "the service says that it is unwell", func() bool { return svc.Healthy(t.Context()) != nil })
	c, err := js.Consumer(t.Context(), topology.StreamEnriched, topology.DeliverDurable("out"))
	if err != nil {
		t.Fatal(err)
	}
	if floor := c.CachedInfo().AckFloor.Stream; floor != 10 {
		t.Errorf("messages up to %d are acknowledged, want 10", floor)
	}
	// The outage lasts longer than all attempts of one message would.
	outage := time.NewTimer(2 * time.Second)
	defer outage.Stop()
	<-outage.C
	heal()
	settled(t, js, "out")
	checkRows(t, k.rows(t, dir), 400)
	if err := svc.Healthy(t.Context()); err != nil {
		t.Errorf("Healthy() = %v after the outage", err)
	}
}

func restartsMidBatch(t *testing.T, k kind) {
	_, js := stream(t)
	dir := t.TempDir()
	const n = 600
	if err := open(t, k, dir).Close(); err != nil {
		t.Fatal(err)
	}
	publish(t, js, nil, numbered(0, n)...)
	cfg := quick()
	cfg.Batch = 7
	rng := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		before := len(k.rows(t, dir))
		svc := start(t, js, cfg, one(k, dir))
		eventually(t, "some more are written", func() bool {
			return len(k.rows(t, dir)) >= min(before+rng.IntN(60), n)
		})
		svc.stop() // finishes what it took
	}
	start(t, js, cfg, one(k, dir))
	settled(t, js, "out")
	checkRows(t, k.rows(t, dir), n)
}

// Stopping finishes the batch in hand, which here waits for a lock.
func TestPromise5StoppingFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	_, js := stream(t)
	dir := t.TempDir()
	k := kinds["sqlite"]
	svc := start(t, js, quick(), one(k, dir))
	publish(t, js, nil, numbered(0, 1)...)
	settled(t, js, "out")
	heal := k.breakIt(t, dir)
	publish(t, js, nil, numbered(1, 6)...)
	info := func() *jetstream.ConsumerInfo {
		c, err := js.Consumer(t.Context(), topology.StreamEnriched, topology.DeliverDurable("out"))
		if err != nil {
			t.Fatal(err)
		}
		return c.CachedInfo()
	}
	eventually(t, "five are in hand", func() bool { return info().NumAckPending == 5 })
	ended := make(chan struct{})
	go func() { svc.stop(); close(ended) }()
	heal()
	<-ended
	checkRows(t, k.rows(t, dir), 6)
	eventually(t, "all are acknowledged", func() bool { return info().AckFloor.Stream == 6 })
}

func isolatesPoison(t *testing.T, k kind) {
	_, js := stream(t)
	dir := t.TempDir()
	poison := map[string]func(m *nats.Msg){
		"no attributes":         func(m *nats.Msg) { m.Header = nats.Header{} },
		"a body that isn't one": func(m *nats.Msg) { m.Data = []byte(`{"trigger":`) },
		"a member twice":        func(m *nats.Msg) { m.Data = []byte(`{"trigger":1,"record":{},"record":{}}`) },
		"no trigger":            func(m *nats.Msg) { m.Data = []byte(`{}`) },
		"no record":             func(m *nats.Msg) { m.Data = []byte(`{"trigger":null,"record":null}`) },
		"no record id":          func(m *nats.Msg) { m.Header.Del(event.HeaderSubject) },
		"no time of observation": func(m *nats.Msg) {
			m.Header.Del(event.HeaderObservedAt)
		},
		"not UTF-8": func(m *nats.Msg) { m.Data = []byte("{\"trigger\":\"\xff\",\"record\":{}}") },
	}
	publish(t, js, nil, numbered(0, 20)...)
	for name, spoil := range poison {
		m := update("poison", name, 1, 1).message()
		spoil(m)
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, js, nil, numbered(20, 40)...)
	start(t, js, quick(), one(k, dir))
	settled(t, js, "out")
	checkRows(t, k.rows(t, dir), 40)
	for range poison {
		reason := terminated(t, js)
		if reason.Class != fault.Fatal || reason.Attempts != 1 || !strings.Contains(reason.Message, "TERCEL_ENRICHED") {
			t.Errorf("terminated for %+v", reason)
		}
	}
}

// terminated takes the next advisory of a terminated message.
func terminated(t *testing.T, js jetstream.JetStream) consume.Reason {
	t.Helper()
	c, err := js.CreateOrUpdateConsumer(t.Context(), topology.StreamAdvisories, jetstream.ConsumerConfig{Durable: "test"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(10 * time.Second))
	if err != nil {
		t.Fatalf("no advisory: %v", err)
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	var advisory struct {
		Type   string `json:"type"`
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(m.Data(), &advisory); err != nil || !strings.HasSuffix(advisory.Type, ".terminated") {
		t.Fatalf("advisory %s: %v", m.Data(), err)
	}
	return consume.DecodeReason(advisory.Reason)
}

// What the database refuses about one event is that event's fate alone.
func TestPromise3ConstraintsOfTheDatabaseIsolateOneEvent(t *testing.T) {
	t.Parallel()
	_, js := stream(t)
	dir := t.TempDir()
	k := kinds["sqlite"]
	if err := open(t, k, dir).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := database(t, dir).ExecContext(t.Context(), `CREATE TRIGGER picky BEFORE INSERT ON events
		WHEN NEW.event_id = 'poison' BEGIN SELECT raise(ABORT, 'not this one'); END`); err != nil {
		t.Fatal(err)
	}
	publish(t, js, nil, append(append(numbered(0, 20), update("poison", "p", 1, 1)), numbered(20, 40)...)...)
	svc := start(t, js, quick(), one(k, dir))
	settled(t, js, "out")
	checkRows(t, k.rows(t, dir), 40)
	r := terminated(t, js)
	if r.Class != fault.Fatal || !strings.Contains(r.Message, "not this one") {
		t.Errorf("terminated for %+v", r)
	}
	// Nobody collects here: it is kept even if the advisory is lost.
	l, err := deadletter.Get(t.Context(), js, r.Letter)
	if err != nil || l.Event.ID != "poison" || l.Stage != topology.StageDeliver || l.Name != "out" {
		t.Errorf("dead letter %d: %+v, %v", r.Letter, l, err)
	}
	if err := svc.Healthy(t.Context()); err != nil {
		t.Errorf("Healthy() = %v", err)
	}
}

func TestOneSickDestinationLeavesOthersAtWork(t *testing.T) {
	t.Parallel()
	for sick, healthy := range map[string]string{"sqlite": "files", "files": "sqlite"} {
		t.Run(sick+" is sick", func(t *testing.T) {
			t.Parallel()
			_, js := stream(t)
			dir := t.TempDir()
			destinations := map[string]pipeline.Destination{sick: kinds[sick].config(dir), healthy: kinds[healthy].config(dir)}
			if err := open(t, kinds[sick], dir).Close(); err != nil {
				t.Fatal(err)
			}
			heal := kinds[sick].breakIt(t, dir) // before it was ever opened
			publish(t, js, nil, numbered(0, 500)...)
			svc := start(t, js, quick(), destinations)
			settled(t, js, healthy)
			checkRows(t, kinds[healthy].rows(t, dir), 500)
			err := svc.Healthy(t.Context())
			if err == nil || !strings.Contains(err.Error(), "destination "+sick) || strings.Contains(err.Error(), "destination "+healthy) {
				t.Errorf("Healthy() = %v, want only %s to be named", err, sick)
			}
			heal()
			settled(t, js, sick)
			checkRows(t, kinds[sick].rows(t, dir), 500)
		})
	}
}

// An event sent again with a fresher record updates the record (promise 7) and
// leaves the event as it was (promise 4).
func TestPromise7ReplayBringsAFresherRecord(t *testing.T) {
	t.Parallel()
	_, js := stream(t)
	dir := t.TempDir()
	k := kinds["sqlite"]
	start(t, js, quick(), one(k, dir))
	publish(t, js, nil, update("a", "1", 1, 1))
	settled(t, js, "out")
	before := k.rows(t, dir)
	again := func(e enriched) string { return event.AgainID(e.MsgID(), event.Replay) }
	publish(t, js, again, update("a", "1", 5, 9))
	publish(t, js, again, update("a", "1", 3, 4)) // and a stale one
	settled(t, js, "out")
	if got, want := fmt.Sprintf("%+v", k.rows(t, dir)), fmt.Sprintf("%+v", before); got != want {
		t.Errorf("events\n got %s\nwant %s", got, want)
	}
	checkRecords(t, dir, fold(rowsOf([]enriched{update("a", "1", 5, 9)})))
}

// The server going away in the middle costs nothing but time.
func TestServerRestartLosesNothing(t *testing.T) {
	t.Parallel()
	server, js := stream(t)
	dir := t.TempDir()
	if err := open(t, kinds["sqlite"], dir).Close(); err != nil {
		t.Fatal(err)
	}
	publish(t, js, nil, numbered(0, 300)...)
	svc := start(t, js, quick(), one(kinds["sqlite"], dir))
	eventually(t, "something is written", func() bool { return len(kinds["sqlite"].rows(t, dir)) > 0 })
	server.Stop()
	eventually(t, "the service says that it is away", func() bool {
		err := svc.Healthy(t.Context())
		return err != nil && strings.Contains(err.Error(), "nats")
	})
	server.Resume()
	eventually(t, "publishing works again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		m := update("evt-300", "300", 1, 1).message()
		_, err := js.PublishMsg(ctx, m, jetstream.WithMsgID("last"))
		return err == nil
	})
	settled(t, js, "out")
	checkRows(t, kinds["sqlite"].rows(t, dir), 301)
}

func TestNewReportsEveryMistake(t *testing.T) {
	t.Parallel()
	_, js := stream(t)
	file := func(path string) pipeline.Destination {
		return pipeline.Destination{SQLite: &pipeline.SQLite{Path: path}}
	}
	tests := map[string]struct {
		destinations map[string]pipeline.Destination
		want         []string
	}{
		"none":     {nil, []string{"no destinations"}},
		"no kind":  {map[string]pipeline.Destination{"a": {}, "b": {}}, []string{"destination a: want exactly one", "destination b: want exactly one"}},
		"no path":  {map[string]pipeline.Destination{"a": file("")}, []string{"sqlite.path: missing"}},
		"no dir":   {map[string]pipeline.Destination{"a": {Files: &pipeline.Files{}}}, []string{"files.dir: missing"}},
		"bad name": {map[string]pipeline.Destination{"A b": file("x")}, []string{"want a name"}},
		"two to one file": {
			map[string]pipeline.Destination{"a": file("x.db"), "b": file("./x.db")},
			[]string{"destination b: a writes to"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := sink.New(sink.Config{Config: quick(), Destinations: tt.destinations}, sink.Deps{JetStream: js, Log: quiet})
			if err == nil {
				t.Fatal("New() = nil")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("New() = %v, want %q in it", err, want)
				}
			}
		})
	}
	cfg := quick()
	cfg.Batch = 0
	if _, err := sink.New(sink.Config{Config: cfg, Destinations: map[string]pipeline.Destination{"a": file("x")}},
		sink.Deps{JetStream: js, Log: quiet}); err == nil || !strings.Contains(err.Error(), "batch") {
		t.Errorf("New() without a batch = %v", err)
	}
}
