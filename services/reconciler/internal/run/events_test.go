package run_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// Promises 4 and 6: an event that the source lists and that was never stored is
// sent in again as its webhook would have been, and a webhook that comes later,
// within the dedup window or beyond it, has no second effect.
func TestMissedEventsAreSentAgainAsTheirWebhooks(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, stripe, "start: 24h")
	hour := f.now.Add(-time.Hour).Truncate(time.Second)
	all := []listed{
		{id: "evt_1", typ: "invoice.paid", at: hour},
		{id: "evt_2", typ: "invoice.created", at: hour.Add(time.Minute)},
		{id: "evt_3", typ: "invoice.sent", at: hour.Add(time.Minute)}, // within the same second
		{id: "evt_4", typ: "invoice.voided", at: hour.Add(2 * time.Minute)},
		{id: "evt_5", typ: "customer.created", at: hour.Add(3 * time.Minute)}, // no webhook was asked for
		{id: "unwanted", typ: "invoice.paid", at: hour.Add(4 * time.Minute)},
		{id: "young", typ: "invoice.paid", at: f.now.Add(-time.Minute).Truncate(time.Second)},
		{id: "old", typ: "invoice.paid", at: hour.Add(-48 * time.Hour)},
	}
	f.book.add(all...)
	f.arrive(all[0], all[3])
	rep := f.run(demand)
	if rep.Matched != 2 || rep.Missed != 2 || rep.Repaired != 2 || rep.Dropped != 2 || rep.SkippedYoung != 1 || !rep.Complete {
		t.Errorf("report %+v, want 2 matched, 2 missed and repaired, 2 dropped, 1 young, complete", rep)
	}
	if rep.Sets.Listed.Records != 4 || rep.Sets.Held.Records != 2 || !strings.Contains(rep.Statement(), "once the 2 records") {
		t.Errorf("sets %+v, %s, want 4 listed and 2 held", rep.Sets, rep.Statement())
	}
	for _, rec := range rep.Records {
		if rec.Type == "" || rec.Verdict != "missed" || !rec.Repaired || rec.Cause == "" || rec.ChangedAt.IsZero() {
			t.Errorf("record %+v, want its type, cause and time, and it repaired", rec)
		}
	}
	if got := f.ids(); got != "evt_1 evt_4 evt_3 evt_2" && got != "evt_1 evt_4 evt_2 evt_3" {
		t.Errorf("stored %s, want the two that were missed beside those that came", got)
	}
	got, e := f.trigger("evt_2")
	want := f.webhook(all[1])
	if got.Subject != want.Subject || string(got.Data) != string(want.Data) || e.ID != "evt_2" || e.Origin != event.Reconcile ||
		!e.Time.Equal(all[1].at) || e.Resource != "" || got.Header.Get(jetstream.MsgIDHeader) != want.Header.Get(jetstream.MsgIDHeader) {
		t.Errorf("sent %s %q %+v, want what its webhook would have been", got.Subject, got.Data, e)
	}
	ack, err := f.js.PublishMsg(t.Context(), want)
	if err != nil || !ack.Duplicate {
		t.Errorf("the late webhook is stored again: %+v, %v", ack, err)
	}
	if there := f.found(want.Header.Get(jetstream.MsgIDHeader)); there != got.Sequence {
		t.Errorf("the ingress finds the trigger at %d, want %d", there, got.Sequence)
	}
	f.pass(10 * time.Minute)
	if rep := f.run(demand); rep.Missed != 1 || rep.Records[0].ID != "young" || rep.Listed > 2 {
		t.Errorf("second report %+v, want the one that was young, and no more listed than overlap", rep)
	}
}

// Promise 4: what was sent before another event could not be is known to the
// ingress all the same, which tells its late webhook by nothing else.
func TestEventsSentBeforeAFaultAreKnownToTheIngress(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, github, `list: "`+deliveries+`"`)
	f.book.add(listed{id: "g1", typ: "issues.opened", at: f.now.Add(-time.Hour), body: `{"issue":{"id":1}}`},
		listed{id: "g2", typ: "issues.opened", at: f.now.Add(-2 * time.Hour), status: http.StatusInternalServerError})
	f.book.before = func(e listed) {
		if e.id == "g2" {
			eventually(t, "the other is stored", func() bool { return f.ids() == "g1" })
		}
	}
	begun, err := f.runner().Begin(t.Context(), demand)
	if err != nil {
		t.Fatal(err)
	}
	if err := begun.Do(); err == nil {
		t.Error("Do() = nil although an event can't be had")
	}
	if f.found("pay:_:listed:g1") == 0 {
		t.Error("the ingress doesn't know the event that was sent")
	}
}

// An event that the source refuses for itself, or gives in more bytes than are read,
// holds up none of the others, nor those that follow.
func TestEventThatCannotBeHadHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, github, `list: "`+deliveries+`"`)
	at := f.now.Add(-time.Hour)
	f.book.add(listed{id: "g1", typ: "issues.opened", at: at, body: `{"issue":{"id":1}}`},
		listed{id: "g2", typ: "issues.opened", at: at.Add(-time.Minute), status: http.StatusUnprocessableEntity},
		listed{id: "g3", typ: "issues.opened", at: at.Add(-2 * time.Minute), body: `{"issue":{"id":3}}`},
		listed{id: "g4", typ: "issues.opened", at: at.Add(-3 * time.Minute), body: `{"issue":{"text":"` + strings.Repeat("large", 1<<20) + `"}}`},
		listed{id: "g5", at: at.Add(-4 * time.Minute), body: "{}"}, // without a type
		listed{id: "g6", typ: "issues.opened", at: at.Add(-5 * time.Minute), body: `{"issue":{"id":6}}`})
	rep := f.run(demand)
	if rep.Missed != 3 || rep.Repaired != 3 || rep.Unreadable != 3 || rep.Complete || rep.Error != "" {
		t.Errorf("report %+v, want 3 repaired, 3 unreadable, and all pages passed", rep)
	}
	if got := f.ids(); len(strings.Fields(got)) != 3 {
		t.Errorf("stored %q, want what can be had", got)
	}
}

// Where the source refuses all that is missed, as with a wrong address, the run
// fails as often as at a page that can't be read before they are passed over.
func TestEventsThatCanAllNotBeHadFailTheRun(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, github, `list: "`+deliveries+`"`)
	f.book.add(listed{id: "g1", typ: "issues.opened", at: f.now.Add(-time.Hour), status: http.StatusUnprocessableEntity})
	for range 3 {
		begun, err := f.runner().Begin(t.Context(), demand)
		if err != nil {
			t.Fatal(err)
		}
		if err := begun.Do(); err == nil || !strings.Contains(err.Error(), "g1") {
			t.Errorf("Do() = %v, want it to name the event", err)
		}
	}
	if rep := f.run(demand); rep.Unreadable != 1 || rep.Complete {
		t.Errorf("report %+v, want one unreadable", rep)
	}
}

// An event that is larger than the server takes holds up none of the others.
func TestEventThatIsTooLargeHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, github, `list: "`+deliveries+`"`)
	f.book.add(listed{id: "g1", typ: "issues.opened", at: f.now.Add(-time.Hour), body: `{"issue":{"id":1}}`},
		listed{id: "g2", typ: "issues.opened", at: f.now.Add(-time.Hour), body: `{"issue":{"text":"` + strings.Repeat("large", 300_000) + `"}}`})
	if rep := f.run(demand); rep.Missed != 1 || rep.Repaired != 1 || rep.Unreadable != 1 || rep.Complete {
		t.Errorf("report %+v, want one repaired, one unreadable, and it not complete", rep)
	}
	if got := f.ids(); got != "g1" {
		t.Errorf("stored %q, want the one that fits", got)
	}
}

// A source that is silent has its list compared with what came since the window began.
// What came before is not read, however much that is.
func TestTriggersOfASilentSourceAreNotReadFromTheFirstOn(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, stripe, "start: 24h")
	f.arrive(listed{id: "evt_1", typ: "invoice.paid", at: f.now.Add(-time.Hour)}, listed{id: "evt_2", typ: "invoice.paid", at: f.now})
	f.pass(48 * time.Hour)
	f.book.add(listed{id: "evt_3", typ: "invoice.paid", at: f.now.Add(-time.Hour).Truncate(time.Second)})
	reads := f.requested("CONSUMER.CREATE." + topology.StreamRaw + ".>")
	if rep := f.run(demand); rep.Missed != 1 || rep.Repaired != 1 || !rep.Complete {
		t.Errorf("report %+v, want one missed and repaired", rep)
	}
	for _, m := range reads() {
		if strings.Contains(string(m.Data), `"opt_start_seq":1,`) || strings.Contains(string(m.Data), `"opt_start_seq":1}`) {
			t.Errorf("a read from the first trigger on: %s", m.Data)
		}
	}
}

// A dry run sends nothing, notes nothing and moves no cursor.
func TestDryRunOfEvents(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, github, `list: "`+deliveries+`", prefer: redelivery`)
	f.book.add(listed{id: "g1", typ: "issues.opened", at: f.now.Add(-time.Hour), body: `{"issue":{"id":1}}`})
	rep := f.run(dryRun)
	if rep.Missed != 1 || rep.Repaired+rep.Redelivered != 0 || rep.Records[0].Repaired || !rep.DryRun {
		t.Errorf("report %+v, want one missed and left so", rep)
	}
	if got := f.ids(); got != "" || f.marks() != 0 || len(f.book.requests("POST")) != 0 || len(f.book.requests("GET")) != 1 {
		t.Errorf("stored %q, %d marks, asked for %v", got, f.marks(), f.book.asked)
	}
}

// What was purged from the stream is found to be missing by its list, although
// the stream would still absorb it as a repeat; what went through before isn't.
func TestPurgedEvents(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, stripe, "start: 24h")
	hour := f.now.Add(-time.Hour).Truncate(time.Second)
	through, purged := listed{id: "evt_1", typ: "invoice.paid", at: hour}, listed{id: "evt_2", typ: "invoice.paid", at: hour}
	f.book.add(through, purged)
	f.arrive(through, purged)
	f.enrichedOf(through)
	f.purge(topology.StreamRaw)
	rep := f.run(demand)
	if rep.Matched != 1 || rep.Missed != 1 || rep.Repaired != 1 {
		t.Errorf("report %+v, want one matched and one repaired", rep)
	}
	if got := f.ids(); got != "evt_2" {
		t.Errorf("stored %q, want the one that was purged", got)
	}
}

// A webhook that comes while the run goes on is no gap, whatever its key is.
func TestEventThatArrivesMeanwhile(t *testing.T) {
	t.Parallel()
	for name, source := range map[string][2]string{"stripe": {stripe, "start: 24h"}, "github": {github, `list: "` + deliveries + `"`}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setupEvents(t, source[0], source[1])
			late := listed{id: "evt_1", typ: map[string]string{"stripe": "invoice.paid", "github": "issues.opened"}[name], at: f.now.Add(-time.Hour), body: "{}"}
			f.book.add(late)
			f.arriveBefore(late)
			rep := f.run(demand)
			if rep.Missed != 0 || rep.Matched != 1 || f.ids() != "evt_1" {
				t.Errorf("report %+v, stored %q, want one that has come", rep, f.ids())
			}
		})
	}
}

// What comes at the last moment, by whatever way, is stored once.
func TestEventThatArrivesAtTheLastMoment(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, stripe, "start: 24h")
	late := listed{id: "evt_1", typ: "invoice.paid", at: f.now.Add(-time.Hour)}
	f.book.add(late)
	f.pub = early{f.pub, func() { f.arrive(late) }}
	rep := f.run(demand)
	if rep.Missed != 1 || rep.Repaired != 0 || rep.Duplicates != 1 || f.ids() != "evt_1" {
		t.Errorf("report %+v, stored %q, want one that had come", rep, f.ids())
	}
}

// early is a publisher that has something happen before it publishes.
type early struct {
	run.Publisher
	first func()
}

func (e early) Publish(ctx context.Context, m *nats.Msg) (publish.Ack, error) {
	e.first()
	return e.Publisher.Publish(ctx, m)
}

// A list without bodies leads to where they are had.
func TestDeliveriesOfAHook(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, github, `list: "`+deliveries+`"`)
	hour := f.now.Add(-time.Hour).Truncate(time.Second)
	came := listed{id: "g1", typ: "issues.opened", at: hour, body: `{"action":"opened","issue":{"id":1}}`}
	missed := listed{id: "g2", typ: "issues.edited", at: hour.Add(time.Minute), body: `{"action": "edited", "issue": {"id": 2, "title": "a b"}}`}
	f.book.add(came, missed,
		listed{id: "g3", typ: "issues.closed", at: hour.Add(2 * time.Minute), gone: true},
		listed{id: "g4", typ: "push", at: hour.Add(3 * time.Minute)},
		listed{id: "g5", typ: "issues.opened", at: hour.Add(4 * time.Minute), body: `{"issue":{"id":5}}`},
		listed{id: "g6", typ: "issues.opened", at: hour.Add(5 * time.Minute), body: `{"issue":{"id":6}}`},
		listed{id: "g2", typ: "issues.edited", at: hour.Add(6 * time.Minute), body: missed.body}) // sent again by hand
	f.arrive(came, f.book.events[1], f.book.events[2])
	rep := f.run(demand)
	if rep.Matched != 4 || rep.Missed != 1 || rep.Repaired != 1 || rep.Unreadable != 1 || rep.Dropped != 1 || rep.Complete {
		t.Errorf("report %+v, want 4 matched, one of them since the run itself repaired it, 1 repaired, 1 that is gone, 1 unwanted, not complete", rep)
	}
	got, e := f.trigger("g2")
	if string(got.Data) != `{"action":"edited","issue":{"id":2,"title":"a b"}}` || e.Type != "issues.edited" || e.DeliveryID != "g2" ||
		e.ID != event.Identity("g2", false, got.Data) || got.Header.Get(jetstream.MsgIDHeader) != "pay:_:listed:g2" {
		t.Errorf("sent %q %+v", got.Data, e)
	}
	if f.ids() != "g1 g6 g5 g2" {
		t.Errorf("stored %s, want each once", f.ids())
	}
}

// Where no API has the body of a webhook, the record is got that it speaks of.
func TestEventsThatOnlyNameARecord(t *testing.T) {
	t.Parallel()
	const source = `
    verify: {scheme: hmac-sha256, header: X-Signature}
    event: {id: body.id, type: body.type}
    resources:
      invoice: {triggers: [invoice.*], id: body.ref, get: "` + deliveries + `/{id}", version: record.id, record_id: record.id}
`
	f := setupEvents(t, source, "list: /v1/events, items: data, next: {after: starting_after, more: has_more}, order: descending, "+
		"id: record.id, type: record.type, time: record.created, resource: invoice, record_id: record.created")
	at := f.now.Add(-5 * time.Minute).Truncate(time.Second)
	f.book.add(listed{id: "evt_1", typ: "invoice.paid", at: at, body: "{}"})
	f.book.events[0].number = int(at.Unix()) // where its record is
	rep := f.run(demand)
	if rep.Missed != 1 || rep.Repaired != 1 {
		t.Fatalf("report %+v, want one repaired", rep)
	}
	m, e := f.trigger("evt_1")
	if e.Resource != "invoice" || e.RecordID == "" || e.Version == "" || e.ObservedAt.IsZero() || e.Type != "invoice.reconciled" || !strings.HasPrefix(string(m.Data), `{"id":`) {
		t.Errorf("sent %q %+v, want the record in hand", m.Data, e)
	}
	f.pass(time.Minute)
	if rep := f.run(demand); rep.Missed != 0 || rep.Matched != 1 {
		t.Errorf("second report %+v, want the event to count as stored", rep)
	}
}

// The causes of missed events rest on what the ingress noted.
func TestMissedEventsAreExplained(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, stripe, "start: 24h")
	f.book.add(listed{id: "evt_1", typ: "invoice.paid", at: f.now.Add(-time.Hour)})
	rep := f.run(demand)
	if rep.Records[0].Cause != report.Unknown || rep.Evidence.Causes[report.Unknown] != 1 {
		t.Errorf("report %+v, want an unknown cause without evidence", rep)
	}
}
