package enricher_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/topology"
)

// dropping is oneSource with an expression.
func dropping(expr string) string {
	return strings.Replace(oneSource, "    api:", "    drop: '"+expr+"'\n    api:", 1)
}

// dropped are the notes in TERCEL_RAW.
func (f *fixture) dropped() []*jetstream.RawStreamMsg {
	f.t.Helper()
	var notes []*jetstream.RawStreamMsg
	for _, m := range f.messages(topology.StreamRaw) {
		if strings.HasPrefix(m.Subject, event.PrefixDropped+".") {
			notes = append(notes, m)
		}
	}
	return notes
}

// Promise 3: that it was dropped is a trigger's one outcome. Promise 5: it is
// stored before the trigger is acknowledged.
func TestPromise3ADroppedTriggerIsNotedAndNothingIsFetched(t *testing.T) {
	t.Parallel()
	f := setup(t, dropping(`.trigger.livemode == false`), answers(whole()))
	f.start()
	seq := f.send(trigger("order.paid", "evt_test"), `{"id":"evt_test","kind":"order.paid","livemode":false,"order":{"id":7}}`)
	f.settled("orders")
	if n := f.asked("/orders/7"); n != 0 {
		t.Errorf("the API was asked %d times, want 0", n)
	}
	f.send(trigger("order.paid", "evt_1"), order7)
	f.eventually("the event of the other", func() bool { return len(f.events()) == 1 })
	f.settled("orders")
	if e := f.events()[0]; e.ID != "evt_1" {
		t.Errorf("event %s, want evt_1", e.ID)
	}
	notes := f.dropped()
	if len(notes) != 1 {
		t.Fatalf("%d notes, want 1", len(notes))
	}
	e, err := event.FromHeader(notes[0].Header)
	if err != nil || e.ID != "evt_test" || e.TriggerSequence != seq || len(notes[0].Data) != 0 {
		t.Errorf("note %+v with a body of %d bytes, %v", e, len(notes[0].Data), err)
	}
	for what, pair := range map[string][2]string{
		"subject":    {notes[0].Subject, "tercel.dropped.orders._.order.paid"},
		"message id": {notes[0].Header.Get(jetstream.MsgIDHeader), "orders:_:evt_test:dropped"},
		"trace":      {strings.Split(notes[0].Header.Get(event.HeaderTraceParent), "-")[1], strings.Split(traceParent, "-")[1]},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s %q, want %q", what, pair[0], pair[1])
		}
	}
	if n := len(f.messages(topology.StreamAdvisories)); n != 0 {
		t.Errorf("%d triggers were given up, want 0", n)
	}
}

// Promise 5: as long as the note can't be stored, the trigger is not answered.
func TestPromise5ATriggerIsDroppedOnlyWithItsNote(t *testing.T) {
	t.Parallel()
	f := setup(t, dropping(`true`), answers(nil))
	raw, err := f.js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	seq := f.send(trigger("order.paid", "evt_1"), order7)
	full := raw.CachedInfo().Config
	full.MaxMsgs = 1 // discard new: nothing more is taken
	if _, err := f.js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	f.cfg.MaxAttempts = 1000
	f.start()
	f.eventually("several attempts", func() bool { return f.consumer("orders").NumRedelivered > 0 })
	if floor := f.consumer("orders").AckFloor.Stream; floor >= seq {
		t.Fatalf("the trigger is acknowledged without a note")
	}
	full.MaxMsgs = -1
	if _, err := f.js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	f.settled("orders")
	if n := len(f.dropped()); n != 1 {
		t.Errorf("%d notes, want 1", n)
	}
}

// An expression that fails makes a dead letter, which says where and why and
// shows nothing of the trigger.
func TestAFailingDropMakesADeadLetter(t *testing.T) {
	t.Parallel()
	f := setup(t, dropping(`.trigger.secret + 1 == 2`), answers(whole()))
	f.start()
	f.send(trigger("order.paid", "evt_1"), `{"id":"evt_1","kind":"order.paid","secret":"s3cret","order":{"id":7}}`)
	reason, _ := f.reason()
	if want := "tercel.yaml:7:11: sources.orders.drop: jq: cannot add: string and number"; reason.Message != want || reason.Class != fault.Fatal {
		t.Errorf("given up (%s): %s, want (permanent): %s", reason.Class, reason.Message, want)
	}
	letters := 0
	for l, err := range deadletter.List(t.Context(), f.js, deadletter.Filter{}) {
		if err != nil || l.Stage != topology.StageEnrich || strings.Contains(l.Reason.Message, "s3cret") {
			t.Errorf("dead letter %+v, %v", l, err)
		}
		letters++
	}
	if letters != 1 || len(f.events()) != 0 || len(f.dropped()) != 0 {
		t.Errorf("%d dead letters, %d events, %d notes, want 1, 0, 0", letters, len(f.events()), len(f.dropped()))
	}
}

// A trigger that carries its record is dropped by what the record says.
func TestATriggerWithARecordIsDropped(t *testing.T) {
	t.Parallel()
	f := setup(t, dropping(`.record.test == true and .trigger == null and .event.origin == "reconcile"`), answers(whole()))
	f.start()
	for id, body := range map[string]string{"1": `{"id":1,"test":true}`, "2": `{"id":2}`} {
		e := trigger("order.reconciled", "reconcile:order:"+id+":n1")
		e.Origin, e.Resource, e.RecordID, e.Version, e.ObservedAt = event.Reconcile, "batch", id, "n1", time.Now()
		m := nats.NewMsg(e.RawSubject())
		m.Header, m.Data = e.Header(), []byte(body)
		m.Header.Set(jetstream.MsgIDHeader, e.MsgID()+":run")
		if _, err := f.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	f.eventually("the event of the other", func() bool { return len(f.events()) == 1 })
	f.settled("orders")
	if e := f.events()[0]; e.RecordID != "2" {
		t.Errorf("event of record %s, want 2", e.RecordID)
	}
	if notes := f.dropped(); len(notes) != 1 || notes[0].Header.Get(event.HeaderSubject) != "1" {
		t.Errorf("notes %+v, want one of record 1", notes)
	}
}

// A tombstone has nothing to tell whether it is wanted, and what it deletes was.
func TestATombstoneIsNotDropped(t *testing.T) {
	t.Parallel()
	f := setup(t, dropping(`.record.test == true or (.record.id | startswith("x"))`), answers(whole()))
	f.start()
	e := trigger("order.reconciled", "reconcile:order:7:deleted:run")
	e.Origin, e.Resource, e.RecordID, e.Deleted, e.ObservedAt = event.Reconcile, "order", "7", true, time.Now()
	f.send(e, `null`)
	f.eventually("its event", func() bool { return len(f.events()) == 1 })
	f.settled("orders")
	if notes := f.dropped(); len(notes) != 0 || !f.events()[0].Deleted {
		t.Errorf("event %+v and %d notes, want the tombstone", f.events()[0].Event, len(notes))
	}
}
