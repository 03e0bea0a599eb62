package audit_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/audit"
)

// Promise 3: a trigger that was given up and whose advisory the server lost is
// sent again, once, and then has its event.
func TestTriggerOfALostAdvisoryIsSentAgainOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enricher(nil)
	f.trigger("fine")
	f.trigger("broken")
	f.answered()
	f.eventually("the advisory", func() bool { return f.stored(topology.StreamAdvisories) == 1 })
	if err := f.stream(topology.StreamAdvisories).DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	f.collector()
	a := f.audit(time.Hour)
	if got := f.audited(a, 2); got.Recovered != 1 {
		t.Errorf("first audit: %+v, want one recovered", got)
	}

	m, err := f.stream(topology.StreamRaw).GetMsg(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	e, err := event.FromHeader(m.Header)
	if err != nil || e.ID != "broken" || e.Origin != event.Replay || e.TriggerSequence != 2 || string(m.Data) != `{"id":"broken"}` {
		t.Errorf("sent again: %+v %q, %v", e, m.Data, err)
	}
	f.answered()
	if got := f.audited(a, 1); got.Recovered != 0 {
		t.Errorf("audit of what was sent again: %+v, want nothing to do", got)
	}
	if res, err := a.RunOnce(t.Context()); err != nil || res != (audit.Result{}) {
		t.Errorf("audit of nothing new: %+v, %v", res, err)
	}
	if n := f.stored(topology.StreamRaw); n != 3 {
		t.Errorf("%d triggers stored, want 3", n)
	}
	if n := f.stored(topology.StreamEnriched); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

// A dead letter is an outcome, and one that is still on its way is waited for.
func TestDeadLettersAreOutcomes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.collector()() // begun and ended: it has its consumer, but is away
	f.enricher(nil)
	f.trigger("broken")
	f.trigger("fine")
	f.answered()
	a := f.audit(time.Hour)
	f.until(a, "two triggers waiting", func(sum, last audit.Result) bool {
		if sum.Audited+sum.Recovered > 0 {
			t.Fatalf("audited while a letter was on its way: %+v", sum)
		}
		return last.Pending == 2
	})
	f.collector()
	if got := f.audited(a, 2); got.Recovered != 0 {
		t.Errorf("%+v, want nothing recovered", got)
	}
	if n := f.stored(topology.StreamRaw); n != 2 {
		t.Errorf("%d triggers stored, want 2", n)
	}
}

// What a consumer has in hand is left alone, and what is lost beside it is
// sent again as soon as that can be told.
func TestTriggersInFlightAreLeftAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.collector()
	release := make(chan struct{})
	f.enricher(release)
	f.trigger("hanging")
	f.trigger("lost")
	f.trigger("fine")
	a := f.audit(time.Hour)
	f.until(a, "three triggers waiting", func(sum, last audit.Result) bool {
		if sum.Audited+sum.Recovered > 0 {
			t.Fatalf("audited with a trigger in hand: %+v", sum)
		}
		return last.Pending == 3
	})
	close(release)
	f.answered()
	if got := f.until(a, "three audited", func(sum, _ audit.Result) bool { return sum.Audited >= 3 }); got.Recovered != 1 {
		t.Errorf("%+v, want one recovered", got)
	}
}

// While a consumer always has something in hand, age decides, but only when
// more is missing than it can hold.
func TestOverdueTriggersAreSentAgain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ids  []string
		want int
	}{
		"nothing missing beside the one in hand":     {[]string{"hanging", "fine"}, 0},
		"one missing: it and the one in hand, again": {[]string{"hanging", "lost"}, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.collector()
			release := make(chan struct{})
			f.enricher(release)
			t.Cleanup(func() { close(release) })
			for _, id := range tt.ids {
				f.trigger(id)
			}
			a := f.audit(time.Second)
			if tt.want == 0 {
				stored := time.Now()
				f.until(a, "two triggers waiting", func(sum, last audit.Result) bool {
					return last.Pending == 2 && time.Since(stored) > 3*time.Second
				})
			} else if got := f.audited(a, 2); got.Recovered != tt.want {
				t.Errorf("%+v, want %d recovered", got, tt.want)
			}
			if n := f.stored(topology.StreamRaw); n != uint64(len(tt.ids)+tt.want) {
				t.Errorf("%d triggers stored, want %d", n, len(tt.ids)+tt.want)
			}
		})
	}
}

// What its consumer has not had yet is pending, not lost.
func TestUndeliveredTriggersArePending(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.collector()
	f.trigger("fine")
	a := f.audit(time.Second)
	if res, err := a.RunOnce(t.Context()); err != nil || res != (audit.Result{}) {
		t.Errorf("without a consumer: %+v, %v", res, err)
	}
	if _, err := f.js.CreateConsumer(t.Context(), topology.StreamRaw, topology.EnrichConsumer("orders", config().Delivery())); err != nil {
		t.Fatal(err)
	}
	stored := time.Now()
	f.until(a, "a pass after settling", func(sum, last audit.Result) bool {
		if last != (audit.Result{Pending: 1}) {
			t.Fatalf("%+v, want one pending", last)
		}
		return time.Since(stored) > 3*time.Second
	})
}

// Promise 4: a repeat whose event the dedup window absorbed is answered by the
// first one's event.
func TestAbsorbedRepeatsAreAnswered(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.collector()
	raw := f.stream(topology.StreamRaw).CachedInfo().Config
	raw.Duplicates = 100 * time.Millisecond
	if _, err := f.js.UpdateStream(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	f.enricher(nil)
	f.trigger("fine")
	f.eventually("the repeat is stored", func() bool { return !f.trigger("fine").Duplicate })
	f.answered()
	if n := f.stored(topology.StreamEnriched); n != 1 {
		t.Fatalf("%d events, want 1: the case is not the one meant", n)
	}
	if got := f.audited(f.audit(time.Hour), 2); got.Recovered != 0 {
		t.Errorf("%+v, want nothing recovered", got)
	}
}

// Several events may answer one trigger that names several records.
func TestEventsOfSeveralRecordsAnswerTheirTrigger(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.collector()
	stop := f.enricher(nil)
	f.trigger("lost") // its events are published by hand
	f.answered()
	stop()
	for _, record := range []string{"7", "8"} {
		f.event(event.Event{ID: "lost#" + record}, "orders:_:lost:"+record)
	}
	if got := f.audited(f.audit(time.Hour), 1); got.Recovered != 0 {
		t.Errorf("%+v, want nothing recovered", got)
	}
}

// Promise 3: ids may have colons, and the id of one trigger be the beginning of
// another's. The event of the one is no outcome of the other.
func TestEventAnswersNoTriggerWhoseIDItsOwnBeginsWith(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.collector()
	stop := f.enricher(nil)
	f.trigger("lost:7")
	f.trigger("lost:7:paid")
	f.answered()
	stop()
	f.event(event.Event{ID: "lost:7:paid", TriggerSequence: 2}, "orders:_:lost:7:paid")
	if got := f.audited(f.audit(time.Hour), 2); got.Recovered != 1 {
		t.Errorf("%+v, want the first one recovered", got)
	}
	m, err := f.stream(topology.StreamRaw).GetMsg(t.Context(), 3)
	if err != nil || m.Header.Get(event.HeaderID) != "lost:7" {
		t.Errorf("sent again: %+v, %v, want lost:7", m, err)
	}
}

// An audit that dies between sending a trigger again and noting so sends it
// once all the same.
func TestRepairThatIsRepeatedStoresOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.collector()
	stop := f.enricher(nil)
	f.trigger("lost")
	f.answered()
	stop() // so that nothing answers what is sent again
	if got := f.audited(f.audit(time.Hour), 1); got.Recovered != 1 {
		t.Fatalf("%+v, want one recovered", got)
	}
	kv, err := f.js.KeyValue(t.Context(), topology.BucketCursors)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), "_audit.raw"); err != nil {
		t.Fatal(err)
	}
	if got := f.audited(f.audit(time.Hour), 1); got.Recovered != 0 {
		t.Errorf("%+v, want none recovered twice", got)
	}
	if n := f.stored(topology.StreamRaw); n != 2 {
		t.Errorf("%d triggers stored, want 2", n)
	}
}

// Promise 10: a pass is bounded, and the next goes on where it ended.
func TestPassesAreBounded(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.collector()
	f.enricher(nil)
	for i := range 8 {
		f.trigger([]string{"fine", "lost"}[i%2] + fmt.Sprint(i))
	}
	f.answered()
	a := f.audit(time.Hour)
	a.SetBound(3)
	var most int
	sum := f.until(a, "all audited", func(sum, last audit.Result) bool {
		most = max(most, last.Audited)
		if last.More && last.Audited != 3 {
			t.Errorf("a pass that has more audited %d", last.Audited)
		}
		return sum.Audited >= 8+4 // the four that were sent again too
	})
	if most != 3 || sum.Audited != 12 || sum.Recovered != 4 {
		t.Errorf("%+v, at most %d in a pass; want 12 audited, 4 recovered, at most 3", sum, most)
	}
}

// A stream that lost its tail is audited from its beginning, even when it has
// grown beyond its old end since.
func TestStreamThatLostItsTailIsAuditedAnew(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"shorter": 1, "longer": 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.collector()
			stop := f.enricher(nil)
			for i := range 3 {
				f.trigger(fmt.Sprint("fine", i))
			}
			f.answered()
			a := f.audit(time.Hour)
			f.audited(a, 3)
			stop()
			if err := f.js.DeleteStream(t.Context(), topology.StreamRaw); err != nil {
				t.Fatal(err)
			}
			f.ensure()
			f.enricher(nil)
			for i := range n {
				f.trigger(fmt.Sprint("lost", i))
			}
			got := f.until(a, "all recovered", func(sum, _ audit.Result) bool { return sum.Recovered >= n })
			if got.Recovered != n {
				t.Errorf("%+v, want %d recovered", got, n)
			}
		})
	}
}

// Audits of several processes take turns.
func TestOnlyOneAuditRuns(t *testing.T) {
	t.Parallel()
	f := setup(t)
	lease, err := cursor.Acquire(t.Context(), f.js, "audit", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	a := f.audit(time.Hour)
	if _, err := a.RunOnce(t.Context()); !errors.Is(err, cursor.ErrHeld) {
		t.Errorf("RunOnce() = %v, want ErrHeld", err)
	}
	lease.Release()
	if _, err := a.RunOnce(t.Context()); err != nil {
		t.Errorf("RunOnce() = %v after the lease was given back", err)
	}
}

func TestRunAuditsOnItsSchedule(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.collector()
	f.enricher(nil)
	stop := f.run(f.audit(time.Hour).Run)
	f.trigger("lost")
	f.eventually("the event", func() bool { return f.stored(topology.StreamEnriched) == 1 })
	stop()
}

func TestNewRefusesABadConfig(t *testing.T) {
	t.Parallel()
	if _, err := audit.New(audit.Config{}, audit.Deps{}); err == nil {
		t.Error("New() took a configuration of zeros")
	}
}

// Promise 3: that the pipeline file drops a trigger is an outcome.
func TestADroppedTriggerIsNotLost(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.collector()
	f.enricher(nil)
	f.trigger("fine")
	f.trigger("lost") // answered without an event, as one that is dropped
	f.answered()
	e := event.Event{
		ID: "lost", Source: "orders", Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook, TriggerSequence: 2,
	}
	m := nats.NewMsg(e.DroppedSubject())
	m.Header = e.Header()
	if _, err := f.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if got := f.audited(f.audit(time.Hour), 2); got.Recovered != 0 {
		t.Errorf("%+v, want nothing recovered", got)
	}
}

// Promise 3: a tombstone is answered by its event as a record is, and is itself
// again when it was lost.
func TestTombstonesAreAudited(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.collector()
	f.enricher(nil)
	for i, id := range []string{"fine", "lost"} {
		e := event.Event{
			ID: id + ":deleted:run", Source: "orders", Account: event.NoAccount, Type: "order.reconciled", Origin: event.Reconcile,
			ContentType: "application/json", Resource: "order", RecordID: id, Deleted: true, ObservedAt: time.Now().Add(-time.Duration(i) * time.Hour),
		}
		m := nats.NewMsg(e.RawSubject())
		m.Header, m.Data = e.Header(), []byte("null")
		if _, err := f.js.PublishMsg(t.Context(), m, jetstream.WithMsgID(e.MsgID()+":run")); err != nil {
			t.Fatal(err)
		}
	}
	f.answered()
	if got := f.audited(f.audit(time.Hour), 3); got.Recovered != 1 { // the one that was sent again too
		t.Errorf("%+v, want one recovered", got)
	}
	var events []event.Event
	for m, err := range consume.Scan(t.Context(), f.js, consume.ScanOptions{Stream: topology.StreamEnriched}) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := event.FromHeader(m.Header)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	if len(events) != 2 || !events[1].Deleted || events[1].RecordID != "lost" || events[1].Version != "" || events[1].ObservedAt.IsZero() {
		t.Errorf("events %+v, want both tombstones", events)
	}
}
