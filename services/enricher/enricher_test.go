package enricher_test

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/enricher"
)

func whole() map[string]string {
	return map[string]string{
		"/orders/7":        `{"data":{"id":7,"customer_id":"c/1","version":3}}`,
		"/customers/c%2F1": `{"id":"c/1"}`,
		"/orders/7/notes":  `["n"]`,
	}
}

const order7 = `{"id":"evt_1","kind":"order.paid","order":{"id":7}}`

func TestTriggerBecomesAnEventWithItsRecords(t *testing.T) {
	t.Parallel()
	var arrived atomic.Int64 // when the API began with the record
	ok := answers(whole())
	f := setup(t, oneSource, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/orders/7" {
			arrived.Store(time.Now().UnixNano())
			<-time.After(20 * time.Millisecond)
		}
		ok(w, r)
	})
	f.start()
	before := time.Now()
	seq := f.send(trigger("order.paid", "evt_1"), order7)
	f.eventually("an event", func() bool { return len(f.events()) == 1 })
	f.settled("orders")
	e := f.events()[0]
	wantBody := `{"trigger":` + order7 + `,"record":{"id":7,"customer_id":"c/1","version":3},"related":{"customer":{"id":"c/1"},"notes":["n"]}}`
	version, err := event.ParseVersion("3")
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]any{
		"body":             {e.body, wantBody},
		"subject":          {e.subject, "tercel.enriched.orders._.order.paid"},
		"message id":       {e.header.Get(jetstream.MsgIDHeader), "orders:_:evt_1"},
		"id":               {e.ID, "evt_1"},
		"resource":         {e.Resource, "order"},
		"record id":        {e.RecordID, "7"},
		"version":          {e.Version, version},
		"deleted":          {e.Deleted, false},
		"trigger sequence": {e.TriggerSequence, seq},
		"content type":     {e.ContentType, "application/json"},
		"origin":           {e.Origin, event.Webhook},
		"trace":            {strings.Split(e.header.Get(event.HeaderTraceParent), "-")[1], strings.Split(traceParent, "-")[1]},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %v, want %v", what, pair[0], pair[1])
		}
	}
	if e.ObservedAt.Before(before) || e.ObservedAt.UnixNano() > arrived.Load() {
		t.Errorf("observed at %s, want after %s and no later than the API began with it", e.ObservedAt, before)
	}
}

func TestRecordThatIsGoneBecomesATombstone(t *testing.T) {
	t.Parallel()
	for _, status := range []int{404, 410} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			f := setup(t, oneSource, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
			f.start()
			before := time.Now()
			f.send(trigger("order.deleted", "evt_1"), order7)
			f.eventually("an event", func() bool { return len(f.events()) == 1 })
			e := f.events()[0]
			if !e.Deleted || e.Version != "" || e.RecordID != "7" || e.ObservedAt.Before(before) ||
				e.body != `{"trigger":`+order7+`,"record":null,"deleted":true}` {
				t.Errorf("got %+v with body %s", e.Event, e.body)
			}
		})
	}
}

// Promise 7: a record that was seen and one that was gone at the same moment, as far as
// the clocks tell, is gone.
func TestPromise7ATombstoneIsLaterThanTheRecordOfItsMoment(t *testing.T) {
	t.Parallel()
	var gone atomic.Bool
	f := setup(t, oneSource, func(w http.ResponseWriter, r *http.Request) {
		if gone.Load() {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, map[bool]string{true: `{"data":{"id":7,"customer_id":"c","version":3}}`, false: `{}`}[r.URL.Path == "/orders/7"])
	})
	moment := time.Now()
	f.now = func() time.Time { return moment }
	f.start()
	f.send(trigger("order.paid", "evt_1"), order7)
	f.eventually("the record", func() bool { return len(f.events()) == 1 })
	gone.Store(true)
	f.send(trigger("order.deleted", "evt_2"), order7)
	f.eventually("its tombstone", func() bool { return len(f.events()) == 2 })
	all := f.events()
	slices.SortFunc(all, func(a, b enriched) int { return cmp.Compare(a.ID, b.ID) })
	if !all[1].Deleted || !all[1].ObservedAt.After(all[0].ObservedAt) || all[1].ObservedAt.Sub(all[0].ObservedAt) > time.Millisecond {
		t.Errorf("the record was seen at %s and gone at %s, want the latter a little later", all[0].ObservedAt, all[1].ObservedAt)
	}
}

func TestTriggerOfNoResourceIsPassedOnAlone(t *testing.T) {
	t.Parallel()
	f := setup(t, oneSource, answers(nil))
	f.start()
	e := trigger("ping", "evt_1")
	e.ContentType = "text/plain"
	f.send(e, "hello")
	f.eventually("an event", func() bool { return len(f.events()) == 1 })
	got := f.events()[0]
	if want := `{"trigger":"aGVsbG8=","record":null}`; got.body != want || got.Resource != "" || len(f.seen) > 0 {
		t.Errorf("got %s of resource %q after %d requests, want %s of none after none", got.body, got.Resource, len(f.seen), want)
	}
}

// What was listed is not fetched again, but what belongs to it is.
func TestRecordInHandIsNotFetchedAgain(t *testing.T) {
	t.Parallel()
	f := setup(t, oneSource, answers(map[string]string{"/customers/c1": `{"name":"C"}`}))
	f.start()
	e := trigger("order.reconciled", "reconcile:order:7:n0013")
	e.Origin, e.Resource, e.RecordID, e.Version = event.Reconcile, "order", "7", "n0013"
	e.ObservedAt, e.TriggerSequence = time.Now().Add(-time.Minute).UTC(), 99
	f.send(e, ` {"id":7,"customer_id":"c1"}`)
	f.eventually("an event", func() bool { return len(f.events()) == 1 })
	got := f.events()[0]
	want := `{"trigger":null,"record": {"id":7,"customer_id":"c1"},"related":{"customer":{"name":"C"},"notes":null}}`
	if got.body != want || got.Version != e.Version || !got.ObservedAt.Equal(e.ObservedAt) ||
		got.TriggerSequence != 99 || got.header.Get(jetstream.MsgIDHeader) != e.MsgID() || f.asked("/orders/7") > 0 {
		t.Errorf("got %+v with body %s after %d requests", got.Event, got.body, len(f.seen))
	}
}

// A tombstone in hand is passed on, and nobody is asked: reconciliation has asked.
func TestTombstoneInHandIsPassedOn(t *testing.T) {
	t.Parallel()
	f := setup(t, oneSource, answers(map[string]string{"/orders/7": `{"id":7,"customer_id":"c1"}`}))
	f.start()
	e := trigger("order.reconciled", "reconcile:order:7:deleted:run")
	e.Origin, e.Resource, e.RecordID, e.Deleted = event.Reconcile, "order", "7", true
	e.ObservedAt = time.Now().Add(-time.Minute).UTC()
	sequence := f.send(e, `null`)
	f.eventually("an event", func() bool { return len(f.events()) == 1 })
	got := f.events()[0]
	if got.body != `{"trigger":null,"record":null,"deleted":true}` || !got.Deleted || got.Version != "" || !got.ObservedAt.Equal(e.ObservedAt) ||
		got.RecordID != "7" || got.TriggerSequence != sequence || len(f.seen) > 0 {
		t.Errorf("got %+v with body %s after %d requests", got.Event, got.body, len(f.seen))
	}
	for name, spoil := range map[string]func(*event.Event){
		"version": func(e *event.Event) { e.Version = "n0011" },
		"time":    func(e *event.Event) { e.ObservedAt = time.Time{} },
		"id":      func(e *event.Event) { e.RecordID = "" },
	} {
		bad := e
		bad.ID += name
		spoil(&bad)
		f.send(bad, `null`)
	}
	f.eventually("what is no tombstone is given up", func() bool { return len(f.messages(topology.StreamAdvisories)) == 3 })
	if n := len(f.events()); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

// A trigger that names several records gives an event for each. Those that can
// be had are published even while another fails, and a repeat doubles none.
func TestManyRecordsInOneTrigger(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	f := setup(t, oneSource, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/plain/b" && !mended.Load() {
			w.WriteHeader(500)
			return
		}
		fmt.Fprintf(w, `{"id":%q,"version":1}`, strings.TrimPrefix(r.URL.Path, "/plain/"))
	})
	f.cfg.MaxAttempts = 1000
	f.start()
	f.send(trigger("batch.done", "evt_1"), `{"orders":[{"id":"a"},{"id":"b"},{"id":"a"},{"id":"c d"}]}`)
	f.eventually("a second attempt", func() bool { return f.asked("/plain/b") >= 2 })
	ids := func() (all []string) {
		for _, e := range f.events() {
			all = append(all, e.ID+" "+e.header.Get(jetstream.MsgIDHeader))
		}
		slices.Sort(all)
		return all
	}
	want := []string{"evt_1#a orders:_:evt_1:a", "evt_1#c d orders:_:evt_1:c%20d"}
	if got := ids(); !slices.Equal(got, want) {
		t.Errorf("while one fails: events %q, want %q", got, want)
	}
	mended.Store(true)
	f.settled("orders")
	want = slices.Insert(want, 1, "evt_1#b orders:_:evt_1:b")
	if got := ids(); !slices.Equal(got, want) {
		t.Errorf("in the end: events %q, want %q", got, want)
	}
}

// One record without hope doesn't give up the trigger while another has some,
// and the reason names those that failed and no other.
func TestManyRecordsShareTheBestFate(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	f := setup(t, oneSource, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/plain/a":
			w.WriteHeader(422)
		case "/plain/b":
			if calls.Add(1) == 1 {
				w.WriteHeader(500)
				return
			}
			fmt.Fprint(w, `{"id":"b"}`) // no version: without hope as well
		default:
			fmt.Fprint(w, `{"id":"c","version":1}`)
		}
	})
	f.start()
	f.send(trigger("batch.done", "evt_1"), `{"orders":[{"id":"a"},{"id":"b"},{"id":"c"}]}`)
	f.settled("orders")
	r, _ := f.reason()
	want := "batch a: GET orders /plain/a: status 422; batch b: version: record.version: no value"
	if r.Class != fault.Fatal || r.Attempts != 2 || r.Message != want {
		t.Errorf("reason %+v, want a permanent one in attempt 2: %s", r, want)
	}
	if got := f.events(); len(got) != 1 || got[0].RecordID != "c" {
		t.Errorf("%d events, want that of c alone", len(got))
	}
}

// What can't be stored says nothing of the API, of however many records it is told: a
// trigger isn't given up for it to make room.
func TestManyRecordsThatCannotBeStoredWaitForTheStream(t *testing.T) {
	t.Parallel()
	full := fault.Postpone(fmt.Errorf("store: %w", publish.ErrUnavailable), time.Second)
	for name, errs := range map[string][]error{
		"all":             {full, full},
		"beside a fault":  {full, fault.Permanent(errors.New("status 422"))},
		"and one that is": {full, nil},
	} {
		if err := enricher.Combine(errs); !errors.Is(err, publish.ErrUnavailable) || !fault.IsPostponed(err) || fault.IsPermanent(err) {
			t.Errorf("%s: %v, want it postponed for the stream", name, err)
		}
	}
}

// Promise 5: a trigger is acknowledged only after its event was. Here the
// stream of events is full for a while.
func TestTriggerIsKeptWhileItsEventCannotBeStored(t *testing.T) {
	t.Parallel()
	f := setup(t, oneSource, answers(whole()))
	limit := func(n int64) {
		for _, c := range topology.Streams(topology.DefaultConfig()) {
			if c.Name == topology.StreamEnriched {
				c.MaxMsgs = n
				if _, err := f.js.UpdateStream(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	limit(1)
	f.cfg.MaxAttempts = 1000
	f.start()
	f.send(trigger("ping", "evt_0"), `{}`)
	f.eventually("a full stream", func() bool { return len(f.events()) == 1 })
	f.send(trigger("order.paid", "evt_1"), order7)
	f.eventually("three attempts", func() bool { return f.asked("/orders/7") >= 3 })
	if i := f.consumer("orders"); i.NumAckPending != 1 || len(f.events()) != 1 {
		t.Errorf("%d triggers unanswered and %d events while the stream is full, want 1 and 1", i.NumAckPending, len(f.events()))
	}
	limit(-1)
	f.settled("orders")
	if got := f.events(); len(got) != 2 || got[1].ID != "evt_1" {
		t.Errorf("%d events in the end, want 2", len(got))
	}
}

// Promise 4: an end between the event's acknowledgement and the trigger's, or
// an acknowledgement that the server lost, gives no second event.
func TestRedeliveredTriggersGiveNoSecondEvent(t *testing.T) {
	t.Parallel()
	f := setup(t, oneSource, answers(whole()))
	stop := f.start()
	const n = 20
	for i := range n {
		f.send(trigger("order.paid", fmt.Sprint("evt_", i)), order7)
	}
	f.settled("orders")
	stop()
	first := f.asked("/orders/7")
	raw, err := f.js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.DeleteConsumer(t.Context(), topology.EnrichDurable("orders")); err != nil { // every acknowledgement is gone
		t.Fatal(err)
	}
	f.start()
	f.settled("orders")
	if got := f.asked("/orders/7"); got == first {
		t.Errorf("%d records fetched, want more: each trigger is worked on again", got)
	}
	if got := len(f.events()); got != n {
		t.Errorf("%d events, want %d", got, n)
	}
}

// What can't be enriched is given up with its reason and never passed on
// without its record (promise 3).
func TestWhatCannotBeEnrichedBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	record := func(text string) http.HandlerFunc {
		m := whole()
		m["/orders/7"] = text
		return answers(m)
	}
	status := func(n int) http.HandlerFunc { return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) } }
	lacks := func(path string) http.HandlerFunc {
		m := whole()
		delete(m, path)
		return answers(m)
	}
	tests := map[string]struct {
		api      http.HandlerFunc
		trigger  string
		class    fault.Class
		attempts int
		reason   string
	}{
		"refused":                 {status(422), order7, fault.Fatal, 1, "order 7: GET orders /orders/7: status 422"},
		"down":                    {status(500), order7, fault.Exhausted, 3, "order 7: GET orders /orders/7: status 500"},
		"HTML":                    {record("<html>"), order7, fault.Exhausted, 3, "order 7: GET orders /orders/7: status 200: answer: invalid JSON"},
		"nothing":                 {status(204), order7, fault.Exhausted, 3, "order 7: GET orders /orders/7: status 204: empty answer"},
		"no record":               {record(`{"datum":{}}`), order7, fault.Exhausted, 3, "order 7: record in the answer: no value"},
		"null":                    {record(`{"data":null}`), order7, fault.Exhausted, 3, "order 7: id in the answer: record.id: no value"},
		"another record":          {record(`{"data":{"id":8,"version":1}}`), order7, fault.Exhausted, 3, "order 7: answer is about another record"},
		"no version":              {record(`{"data":{"id":7,"customer_id":"c/1"}}`), order7, fault.Fatal, 1, "order 7: version: record.version: no value"},
		"odd version":             {record(`{"data":{"id":7,"customer_id":"c/1","version":-1}}`), order7, fault.Fatal, 1, "order 7: version: want a non-negative"},
		"required related gone":   {lacks("/customers/c%2F1"), order7, fault.Exhausted, 3, "order 7: related customer: GET orders /customers/c%2F1: status 404"},
		"no reference to related": {record(`{"data":{"id":7,"version":1}}`), order7, fault.Exhausted, 3, "order 7: related customer: path: "},
		"no id":                   {answers(nil), `{"id":"evt_1"}`, fault.Fatal, 1, "trigger of order: id: body.order.id: no value"},
		"id is an object":         {answers(nil), `{"order":{"id":{}}}`, fault.Fatal, 1, "trigger of order: id: body.order.id: an object"},
		"id is long":              {answers(nil), `{"order":{"id":"` + strings.Repeat("x", 300) + `"}}`, fault.Fatal, 1, "trigger of order: id of 300 bytes"},
		"id climbs":               {answers(nil), `{"order":{"id":".."}}`, fault.Fatal, 1, "order ..: GET orders: path: has a dot segment"},
		"no JSON":                 {answers(nil), `order 7`, fault.Fatal, 1, "trigger of order: id: body.order.id: invalid JSON"},
		"too large with it all":   {record(`{"data":{"id":7,"customer_id":"c/1","version":1,"x":"` + strings.Repeat("x", 1<<20) + `"}}`), order7, fault.Fatal, 1, "order 7: publish event of"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, oneSource, tt.api)
			f.cfg.GiveUpAfter = 3 * time.Second // an API that is down for longer is given up on
			f.start()
			seq := f.send(trigger("order.paid", "evt_1"), tt.trigger)
			f.settled("orders")
			r, at := f.reason()
			if at != seq || r.Class != tt.class || r.Attempts != tt.attempts || !strings.HasPrefix(r.Message, tt.reason) {
				t.Errorf("reason %+v for message %d, want class %s after %d attempts: %s", r, at, tt.class, tt.attempts, tt.reason)
			}
			if r.TraceID != strings.Split(traceParent, "-")[1] {
				t.Errorf("trace %q, want the trigger's", r.TraceID)
			}
			if got := f.events(); len(got) > 0 {
				t.Errorf("an event was passed on all the same: %s", got[0].body)
			}
			// Nobody collects here: it is kept even if the advisory is lost.
			l, err := deadletter.Get(t.Context(), f.js, r.Letter)
			if err != nil || l.OriginalSequence != seq || l.Stage != topology.StageEnrich || string(l.Payload) != tt.trigger {
				t.Errorf("dead letter %d: %+v, %v", r.Letter, l, err)
			}
		})
	}
}

func TestForeignMessageIsGivenUp(t *testing.T) {
	t.Parallel()
	f := setup(t, oneSource, answers(whole()))
	f.start()
	if _, err := f.js.Publish(t.Context(), "tercel.raw.orders._.order.paid", []byte(order7)); err != nil {
		t.Fatal(err)
	}
	other := trigger("order.paid", "evt_2")
	other.Source = "others"
	m := other.Header()
	msg := rawMessage("tercel.raw.orders._.order.paid", m, order7)
	msg.Header.Set(jetstream.MsgIDHeader, "x")
	if _, err := f.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	f.eventually("two advisories", func() bool { return len(f.messages(topology.StreamAdvisories)) == 2 })
	if len(f.events()) > 0 {
		t.Error("a message that Tercel did not write became an event")
	}
}

func TestOptionalRelatedRecordMayBeAbsent(t *testing.T) {
	t.Parallel()
	m := whole()
	delete(m, "/orders/7/notes")
	f := setup(t, oneSource, answers(m))
	f.start()
	f.send(trigger("order.paid", "evt_1"), order7)
	f.eventually("an event", func() bool { return len(f.events()) == 1 })
	if got := f.events()[0].body; !strings.HasSuffix(got, `"related":{"customer":{"id":"c/1"},"notes":null}}`) {
		t.Errorf("body %s, want notes of null", got)
	}
}

// When the API asks for time, the trigger is not tried before, and the source
// stands still without using up the attempts of the triggers behind it.
func TestRetryAfterIsHonouredAndPausesTheSource(t *testing.T) {
	t.Parallel()
	var first, second atomic.Int64
	ok := answers(whole())
	f := setup(t, oneSource, func(w http.ResponseWriter, r *http.Request) {
		now := time.Now().UnixNano()
		if first.CompareAndSwap(0, now) {
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		second.CompareAndSwap(0, now)
		ok(w, r)
	})
	f.cfg.Workers = 1
	f.start()
	const n = 30
	for i := range n {
		f.send(trigger("order.paid", fmt.Sprint("evt_", i)), order7)
	}
	f.eventually("a pause", func() bool { return f.consumer("orders").Paused })
	f.eventually("all events", func() bool { return len(f.events()) == n })
	f.settled("orders")
	if wait := time.Duration(second.Load() - first.Load()); wait < 1900*time.Millisecond {
		t.Errorf("asked again after %s, want 2s", wait)
	}
	if got := len(f.messages(topology.StreamAdvisories)); got > 0 {
		t.Errorf("%d triggers were given up", got)
	}
}

const twoSources = oneSource + `
  hub:
    verify: {scheme: hmac-sha256, header: X-Signature, encoding: hex, signed: "{body}"}
    secrets: [env:SECRET]
    event: {id: body.id, type: body.kind}
    api: {base: "%s/hub", allow_private: true}
    resources:
      issue: {triggers: [issue.*], id: body.id, get: "/issues/{id}", version: record.version}
`

func TestOneDeadAPIHoldsUpNoOtherSource(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release) // or the API's server would never end
	f := setup(t, twoSources, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/hub/") {
			<-release // hangs as long as the test looks
			w.WriteHeader(500)
			return
		}
		fmt.Fprint(w, `{"id":"i","version":1}`)
	})
	f.cfg.Workers = 2
	f.start()
	const n = 50
	for i := range n {
		f.send(trigger("order.paid", fmt.Sprint("evt_", i)), order7)
		e := trigger("issue.opened", fmt.Sprint("evt_", i))
		e.Source = "hub"
		f.send(e, `{"id":"i"}`)
	}
	f.settled("hub")
	if got := f.events(); len(got) != n || got[0].Source != "hub" {
		t.Errorf("%d events, want %d of the source that lives", len(got), n)
	}
}

// Stopping ends the intake; the trigger in hand is finished and acknowledged.
func TestStopFinishesTheWorkInHand(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}), make(chan struct{})
	ok := answers(whole())
	f := setup(t, oneSource, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/orders/7" {
			close(begun)
			<-release
		}
		ok(w, r)
	})
	stop := f.start()
	f.send(trigger("order.paid", "evt_1"), order7)
	<-begun
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	select {
	case <-stopped:
		t.Error("Run() returned with a trigger in hand")
	case <-time.After(300 * time.Millisecond):
	}
	close(release)
	<-stopped
	f.settled("orders")
	if got := len(f.events()); got != 1 || f.asked("/orders/7") != 1 {
		t.Errorf("%d events after %d requests, want 1 after 1", got, f.asked("/orders/7"))
	}
}

func TestNewRefusesBatches(t *testing.T) {
	t.Parallel()
	f := setup(t, oneSource, answers(nil))
	f.cfg.Batch = 2
	if _, err := enricher.New(f.cfg, enricher.Deps{Conn: f.nc, Log: discard}); err == nil {
		t.Error("New() took a batch of 2")
	}
}

func TestHealthyOnlyOnceRunning(t *testing.T) {
	t.Parallel()
	f := setup(t, oneSource, answers(nil))
	s, err := enricher.New(f.cfg, enricher.Deps{Conn: f.nc, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Healthy(t.Context()); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("Healthy() before Run = %v, want no consumer", err)
	}
}
