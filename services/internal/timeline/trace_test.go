package timeline_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/outcome"
	"github.com/tercelhq/tercel/pkg/refusal"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

var delivery = topology.Delivery{AckWait: time.Minute, MaxAttempts: 3}

// take has a stage's consumer hand out its next message.
func (w *world) take(stream string, cfg jetstream.ConsumerConfig) jetstream.Msg {
	w.Helper()
	cons, err := w.js.CreateOrUpdateConsumer(w.Context(), stream, cfg)
	if err != nil {
		w.Fatal(err)
	}
	m, err := cons.Next(jetstream.FetchMaxWait(30 * time.Second))
	if err != nil {
		w.Fatal(err)
	}
	return m
}

// work acknowledges a stage's next message.
func (w *world) work(stream string, cfg jetstream.ConsumerConfig) {
	w.Helper()
	if err := w.take(stream, cfg).DoubleAck(w.Context()); err != nil {
		w.Fatal(err)
	}
}

func (w *world) enrichWork() {
	w.Helper()
	w.work(topology.StreamRaw, topology.EnrichConsumer("orders", delivery))
}

func (w *world) deliver(to string) {
	w.Helper()
	w.work(topology.StreamEnriched, topology.DeliverConsumer(to, []string{"tercel.enriched.>"}, delivery))
}

// told is a timeline's entries in short, without time.
func told(t timeline.Timeline) []string {
	var got []string
	for _, e := range t.Entries {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Kind, e.Stage, e.Name)))
	}
	return got
}

func (w *world) wantTold(t timeline.Timeline, state timeline.State, want ...string) {
	w.Helper()
	if got := told(t); !slices.Equal(got, want) || t.State != state {
		w.Errorf("%s is told as %s\n%s\nwant %s\n%s", t.ID, t.State, strings.Join(got, "\n"), state, strings.Join(want, "\n"))
	}
}

// Promise 8: an event can be traced from receipt to destination, by each of its
// ids.
func TestPromise8AnEventIsTracedByEachOfItsIDs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	e := trigger("evt-1")
	e.DeliveryID = "delivery-1"
	e.ReceivedAt = time.Now().Add(-20 * time.Millisecond)
	w.send(e)
	x, _ := w.start(timeline.Config{})
	w.until("it is found", func() bool { return len(w.find(x, timeline.Query{ID: "evt-1"})) == 1 })
	w.wantTold(w.trace(x, timeline.Query{ID: "evt-1"}), timeline.UnderWay,
		"received ingress orders", "stored ingress orders", "waiting enrich orders")
	done := enriched(e, "7", "3")
	done.TriggerSequence = 1
	w.enrich(done)
	w.enrichWork()
	w.deliver("warehouse")
	w.until("the event is found", func() bool { return len(w.find(x, timeline.Query{ID: "7"})) == 1 })
	for _, id := range []string{"evt-1", "delivery-1", "7"} {
		got := w.trace(x, timeline.Query{ID: id})
		w.wantTold(got, timeline.Done, "received ingress orders", "stored ingress orders", "enriched enrich orders", "delivered deliver warehouse")
		if took := got.Entries[0].Took; took < 20*time.Millisecond || got.Entries[0].Known != timeline.Recorded {
			t.Errorf("%s was received in %s, %s; want the time until it was stored, recorded", id, took, got.Entries[0].Known)
		}
		if last := got.Entries[3]; last.Known != timeline.Derived || !last.At.IsZero() {
			t.Errorf("the delivery of %s is %+v, want it derived", id, last)
		}
		want := []timeline.Record{{Resource: "order", ID: "7", Version: "3"}}
		if len(got.Events) != 1 || !slices.Equal(got.Events[0].Records, want) {
			t.Errorf("events %+v, want one of record 7", got.Events)
		}
	}
}

// What a stage gave up is not done, and above all not delivered, while nobody
// has made a dead letter of it: the reconciler may be away.
func TestPromise3WhatWasGivenUpWithoutADeadLetterIsShown(t *testing.T) {
	t.Parallel()
	w := setup(t)
	e := trigger("evt-1")
	w.send(e)
	x, _ := w.start(timeline.Config{})
	shown := func(stage string) bool {
		tl := w.trace(x, timeline.Query{ID: e.ID})
		if tl.State != timeline.UnderWay && len(tl.Entries) > 0 {
			t.Fatalf("it is called %s: %+v", tl.State, tl.Entries)
		}
		return slices.Contains(told(tl), "given_up "+stage)
	}
	if err := w.take(topology.StreamRaw, topology.EnrichConsumer("orders", delivery)).TermWithReason("no use"); err != nil {
		t.Fatal(err)
	}
	w.until("the trigger is shown as given up", func() bool { return shown("enrich orders") })
	w.enrich(enriched(e, "7", "1"))
	if err := w.take(topology.StreamEnriched, topology.DeliverConsumer("local", []string{"tercel.enriched.>"}, delivery)).TermWithReason("no use"); err != nil {
		t.Fatal(err)
	}
	w.until("the event is shown as given up", func() bool { return shown("deliver local") })
}

// A dead letter, its replay and what that led to are one timeline.
func TestADeadLetterAndItsReplayAreTold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	e := trigger("evt-1")
	w.send(e)
	keep := deadletter.Keep(w.js, topology.EnrichDurable("orders"))
	m := w.take(topology.StreamRaw, topology.EnrichConsumer("orders", delivery))
	letter, err := keep(t.Context(), consume.Message{
		Stream: topology.StreamRaw, Sequence: 1, Subject: m.Subject(), Header: m.Headers(), Data: m.Data(),
	}, consume.Reason{Class: fault.Exhausted, Message: "status 500", Attempts: 3, LastAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	x, _ := w.start(timeline.Config{})
	w.until("the letter is found", func() bool { return len(w.find(x, timeline.Query{ID: "evt-1"})) == 2 })
	tl := w.trace(x, timeline.Query{ID: "evt-1"})
	w.wantTold(tl, timeline.DeadLettered, "received ingress orders", "stored ingress orders", "dead_lettered enrich orders")
	if l := tl.Entries[2]; l.Sequence != letter || l.Attempt != 3 || !strings.Contains(l.Text, "status 500") {
		t.Errorf("the letter is told as %+v", l)
	}
	again, err := deadletter.Replay(t.Context(), w.js, letter, deadletter.ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	answer := enriched(e, "7", "1")
	answer.Origin, answer.TriggerSequence = event.Replay, 1
	w.publish(answer.EnrichedSubject(), answer, again.MsgID)
	w.enrichWork()
	w.deliver("warehouse")
	w.until("all is found", func() bool { return len(w.find(x, timeline.Query{ID: "evt-1"})) == 4 })
	w.wantTold(w.trace(x, timeline.Query{ID: "evt-1"}), timeline.Done,
		"received ingress orders", "stored ingress orders", "dead_lettered enrich orders",
		"replayed ingress orders", "enriched enrich orders", "delivered deliver warehouse")

	// An event that is sent to the destinations again has no trigger of its own.
	answer.Origin = event.Replay
	w.publish(answer.EnrichedSubject(), answer, event.AgainID(e.MsgID(), event.Replay))
	w.deliver("warehouse")
	w.until("the second replay is found", func() bool { return len(w.find(x, timeline.Query{ID: "evt-1"})) == 5 })
	tl = w.trace(x, timeline.Query{ID: "evt-1"})
	if got := told(tl); got[len(got)-2] != "replayed deliver" || got[len(got)-1] != "delivered deliver warehouse" {
		t.Errorf("after a replay of the event alone: %v", got)
	}
}

// What a reconciliation run found of a record is part of its timeline, whether
// there is an event of it or not.
func TestVerdictsOfReconciliationAreTold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	seen := time.Now().Add(-time.Second).UTC()
	r := report.Report{
		Run: "run-1", Source: "orders", Account: event.NoAccount, Resource: "order", To: time.Now(), EndedAt: time.Now(),
		Records: []report.Record{
			{ID: "7", Version: "3", Verdict: "missed", FirstSeen: seen, Repaired: true, Cause: report.NeverSent},
			{ID: "8", Version: "1", Verdict: "stale", FirstSeen: seen},
		},
	}
	if err := report.Publish(t.Context(), w.js, r); err != nil {
		t.Fatal(err)
	}
	e := trigger("reconcile:order:7:3")
	e.DeliveryID, e.Origin, e.Type = "", event.Reconcile, "order.reconciled"
	e = enriched(e, "7", "3")
	w.publish(e.RawSubject(), e, e.MsgID()+":run-1")
	w.publish(e.EnrichedSubject(), e, e.MsgID()+":run-1")
	w.enrichWork()
	x := w.index(timeline.Config{})
	if err := x.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"7", "reconcile:order:7:3"} {
		tl := w.trace(x, timeline.Query{ID: id})
		w.wantTold(tl, timeline.Done, "reconciled reconcile order", "stored reconcile order", "enriched enrich orders")
		for _, want := range []string{"missed", "run-1", "never_sent", "sent in again"} {
			if !strings.Contains(tl.Entries[0].Text, want) {
				t.Errorf("the verdict is told as %q, want it to say %s", tl.Entries[0].Text, want)
			}
		}
		if !strings.Contains(tl.Entries[1].Text, "run run-1:") {
			t.Errorf("the trigger is told as %q, want the run named", tl.Entries[1].Text)
		}
	}
	tl := w.trace(x, timeline.Query{ID: "8", By: timeline.ByRecord, Resource: "order"})
	if len(tl.Entries) != 1 || !strings.Contains(tl.Entries[0].Text, "stale") {
		t.Errorf("a record without an event: %+v, want its verdict", tl.Entries)
	}
	if tl := w.trace(x, timeline.Query{ID: "8", Source: "shop"}); len(tl.Entries) != 0 {
		t.Errorf("a record of another source: %+v", tl.Entries)
	}
}

// Of a trigger with several records, each record's timeline has its own event
// only; and another source's event of the same id is another event.
func TestARecordsTimelineIsItsOwn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	e := trigger("evt-1")
	w.send(e)
	for _, id := range []string{"7", "8"} {
		one := enriched(e, id, "1")
		one.ID += "#" + id
		w.enrich(one)
	}
	w.enrichWork()
	other := trigger("evt-1")
	other.Source = "shop"
	w.send(other)
	x := w.index(timeline.Config{})
	if err := x.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wantTold(w.trace(x, timeline.Query{ID: "8"}), timeline.Done, "received ingress orders", "stored ingress orders", "enriched enrich orders")
	tl := w.trace(x, timeline.Query{ID: "evt-1"})
	if len(tl.Events) != 2 || tl.State != timeline.UnderWay || tl.Events[0].State != timeline.Done || len(tl.Events[0].Records) != 2 {
		t.Errorf("two events of one id: %+v", tl.Events)
	}
}

// A request that held several events is told with each of them.
func TestTheRequestOfAnEventIsTold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	e, request := trigger("evt-1"), trigger("request:sha256:1")
	w.publish(request.RequestSubject(), request, request.MsgID())
	e.Request, e.Part = request.ID, "1/2"
	w.send(e)
	x := w.index(timeline.Config{})
	if err := x.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	tl := w.trace(x, timeline.Query{ID: "evt-1"})
	w.wantTold(tl, timeline.UnderWay, "received ingress orders", "stored ingress orders", "stored ingress orders", "waiting enrich orders")
	if !strings.Contains(tl.Entries[2].Text, "part 1/2 of request:sha256:1") {
		t.Errorf("the event's part is told as %q", tl.Entries[2].Text)
	}
}

func TestAPausedStageSaysUntilWhen(t *testing.T) {
	t.Parallel()
	for left, want := range map[time.Duration]string{
		time.Hour: ", paused until 20", topology.UntilResumed: ", paused until it is resumed",
	} {
		if got := timeline.Paused(&jetstream.ConsumerInfo{Paused: true, PauseRemaining: left}); !strings.HasPrefix(got, want) {
			t.Errorf("of a pause of %s it says %q, want %q", left, got, want)
		}
	}
	if got := timeline.Paused(&jetstream.ConsumerInfo{}); got != "" {
		t.Errorf("of a running stage it says %q, want nothing", got)
	}
}

// What something else has written into the streams disturbs nothing.
func TestWhatIsNoEventIsLeftOut(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, subject := range []string{"tercel.raw.orders._.x", "tercel.enriched.orders._.x", "tercel.dlq.enrich.orders._.x", "tercel.reports.orders.order"} {
		m := nats.NewMsg(subject)
		m.Header.Set(event.HeaderID, "evt-1")
		m.Data = []byte("\xff{")
		if _, err := w.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	w.send(trigger("evt-1"))
	x := w.index(timeline.Config{})
	if err := x.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	tl := w.trace(x, timeline.Query{ID: "evt-1", Source: "orders"})
	w.wantTold(tl, timeline.UnderWay, "received ingress orders", "stored ingress orders", "waiting enrich orders")
}

// What was sent again for one destination is told of no other.
func TestAReplayIsToldOfTheDestinationsThatItIsFor(t *testing.T) {
	t.Parallel()
	w := setup(t)
	e := enriched(trigger("evt-1"), "7", "1")
	e.Origin, e.Destinations = event.Replay, "crm"
	w.enrich(e)
	for _, name := range []string{"crm", "lake"} {
		w.deliver(name)
	}
	x, _ := w.start(timeline.Config{})
	w.until("it is found", func() bool { return len(w.find(x, timeline.Query{ID: "evt-1"})) == 1 })
	w.wantTold(w.trace(x, timeline.Query{ID: "evt-1"}), timeline.Done, "replayed deliver", "delivered deliver crm")
}

// A request that was refused is found by the id that it claims or that its answer
// had, with the event that it claims to be, if there is one.
func TestRefusedRequestsAreTold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	e := trigger("delivery-1~12ab")
	e.DeliveryID = "delivery-1"
	e.ReceivedAt = time.Now()
	log := refusal.NewLog(w.js, slog.New(slog.DiscardHandler))
	for i, claimed := range []string{"delivery-1", "delivery-2"} {
		log.Keep(refusal.Record{
			At: e.ReceivedAt.Add(-time.Minute), RequestID: fmt.Sprint("request-", i), Source: "orders", Account: event.NoAccount, ClaimedID: claimed,
			Status: 401, Outcome: "refused_signature", Check: "signature", Step: "timestamp window", Reason: "stale: signed an hour ago",
		})
	}
	log.Close()
	w.send(e)
	x := w.index(timeline.Config{})
	if err := x.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"delivery-1", "delivery-1~12ab"} {
		w.wantTold(w.trace(x, timeline.Query{ID: id}), timeline.UnderWay,
			"refused ingress orders", "received ingress orders", "stored ingress orders", "waiting enrich orders")
	}
	for _, id := range []string{"delivery-2", "request-1"} {
		tl := w.trace(x, timeline.Query{ID: id})
		w.wantTold(tl, timeline.Refused, "refused ingress orders")
		for _, want := range []string{"401", "timestamp window", "stale: signed an hour ago", "request-1"} {
			if !strings.Contains(tl.Entries[0].Text, want) {
				t.Errorf("it is told as %q, want %s in it", tl.Entries[0].Text, want)
			}
		}
	}
	if tl := w.trace(x, timeline.Query{ID: "delivery-2", Source: "shop"}); len(tl.Entries) != 0 {
		t.Errorf("of another source: %+v", tl.Entries)
	}
	if tl := w.trace(x, timeline.Query{ID: "delivery-2", By: timeline.ByRecord}); len(tl.Entries) != 0 {
		t.Errorf("as a record's: %+v", tl.Entries)
	}
}

// Tries that failed are told with why, and a delivery that took several with when
// it was, although its consumer stands behind another event.
func TestTriesAreTold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	log := outcome.NewLog(w.js, slog.New(slog.DiscardHandler))
	stop := log.Start()
	e := trigger("evt-1")
	w.send(e)
	enrich, deliver := topology.EnrichDurable("orders"), topology.DeliverDurable("warehouse")
	tried := func(consumer, stream string, e event.Event, attempt int, a consume.Attempt) {
		log.Note(consumer)(consume.Message{Stream: stream, Sequence: 1, Header: e.Header(), Attempt: attempt}, a)
	}
	failed := consume.Attempt{Outcome: consume.Delayed, Err: fmt.Errorf("status 503, id %s", "7"), Took: time.Millisecond}
	tried(enrich, topology.StreamRaw, e, 1, failed)
	tried(enrich, topology.StreamRaw, e, 2, consume.Attempt{Outcome: consume.Acked})
	done := enriched(e, "7", "1")
	w.enrich(done)
	tried(deliver, topology.StreamEnriched, done, 1, failed)
	stop()
	if err := w.take(topology.StreamRaw, topology.EnrichConsumer("orders", delivery)).InProgress(); err != nil {
		t.Fatal(err)
	}
	w.take(topology.StreamEnriched, topology.DeliverConsumer("warehouse", []string{"tercel.enriched.>"}, delivery))
	x, _ := w.start(timeline.Config{})
	w.until("the tries are found", func() bool { return len(w.find(x, timeline.Query{ID: "evt-1"})) == 5 })
	tl := w.trace(x, timeline.Query{ID: "evt-1"})
	w.wantTold(tl, timeline.UnderWay, "received ingress orders", "stored ingress orders", "attempted enrich orders",
		"enriched enrich orders", "waiting deliver warehouse", "attempted deliver warehouse")
	if try := tl.Entries[2]; try.Attempt != 1 || try.Took != time.Millisecond || try.At.IsZero() || try.Text != "try 1 failed (transient): status 503, id 7" {
		t.Errorf("the try is told as %+v", try)
	}
	stop = log.Start()
	tried(deliver, topology.StreamEnriched, done, 2, consume.Attempt{Outcome: consume.Acked, Took: time.Second})
	stop()
	w.until("the last try is found", func() bool { return len(w.find(x, timeline.Query{ID: "evt-1"})) == 6 })
	tl = w.trace(x, timeline.Query{ID: "evt-1"})
	last := tl.Entries[len(tl.Entries)-1]
	if tl.State != timeline.Done || last.Kind != timeline.KindDelivered || last.Known != timeline.Recorded || last.Attempt != 2 || last.At.IsZero() || last.Took != time.Second {
		t.Errorf("it is %s, and the delivery is told as %+v", tl.State, last)
	}
}

// How the records of an event were got is told with it.
func TestFetchesAreTold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	e := enriched(trigger("evt-1"), "7", "1")
	e.Fetched = event.Fetches{
		{Name: "record", Status: 200, Tries: 2, Took: 30 * time.Millisecond, From: event.FromSource},
		{Name: "customer", Status: 200, From: event.FromCache},
	}.String()
	w.enrich(e)
	e = enriched(trigger("evt-2"), "8", "1")
	e.Fetched = "in another form"
	w.enrich(e)
	x := w.index(timeline.Config{})
	if err := x.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	tl := w.trace(x, timeline.Query{ID: "evt-1"})
	w.wantTold(tl, timeline.Done, "fetched enrich orders", "fetched enrich orders", "enriched enrich orders")
	if f := tl.Entries[0]; f.Status != 200 || f.Attempt != 2 || f.Took != 30*time.Millisecond || f.Text != "record: 200, asked for, in 2 requests" || f.Known != timeline.Recorded {
		t.Errorf("the record's fetch is told as %+v", f)
	}
	if f := tl.Entries[1]; f.From != event.FromCache || f.Text != "customer: 200, from the cache" {
		t.Errorf("the customer's fetch is told as %+v", f)
	}
	w.wantTold(w.trace(x, timeline.Query{ID: "evt-2"}), timeline.Done, "enriched enrich orders")
}

// What each check found is told of what was received, and of a replay whose
// request was checked again; of another replay it was said before.
func TestVerdictsOfChecksAreTold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	e := trigger("evt-1")
	c := event.Checked{
		Took: 312 * time.Microsecond, Read: 80 * time.Microsecond, By: "ingress-0", Scheme: "hmac-sha256", Key: "env:SECRET",
		Origin: event.OriginAny, Schema: "required@/total",
	}
	e.Checked = c.String()
	w.send(e)
	again := e
	again.Origin, again.TriggerSequence = event.Replay, 1
	w.publish(again.RawSubject(), again, event.AgainID(e.MsgID(), event.Replay))
	c.Again, c.Scheme, c.Key, c.Origin = true, "token", event.KeyNotStored, event.OriginUnknown
	again.Checked = c.String()
	w.publish(again.RawSubject(), again, event.AgainID(e.MsgID(), event.Replay))
	x, _ := w.start(timeline.Config{})
	w.until("all are found", func() bool { return len(w.find(x, timeline.Query{ID: "evt-1"})) == 3 })
	const found = "in 312µs at ingress-0 (80µs until its body had come): origin (any address may send), signature (hmac-sha256, by env:SECRET), schema warned (not matched: required@/total)"
	const repeated = "in 312µs at ingress-0 (80µs until its body had come): origin not repeated (the sender's address is not stored), " +
		"signature not repeated (token: the credential is not stored), schema warned (not matched: required@/total)"
	var got []string
	for _, e := range w.trace(x, timeline.Query{ID: "evt-1"}).Entries {
		if e.Kind == timeline.KindReceived || e.Kind == timeline.KindReplayed {
			got = append(got, fmt.Sprint(e.Text, len(e.Checks)))
		}
	}
	want := []string{
		"received, and every check passed " + found + "3",
		"sent again, origin replay, as order.paid0",
		"sent again, origin replay, as order.paid, after its request was checked again " + repeated + "3",
	}
	if !slices.Equal(got, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
