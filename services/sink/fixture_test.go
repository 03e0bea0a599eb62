package sink_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/sink"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

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
	return streamOf(t, func(*topology.Config) {})
}

// streamOf is stream with other settings.
func streamOf(t *testing.T, edit func(*topology.Config)) (*natstest.Server, jetstream.JetStream) {
	t.Helper()
	server := natstest.Start(t, false)
	js, err := jetstream.New(server.Connect(), natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	cfg := topology.DefaultConfig()
	edit(&cfg)
	if err := topology.Ensure(t.Context(), js, cfg); err != nil {
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
	cfg.Workers, cfg.Batch, cfg.AckWait = 1, 100, 5*time.Second
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
		case <-time.After(time.Minute):
			t.Error("Run() didn't end within a minute")
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
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
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
