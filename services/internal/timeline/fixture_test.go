package timeline_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

// world is a server with the streams.
type world struct {
	*testing.T
	js jetstream.JetStream
}

func setup(t *testing.T) *world {
	t.Helper()
	w := &world{t, natstest.Run(t)}
	if err := topology.Ensure(t.Context(), w.js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	return w
}

// start returns an index that follows the streams until stop is called.
func (w *world) start(cfg timeline.Config) (x *timeline.Index, stop func()) {
	w.Helper()
	x = w.index(cfg)
	ctx, cancel := context.WithCancel(w.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := x.Run(ctx); err != nil {
			w.Errorf("Run() = %v", err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	w.Cleanup(stop)
	return x, stop
}

func (w *world) index(cfg timeline.Config) *timeline.Index {
	w.Helper()
	x, err := timeline.New(cfg, timeline.Deps{JetStream: w.js, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.Fatal(err)
	}
	return x
}

// trigger is a webhook of one source.
func trigger(id string) event.Event {
	return event.Event{
		ID: id, DeliveryID: id, Source: "orders", Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook,
		ContentType: "application/json", ReceivedAt: time.Now(),
	}
}

// enriched is the event of a trigger, of one record.
func enriched(e event.Event, record, version string) event.Event {
	e.Resource, e.RecordID, e.Version, e.ObservedAt = "order", record, event.Version(version), time.Now()
	return e
}

// send stores e as a trigger and returns its sequence.
func (w *world) send(e event.Event) uint64 { return w.publish(e.RawSubject(), e, e.MsgID()) }

// enrich stores e as an enriched event.
func (w *world) enrich(e event.Event) uint64 { return w.publish(e.EnrichedSubject(), e, e.MsgID()) }

func (w *world) publish(subject string, e event.Event, msgID string) uint64 {
	w.Helper()
	m := nats.NewMsg(subject)
	m.Header = e.Header()
	m.Data = []byte(`{"id":"7"}`)
	ack, err := w.js.PublishMsg(w.Context(), m, jetstream.WithMsgID(msgID))
	if err != nil {
		w.Fatal(err)
	}
	return ack.Sequence
}

// until waits for a condition.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			w.Fatalf("waited a minute in vain: %s", what)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-w.Context().Done():
			w.Fatal(w.Context().Err())
		}
	}
}

// find returns the places of what an index finds.
func (w *world) find(x *timeline.Index, q timeline.Query) []string {
	w.Helper()
	f, err := x.Find(w.Context(), q)
	if err != nil {
		w.Fatal(err)
	}
	return places(f)
}

func (w *world) trace(x *timeline.Index, q timeline.Query) timeline.Timeline {
	w.Helper()
	t, err := x.Trace(w.Context(), q)
	if err != nil {
		w.Fatal(err)
	}
	return t
}
