package sink_test

import (
	"fmt"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

var natsCannot = map[string]string{
	duplicatesChangeNothing: "the stream drops repeats for as long as its duplicate window lasts; what comes later, or is sent " +
		"again on purpose, is there again with the same ce-id",
	recordsAreThere: "whoever reads the stream folds events into records",
	refusedAlone:    "a stream refuses no single event but for its size",
}

// natsPlace is a stream of another server.
func natsPlace(t *testing.T) *place {
	t.Helper()
	server := natstest.Start(t, false)
	js, err := jetstream.New(server.Connect(), natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	cfg := jetstream.StreamConfig{Name: "COPY", Subjects: []string{"copy.events.>"}, Discard: jetstream.DiscardNew, MaxMsgs: -1}
	update := func(t *testing.T, cfg jetstream.StreamConfig) {
		t.Helper()
		if _, err := js.CreateOrUpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	update(t, cfg)
	return &place{
		yaml:    fmt.Sprintf("nats: {url: %q, prefix: copy.events, stream: COPY}", server.URL()),
		rows:    func(t *testing.T) []row { return streamRows(t, js, "COPY") },
		breakIt: func(*testing.T) func() { server.Stop(); return server.Resume },
		hang: func(t *testing.T) func() {
			// Somebody gets the messages, but doesn't answer.
			elsewhere := cfg
			elsewhere.Subjects = []string{"elsewhere.>"}
			update(t, elsewhere)
			sub, err := js.Conn().Subscribe("copy.events.>", func(*nats.Msg) {})
			if err == nil {
				err = js.Conn().Flush()
			}
			if err != nil {
				t.Fatal(err)
			}
			return func() { _ = sub.Unsubscribe(); update(t, cfg) }
		},
		fill: func(t *testing.T) func() {
			full := cfg
			full.MaxMsgs = int64(len(streamRows(t, js, "COPY")))
			update(t, full)
			return func() { update(t, cfg) }
		},
	}
}

func streamRows(t *testing.T, js jetstream.JetStream, stream string) []row {
	t.Helper()
	var rows []row
	for m, err := range consume.Scan(t.Context(), js, consume.ScanOptions{Stream: stream}) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := event.FromHeader(m.Header)
		if err != nil {
			t.Fatal(err)
		}
		r := row{
			EventID: e.ID, Source: e.Source, Account: e.Account, Type: e.Type, Resource: e.Resource, RecordID: e.RecordID,
			Version: string(e.Version), Origin: string(e.Origin), Deleted: e.Deleted, EventTime: delivery.Time(e.Time),
			ReceivedAt: delivery.Time(e.ReceivedAt), ObservedAt: delivery.Time(e.ObservedAt), WrittenAt: delivery.Time(m.StoredAt),
			Sequence: m.Sequence,
		}
		if err := json.Unmarshal(m.Data, &r); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	return rows
}
