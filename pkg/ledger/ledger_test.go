package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func setup(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := natstest.Run(t)
	ensure(t, js)
	return js
}

func ensure(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, js jetstream.JetStream) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), js, "orders", "a.b", "order")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func catchUp(t *testing.T, l *ledger.Ledger) uint64 {
	t.Helper()
	through, err := l.CatchUp(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return through
}

func live(id string, v int64, at time.Duration) event.Event {
	version, err := event.ParseVersion(fmt.Sprint(v))
	if err != nil {
		panic(err)
	}
	return event.Event{
		ID: fmt.Sprint(id, v, at), Source: "orders", Account: "a.b", Type: "order.paid", Origin: event.Webhook,
		Resource: "order", RecordID: id, Version: version, ObservedAt: noon.Add(at),
	}
}

func gone(id string, at time.Duration) event.Event {
	e := live(id, 1, at)
	e.Version, e.Deleted = "", true
	return e
}

func publish(t *testing.T, js jetstream.JetStream, events ...event.Event) {
	t.Helper()
	for _, e := range events {
		m := nats.NewMsg(e.EnrichedSubject())
		m.Header, m.Data = e.Header(), []byte(`{"trigger":null,"record":{}}`)
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
}

func number(v int64) event.Version { return live("", v, 0).Version }

// Promise 7: the verdict follows the newest version, whatever order it came in.
func TestLookupComparesWithTheNewest(t *testing.T) {
	t.Parallel()
	text := func(s string) event.Version {
		v, err := event.ParseVersion(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	etag := func(s string, at time.Duration) event.Event {
		e := live("r", 1, at)
		e.Version = text(s)
		return e
	}
	state := func(s string, at time.Duration) event.Event {
		e := live("r", 1, at)
		e.Version = event.SeenVersion(e.ObservedAt, []byte(s))
		return e
	}
	other := live("r", 5, 0)
	other.Resource = "refund"
	tenant := live("r", 5, 0)
	tenant.Account = "a"
	tests := map[string]struct {
		events []event.Event
		listed event.Version
		want   ledger.Verdict
	}{
		"never seen":                              {nil, number(1), ledger.Missed},
		"seen of another resource":                {[]event.Event{other}, number(5), ledger.Missed},
		"seen in another account":                 {[]event.Event{tenant}, number(5), ledger.Missed},
		"seen":                                    {[]event.Event{live("r", 5, 0)}, number(5), ledger.Matched},
		"version zero":                            {[]event.Event{live("r", 0, 0)}, number(0), ledger.Matched},
		"seen older":                              {[]event.Event{live("r", 5, 0)}, number(6), ledger.Stale},
		"seen newer":                              {[]event.Event{live("r", 5, 0)}, number(4), ledger.Ahead},
		"newer, then older":                       {[]event.Event{live("r", 5, 0), live("r", 4, 1)}, number(5), ledger.Matched},
		"by number, not by text":                  {[]event.Event{live("r", 10, 0), live("r", 9, 1)}, number(10), ledger.Matched},
		"deleted":                                 {[]event.Event{live("r", 5, 0), gone("r", 1)}, number(5), ledger.Stale},
		"deleted, then seen earlier":              {[]event.Event{gone("r", 1), live("r", 5, 0)}, number(5), ledger.Stale},
		"deleted, then back":                      {[]event.Event{gone("r", 1), live("r", 5, 2)}, number(5), ledger.Matched},
		"only ever seen deleted":                  {[]event.Event{gone("r", 1)}, number(5), ledger.Missed},
		"the same version observed again":         {[]event.Event{live("r", 5, 0), gone("r", 1), live("r", 5, 2)}, number(5), ledger.Matched},
		"text versions that match":                {[]event.Event{etag("x", 0), etag("a", 1)}, text("a"), ledger.Matched},
		"text versions that don't":                {[]event.Event{etag("x", 0), etag("a", 1)}, text("x"), ledger.Stale},
		"text versions go by when they were seen": {[]event.Event{etag("x", 1), etag("a", 0)}, text("x"), ledger.Matched},
		"a state that was seen":                   {[]event.Event{state("x", 0)}, event.SeenVersion(noon.Add(9), []byte("x")), ledger.Matched},
		"a state that was not":                    {[]event.Event{state("x", 0)}, event.SeenVersion(noon.Add(9), []byte("y")), ledger.Stale},
		"of states the one seen last":             {[]event.Event{state("x", 1), state("y", 0)}, event.SeenVersion(noon.Add(9), []byte("x")), ledger.Matched},
		"times match to the nanosecond":           {[]event.Event{etag("2026-01-02T03:04:05.000000001Z", 0)}, text("2026-01-02T03:04:05.000000001Z"), ledger.Matched},
		"times differ by a nanosecond":            {[]event.Event{etag("2026-01-02T03:04:05.000000001Z", 0)}, text("2026-01-02T03:04:05.000000002Z"), ledger.Stale},
		"times are the same in any zone":          {[]event.Event{etag("2026-01-02T03:04:05Z", 0)}, text("2026-01-02T04:04:05+01:00"), ledger.Matched},
		"a fraction is compared for equality":     {[]event.Event{etag("1.5", 0)}, text("1.50"), ledger.Matched},
		"a number beyond 63 bits is as well":      {[]event.Event{etag("18446744073709551616", 0)}, text("18446744073709551617"), ledger.Stale},
		"observed before 1970 by a dead clock":    {[]event.Event{live("r", 5, -60*365*24*time.Hour)}, number(5), ledger.Matched},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := setup(t)
			publish(t, js, tt.events...)
			l := open(t, js)
			catchUp(t, l)
			if got := l.Lookup("r", tt.listed); got != tt.want {
				t.Errorf("Lookup() = %s, want %s", got, tt.want)
			}
			if got := open(t, js).Lookup("r", tt.listed); got != tt.want {
				t.Errorf("Lookup() after opening it again = %s, want %s", got, tt.want)
			}
		})
	}
}

// model is what the ledger must know, in the plainest way.
type model map[string]struct{ version, observed, deleted int64 }

func (m model) see(e event.Event, v int64) {
	s := m[e.RecordID]
	at := e.ObservedAt.UnixNano()
	switch {
	case e.Deleted:
		s.deleted = max(s.deleted, at)
	case s.observed == 0 || v > s.version || v == s.version && at > s.observed:
		s.version, s.observed = v, at
	}
	m[e.RecordID] = s
}

func (m model) lookup(id string, v int64) ledger.Verdict {
	s := m[id]
	switch {
	case s.observed == 0:
		return ledger.Missed
	case s.deleted > s.observed || v > s.version:
		return ledger.Stale
	case v == s.version:
		return ledger.Matched
	default:
		return ledger.Ahead
	}
}

func TestLedgerAgreesWithModel(t *testing.T) {
	t.Parallel()
	js := setup(t)
	m, l := model{}, open(t, js)
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 12 {
		for range 60 {
			id, v, at := fmt.Sprint("r", rnd.IntN(20)), rnd.Int64N(6), time.Duration(rnd.IntN(1000))
			e := live(id, v, at)
			if rnd.IntN(4) == 0 {
				e = gone(id, at)
			}
			publish(t, js, e)
			m.see(e, v)
		}
		if rnd.IntN(2) == 0 {
			l = open(t, js)
		}
		if through := catchUp(t, l); through != uint64(60*(round+1)) {
			t.Fatalf("CatchUp() = %d, want %d", through, 60*(round+1))
		}
		for i := range 22 {
			for v := range int64(7) {
				id := fmt.Sprint("r", i)
				if got, want := l.Lookup(id, number(v)), m.lookup(id, v); got != want {
					t.Fatalf("round %d: Lookup(%s, %d) = %s, want %s", round, id, v, got, want)
				}
			}
		}
	}
}

// What is lost, broken or of another stream costs a read of the stream, and
// never gives a wrong answer.
func TestLedgerIsRebuilt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		harm func(context.Context, jetstream.JetStream, jetstream.KeyValue) error
		// lost says that the stream lost its events, so the ledger must not
		// claim to have seen them.
		lost bool
	}{
		"its block is rubbish": {harm: func(ctx context.Context, _ jetstream.JetStream, kv jetstream.KeyValue) error {
			_, err := kv.PutString(ctx, "orders.a=2Eb.order.1", "rubbish")
			return err
		}},
		"a block was added": {harm: func(ctx context.Context, _ jetstream.JetStream, kv jetstream.KeyValue) error {
			_, err := kv.PutString(ctx, "orders.a=2Eb.order.7", "")
			return err
		}},
		"its block is gone": {harm: func(ctx context.Context, _ jetstream.JetStream, kv jetstream.KeyValue) error {
			return kv.Purge(ctx, "orders.a=2Eb.order.1")
		}},
		"its bucket is gone": {harm: func(ctx context.Context, js jetstream.JetStream, _ jetstream.KeyValue) error {
			return js.DeleteKeyValue(ctx, topology.BucketLedger)
		}},
		"the stream was made anew": {lost: true, harm: func(ctx context.Context, js jetstream.JetStream, _ jetstream.KeyValue) error {
			return js.DeleteStream(ctx, topology.StreamEnriched)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := setup(t)
			publish(t, js, live("a", 1, 0), live("b", 1, 0))
			catchUp(t, open(t, js))
			kv, err := js.KeyValue(t.Context(), topology.BucketLedger)
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.harm(t.Context(), js, kv); err != nil {
				t.Fatal(err)
			}
			ensure(t, js)
			publish(t, js, live("b", 2, 1), live("x", 1, 1), live("x", 2, 1))
			want := map[string]ledger.Verdict{"a": ledger.Matched, "b": ledger.Ahead, "x": ledger.Ahead}
			if tt.lost {
				want["a"] = ledger.Missed
			}
			for range 2 {
				l := open(t, js)
				catchUp(t, l)
				for id, verdict := range want {
					if got := l.Lookup(id, number(1)); got != verdict {
						t.Errorf("Lookup(%s) = %s, want %s", id, got, verdict)
					}
				}
			}
		})
	}
}

// Promise 6: a stream that lost its tail in a power cut, and has grown beyond
// its old end since, gives its sequences to other events. What was seen in the
// lost tail must not count as seen.
func TestPromise6ATailThatWasLostIsNotRemembered(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, false)
	js, err := jetstream.New(srv.Connect(), natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	ensure(t, js)
	publish(t, js, live("a", 1, 0))
	srv.Stop()
	dir, before := filepath.Join(srv.StoreDir(), "jetstream", "$G", "streams", topology.StreamEnriched), t.TempDir()
	if err := os.CopyFS(before, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	srv.Resume()
	publish(t, js, live("b", 1, 0))
	catchUp(t, open(t, js))
	srv.Stop()
	if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(before))); err != nil {
		t.Fatal(err)
	}
	srv.Resume()
	publish(t, js, live("c", 1, 1), live("d", 1, 1))

	l := open(t, js)
	catchUp(t, l)
	for id, want := range map[string]ledger.Verdict{
		"a": ledger.Matched, "b": ledger.Missed, "c": ledger.Matched, "d": ledger.Matched,
	} {
		if got := l.Lookup(id, number(1)); got != want {
			t.Errorf("Lookup(%s) = %s, want %s", id, got, want)
		}
	}
}

func TestSecondWriterIsRefused(t *testing.T) {
	t.Parallel()
	js := setup(t)
	first, second := open(t, js), open(t, js)
	publish(t, js, live("a", 1, 0))
	catchUp(t, first)
	if _, err := second.CatchUp(t.Context()); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("CatchUp() of the second to begin a block = %v, want ErrConflict", err)
	}
	second = open(t, js)
	publish(t, js, live("b", 1, 0))
	catchUp(t, first)
	if _, err := second.CatchUp(t.Context()); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("CatchUp() of the second to go on with a block = %v, want ErrConflict", err)
	}
}

// What something else wrote under an enriched subject is passed over.
func TestForeignMessagesArePassedOver(t *testing.T) {
	t.Parallel()
	js := setup(t)
	broken := nats.NewMsg(live("a", 1, 0).EnrichedSubject())
	broken.Header.Set(event.HeaderResource, "order")
	if _, err := js.PublishMsg(t.Context(), broken); err != nil {
		t.Fatal(err)
	}
	publish(t, js, live("a", 1, 0))
	l := open(t, js)
	if through := catchUp(t, l); through != 2 || l.Len() != 1 {
		t.Errorf("CatchUp() = %d with %d records, want 2 with 1", through, l.Len())
	}
}

// All yields what is held: seen alive, and not to be gone since.
func TestAllIsWhatIsHeld(t *testing.T) {
	t.Parallel()
	js := setup(t)
	publish(t, js, live("a", 1, time.Minute), live("A", 1, 0), live("gone", 1, 0), gone("gone", time.Second), gone("never", 0),
		live("back", 1, 0), gone("back", time.Minute), live("back", 1, time.Hour), live("a", 1, 0))
	l, err := ledger.OpenView(t.Context(), js, "orders", "a.b", "order")
	if err != nil {
		t.Fatal(err)
	}
	catchUp(t, l)
	want := map[uint64]time.Time{
		ledger.Hash("a"): noon.Add(time.Minute), ledger.Hash("A"): noon, ledger.Hash("back"): noon.Add(time.Hour),
	}
	got := map[uint64]time.Time{}
	for id, seen := range l.All() {
		got[id] = seen.UTC()
	}
	if !maps.Equal(got, want) {
		t.Errorf("All() = %v, want %v", got, want)
	}
	for range l.All() { // ends when it is told to
		break
	}
}

func ExampleLedger() {
	verdict := func(l *ledger.Ledger, id string, v event.Version) string {
		if l.Lookup(id, v) == ledger.Matched {
			return id + " needs nothing"
		}
		return id + " is sent again"
	}
	fmt.Println(verdict(&ledger.Ledger{}, "ord_1", event.TimeVersion(noon))) // an empty ledger has seen nothing
	// Output: ord_1 is sent again
}
