package timeline_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/outcome"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

func deliverer(name string) jetstream.ConsumerConfig {
	return topology.DeliverConsumer(name, []string{"tercel.enriched.>"}, delivery)
}

// die has a stage keep its next message as a dead letter, whose sequence it returns.
func (w *world) die(stream string, cfg jetstream.ConsumerConfig) uint64 {
	w.Helper()
	m := w.take(stream, cfg)
	meta, err := m.Metadata()
	if err != nil {
		w.Fatal(err)
	}
	letter, err := deadletter.Keep(w.js, cfg.Durable)(w.Context(), consume.Message{
		Stream: stream, Sequence: meta.Sequence.Stream, Subject: m.Subject(), Header: m.Headers(), Data: m.Data(),
	}, consume.Reason{Class: fault.Fatal, Message: "no such account", Attempts: 1, LastAt: time.Now()})
	if err != nil {
		w.Fatal(err)
	}
	if err := m.DoubleAck(w.Context()); err != nil {
		w.Fatal(err)
	}
	return letter
}

func (w *world) discard(letter uint64) {
	w.Helper()
	if err := deadletter.Discard(w.Context(), w.js, letter, deadletter.Discarded{Reason: "a test", At: time.Now()}); err != nil {
		w.Fatal(err)
	}
}

// lose notes that a stage gave its next message up, and nothing else: neither a
// dead letter nor the server's word of it is there.
func (w *world) lose(stream string, cfg jetstream.ConsumerConfig) {
	w.Helper()
	m := w.take(stream, cfg)
	meta, err := m.Metadata()
	if err != nil {
		w.Fatal(err)
	}
	log := outcome.NewLog(w.js, slog.New(slog.DiscardHandler))
	stop := log.Start()
	log.Note(cfg.Durable)(consume.Message{Stream: stream, Sequence: meta.Sequence.Stream, Header: m.Headers(), Attempt: 2},
		consume.Attempt{Outcome: consume.Terminated, Err: fault.Permanent(errors.New("no such account"))})
	stop()
	if err := m.DoubleAck(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// again sends e to one destination again, which takes it.
func (w *world) again(e event.Event, to string) {
	w.Helper()
	e.Origin, e.Destinations = event.Replay, to
	w.publish(e.EnrichedSubject(), e, event.AgainID(e.MsgID(), event.Replay))
	w.deliver(to)
}

func (w *world) fill(x *timeline.Index) {
	w.Helper()
	if err := x.Fill(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// Promise 8: what was given up and discarded is not told as delivered, unless it
// got there later.
func TestPromise8DiscardedIsNotDelivered(t *testing.T) {
	t.Parallel()
	w := setup(t)
	x := w.index(timeline.Config{})
	w.send(trigger("evt-1"))
	letter := w.die(topology.StreamRaw, topology.EnrichConsumer("orders", delivery))
	e := enriched(trigger("evt-2"), "7", "1")
	w.enrich(e)
	w.deliver("warehouse")
	other := w.die(topology.StreamEnriched, deliverer("crm"))
	want := func(when, id string, want timeline.State) {
		t.Helper()
		w.fill(x)
		if tl := w.trace(x, timeline.Query{ID: id}); tl.State != want {
			t.Errorf("%s is told as %s %s, want %s: %v", id, tl.State, when, want, told(tl))
		}
	}
	want("while its letter is open", "evt-1", timeline.DeadLettered)
	want("while its letter is open", "evt-2", timeline.DeadLettered)
	w.discard(letter)
	w.discard(other)
	want("once its letter is discarded", "evt-1", timeline.Discarded)
	want("once its letter is discarded", "evt-2", timeline.Discarded)
	w.again(e, "warehouse")
	want("after it was sent to another destination again", "evt-2", timeline.Discarded)
	w.deliver("crm") // what was not for it
	w.again(e, "crm")
	want("after it was sent again", "evt-2", timeline.Done)
}

// Promise 8: that nothing speaks against a delivery says nothing while the index
// has not read what would.
func TestPromise8WhatIsNotReadYetIsNotDelivered(t *testing.T) {
	t.Parallel()
	e := enriched(trigger("evt-1"), "7", "1")
	for name, tt := range map[string]struct {
		read, unread func(*world)
		wait         string // how the last step is told meanwhile
		want         timeline.State
	}{
		"an event for a destination": {
			func(w *world) { w.send(trigger("evt-1")); w.enrichWork() },
			func(w *world) { w.enrich(e) }, "stored ingress orders", timeline.UnderWay,
		},
		"a dead letter": {
			func(w *world) { w.enrich(e) },
			func(w *world) { w.die(topology.StreamEnriched, deliverer("warehouse")) }, "waiting deliver warehouse", timeline.DeadLettered,
		},
		"that it was given up": {
			func(w *world) { w.enrich(e) },
			func(w *world) { w.lose(topology.StreamEnriched, deliverer("warehouse")) }, "waiting deliver warehouse", timeline.UnderWay,
		},
		"a replay of what was dropped": {
			func(w *world) { w.publish(e.DroppedSubject(), e, "dropped") },
			func(w *world) { w.enrich(e); w.die(topology.StreamEnriched, deliverer("warehouse")) }, "dropped enrich orders", timeline.DeadLettered,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			if _, err := w.js.CreateOrUpdateConsumer(t.Context(), topology.StreamEnriched, deliverer("warehouse")); err != nil {
				t.Fatal(err)
			}
			x := w.index(timeline.Config{})
			tt.read(w)
			w.fill(x)
			tt.unread(w)
			tl := w.trace(x, timeline.Query{ID: "evt-1"})
			steps := told(tl)
			if tl.State != timeline.Unknown || !tl.Behind() || len(steps) == 0 || steps[len(steps)-1] != tt.wait {
				t.Errorf("before the index has read it: %s, %v; want unknown, at last %q", tl.State, steps, tt.wait)
			}
			w.fill(x)
			if tl := w.trace(x, timeline.Query{ID: "evt-1"}); tl.State != tt.want {
				t.Errorf("once the index has read it: %s, %v; want %s", tl.State, told(tl), tt.want)
			}
		})
	}
}

// Promise 8: what a stage noted as given up is told so where there is no dead
// letter of it, although its consumer's ack floor looks as if it were delivered.
func TestPromise8GivenUpWithoutALetterIsNotDelivered(t *testing.T) {
	t.Parallel()
	w := setup(t)
	x := w.index(timeline.Config{})
	w.send(trigger("evt-1"))
	w.lose(topology.StreamRaw, topology.EnrichConsumer("orders", delivery))
	e := enriched(trigger("evt-2"), "7", "1")
	w.enrich(e)
	w.lose(topology.StreamEnriched, deliverer("warehouse"))
	w.fill(x)
	for id, want := range map[string][]string{
		"evt-1": {"received ingress orders", "stored ingress orders", "given_up enrich orders"},
		"evt-2": {"enriched enrich orders", "given_up deliver warehouse"},
	} {
		tl := w.trace(x, timeline.Query{ID: id})
		w.wantTold(tl, timeline.UnderWay, want...)
		last := tl.Entries[len(tl.Entries)-1]
		if last.Attempt != 2 || last.At.IsZero() || last.Known != timeline.Recorded || !strings.Contains(last.Text, "(permanent): no such account") {
			t.Errorf("%s was given up as %+v", id, last)
		}
	}
	w.again(e, "warehouse")
	w.fill(x)
	if tl := w.trace(x, timeline.Query{ID: "evt-2"}); tl.State != timeline.Done {
		t.Errorf("after it was sent again: %s, %v", tl.State, told(tl))
	}
}

// A destination that takes more than it did has not been sent what came before,
// which its consumer can't tell: the words of the delivery leave it open.
func TestADeliveryBeforeADestinationTookItIsNotCertain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.enrich(enriched(trigger("evt-1"), "7", "1"))
	later := enriched(trigger("evt-2"), "7", "2")
	later.Type = "order.shipped"
	w.enrich(later)
	w.work(topology.StreamEnriched, topology.DeliverConsumer("crm", []string{later.EnrichedSubject()}, delivery))
	if _, err := w.js.CreateOrUpdateConsumer(t.Context(), topology.StreamEnriched, deliverer("crm")); err != nil {
		t.Fatal(err)
	}
	x := w.index(timeline.Config{})
	w.fill(x)
	tl := w.trace(x, timeline.Query{ID: "evt-1"})
	last := tl.Entries[len(tl.Entries)-1]
	if last.Name != "crm" || last.Known != timeline.Derived || !strings.Contains(last.Text, "unless its subscribe left it out then") {
		t.Errorf("told as %+v, want it said that it may not have been sent", last)
	}
}
