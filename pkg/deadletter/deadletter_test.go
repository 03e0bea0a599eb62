package deadletter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

func setup(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	return js
}

func trigger(source, id string) event.Event {
	return event.Event{
		ID: id, DeliveryID: id, Source: source, Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook,
		ContentType: "application/json", ReceivedAt: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC),
	}
}

// store publishes a trigger as the ingress does and returns its place.
func store(t *testing.T, js jetstream.JetStream, e event.Event, body []byte) uint64 {
	t.Helper()
	m := nats.NewMsg(e.RawSubject())
	m.Header, m.Data = e.Header(), body
	ack, err := js.PublishMsg(t.Context(), m, jetstream.WithMsgID(e.MsgID()))
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// letter is what the collector knows of a trigger that the enricher gave up.
func letter(t *testing.T, js jetstream.JetStream, seq uint64) deadletter.Letter {
	t.Helper()
	m := get(t, js, topology.StreamRaw, seq)
	source := strings.Split(m.Subject, ".")[2]
	return deadletter.Letter{
		Subject: m.Subject, Stream: topology.StreamRaw, OriginalSequence: seq, StoredAt: m.Time,
		Consumer: topology.EnrichDurable(source), MsgID: m.Header.Get(jetstream.MsgIDHeader),
		Kind: deadletter.Terminated, DeadAt: time.Date(2026, 11, 2, 9, 0, 0, 5, time.UTC),
		Reason: consume.Reason{
			Class: fault.Fatal, Message: "order 7: no such record\nsecond line, ü", Attempts: 3,
			FirstAt: m.Time.UTC(), LastAt: m.Time.UTC().Add(time.Second), TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
		},
		Header: m.Header, Payload: m.Data,
	}
}

func get(t *testing.T, js jetstream.JetStream, stream string, seq uint64) *jetstream.RawStreamMsg {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), seq)
	if err != nil {
		t.Fatalf("message %s %d: %v", stream, seq, err)
	}
	return m
}

func publish(t *testing.T, js jetstream.JetStream, l deadletter.Letter) uint64 {
	t.Helper()
	ack, err := deadletter.Publish(t.Context(), js, l)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

func messages(t *testing.T, js jetstream.JetStream, stream string) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// Promise 8: a letter keeps the original's bytes and attributes and all that
// is known of the failure.
func TestLetterKeepsTheWholeContext(t *testing.T) {
	t.Parallel()
	js := setup(t)
	want := trigger("orders", "evt_1")
	body := []byte("{\"id\": 7,\n \"id\": 8}") // not a byte is changed, though no strict reader takes it
	in := letter(t, js, store(t, js, want, body))
	seq := publish(t, js, in)

	if m := get(t, js, topology.StreamDLQ, seq); m.Subject != "tercel.dlq.enrich.orders._.order.paid" {
		t.Errorf("subject %s", m.Subject)
	} else if id := m.Header.Get(jetstream.MsgIDHeader); id != fmt.Sprint("dlq:TERCEL_RAW:enrich_orders:1:", in.StoredAt.UnixNano()) {
		t.Errorf("message id %s", id)
	}
	got, err := deadletter.Get(t.Context(), js, seq)
	if err != nil {
		t.Fatal(err)
	}
	if got.Event != want {
		t.Errorf("event\n got %+v\nwant %+v", got.Event, want)
	}
	if !bytes.Equal(got.Payload, body) || got.PayloadMissing {
		t.Errorf("payload %q, missing %t", got.Payload, got.PayloadMissing)
	}
	if !got.StoredAt.Equal(in.StoredAt) {
		t.Errorf("stored at %s, want %s", got.StoredAt, in.StoredAt)
	}
	if got.Reason != in.Reason {
		t.Errorf("reason\n got %+v\nwant %+v", got.Reason, in.Reason)
	}
	type place struct {
		Sequence, Original                         uint64
		Stage, Name, Subject, Stream, Cons, ID, At string
		Kind                                       deadletter.Kind
		State                                      deadletter.State
	}
	place1 := place{
		got.Sequence, got.OriginalSequence, got.Stage, got.Name, got.Subject, got.Stream, got.Consumer, got.MsgID,
		got.DeadAt.Format(time.RFC3339Nano), got.Kind, got.State,
	}
	place2 := place{
		seq, 1, "enrich", "orders", "tercel.raw.orders._.order.paid", "TERCEL_RAW", "enrich_orders", "orders:_:evt_1",
		"2026-11-02T09:00:00.000000005Z", deadletter.Terminated, deadletter.StateOpen,
	}
	if place1 != place2 {
		t.Errorf("letter\n got %+v\nwant %+v", place1, place2)
	}
}

// Promise 4: an advisory that comes twice makes one letter.
func TestSameFailureIsStoredOnce(t *testing.T) {
	t.Parallel()
	js := setup(t)
	l := letter(t, js, store(t, js, trigger("orders", "evt_1"), []byte("{}")))
	first := publish(t, js, l)
	l.DeadAt = l.DeadAt.Add(time.Minute)
	ack, err := deadletter.Publish(t.Context(), js, l)
	if err != nil || !ack.Duplicate || ack.Sequence != first {
		t.Errorf("second Publish() = %+v, %v, want a duplicate of %d", ack, err, first)
	}
	if n := messages(t, js, topology.StreamDLQ); n != 1 {
		t.Errorf("%d letters, want 1", n)
	}
}

// Promise 3: a stream that has lost its end, as in a power cut, gives its sequences
// out again. The message that comes under one gets a letter of its own, and is not
// taken for the original of the letter that was there first.
func TestPromise3ASequenceThatComesTwiceHasTwoLetters(t *testing.T) {
	t.Parallel()
	js := setup(t)
	keep := deadletter.Keep(js, topology.EnrichDurable("orders"))
	body := bytes.Repeat([]byte("x"), int(js.Conn().MaxPayload())-600) // has no room in a letter
	var letters []uint64
	for _, id := range []string{"evt_lost", "evt_new"} {
		m := get(t, js, topology.StreamRaw, store(t, js, trigger("orders", id), body))
		if m.Sequence != 1 {
			t.Fatalf("%s has sequence %d: the case is not the one meant", id, m.Sequence)
		}
		letter, err := keep(t.Context(), consume.Message{
			Subject: m.Subject, Header: m.Header, Data: m.Data, Stream: topology.StreamRaw, Sequence: m.Sequence, StoredAt: m.Time,
		}, consume.Reason{Class: fault.Fatal, Message: "no such record"})
		if err != nil {
			t.Fatal(err)
		}
		letters = append(letters, letter)
		if id == "evt_new" {
			break
		}
		if err := js.DeleteStream(t.Context(), topology.StreamRaw); err != nil {
			t.Fatal(err)
		}
		again(t, js)
	}
	if letters[0] == letters[1] {
		t.Fatalf("both have letter %d", letters[0])
	}
	for i, want := range []struct {
		id      string
		missing bool
	}{{"evt_lost", true}, {"evt_new", false}} {
		if l, err := deadletter.Get(t.Context(), js, letters[i]); err != nil || l.Event.ID != want.id || l.PayloadMissing != want.missing {
			t.Errorf("letter %d is of %s, payload missing %t, %v; want %+v", letters[i], l.Event.ID, l.PayloadMissing, err, want)
		}
	}
}

// again makes the streams that are missing. A server that has just deleted one
// may refuse that for a moment.
func again(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; <-time.After(20 * time.Millisecond) {
		err := topology.Ensure(t.Context(), js, topology.DefaultConfig())
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// The headers that a server obeys are never copied: a rollup would empty the
// stream of dead letters.
func TestControlHeadersAreNotCopied(t *testing.T) {
	t.Parallel()
	js := setup(t)
	publish(t, js, letter(t, js, store(t, js, trigger("orders", "evt_1"), []byte("{}"))))
	l := letter(t, js, store(t, js, trigger("orders", "evt_2"), []byte("{}")))
	for name, value := range map[string]string{
		"Nats-Rollup": "all", "nats-ttl": "1s", "Nats-Expected-Last-Sequence": "99", "NATS-Schedule": "@at x",
		"tercel-dead-payload": "missing", "Tercel-Dead-Kind": "forged",
	} {
		l.Header[name] = []string{value}
	}
	got, err := deadletter.Get(t.Context(), js, publish(t, js, l))
	if err != nil {
		t.Fatal(err)
	}
	if got.PayloadMissing || got.Kind != deadletter.Terminated {
		t.Errorf("the original's own words were believed: %+v", got)
	}
	for name := range get(t, js, topology.StreamDLQ, got.Sequence).Header {
		lower := strings.ToLower(name)
		known := []string{
			jetstream.MsgIDHeader, "Nats-Stream", "Nats-Sequence", "Nats-Subject", "Nats-Time-Stamp", "Nats-Expected-Stream",
		}
		if strings.HasPrefix(lower, "nats-") && !slices.Contains(known, name) {
			t.Errorf("header %s was copied", name)
		}
	}
	if n := messages(t, js, topology.StreamDLQ); n != 2 {
		t.Errorf("%d letters, want 2", n)
	}
}

func TestOriginalThatIsGone(t *testing.T) {
	t.Parallel()
	js := setup(t)
	l := deadletter.Letter{
		Stream: topology.StreamEnriched, Consumer: topology.DeliverDurable("warehouse"), OriginalSequence: 7,
		Kind: deadletter.Terminated, PayloadMissing: true, Reason: consume.DecodeReason("Unacknowledged message was deleted"),
	}
	seq := publish(t, js, l)
	if m := get(t, js, topology.StreamDLQ, seq); m.Subject != "tercel.dlq.deliver.warehouse._.unknown" {
		t.Errorf("subject %s", m.Subject)
	}
	got, err := deadletter.Get(t.Context(), js, seq)
	if err != nil {
		t.Fatal(err)
	}
	if !got.PayloadMissing || got.Reason.Message != "Unacknowledged message was deleted" || got.Event != (event.Event{}) {
		t.Errorf("letter %+v", got)
	}
	_, err = deadletter.Replay(t.Context(), js, seq, deadletter.ReplayOptions{Force: true})
	if !errors.Is(err, deadletter.ErrPayloadMissing) {
		t.Errorf("Replay() = %v, want ErrPayloadMissing", err)
	}
}

// Promise 3: an original that fills the server's limits makes a letter all the
// same, and can be replayed as long as it is kept.
func TestOriginalAtTheLimits(t *testing.T) {
	t.Parallel()
	js := setup(t)
	e := trigger("orders", "evt_1")
	room := int(js.Conn().MaxPayload()) - 600 // its own headers take about 400
	body := bytes.Repeat([]byte("x"), room)
	first := store(t, js, e, body)
	big := publish(t, js, letter(t, js, first))
	if n := len(get(t, js, topology.StreamDLQ, big).Data); n != 0 {
		t.Fatalf("the letter has %d bytes of payload: the case is not the one meant", n)
	}
	got, err := deadletter.Get(t.Context(), js, big)
	if err != nil || !bytes.Equal(got.Payload, body) || got.PayloadMissing {
		t.Errorf("payload of %d bytes, missing %t, %v; want the original's %d", len(got.Payload), got.PayloadMissing, err, room)
	}
	again, err := deadletter.Replay(t.Context(), js, big, deadletter.ReplayOptions{})
	if err != nil || !bytes.Equal(get(t, js, topology.StreamRaw, again.Sequence).Data, body) {
		t.Errorf("Replay() = %+v, %v", again, err)
	}

	l := letter(t, js, first)
	l.OriginalSequence = 99
	l.Payload = []byte("{}")
	for i := range 60 {
		l.Header.Set(fmt.Sprintf("X-Header-%d", i), strings.Repeat("v", 1000))
	}
	got, err = deadletter.Get(t.Context(), js, publish(t, js, l))
	if err != nil || got.Event != e {
		t.Errorf("event of a letter with many headers: %+v, %v; want %+v", got.Event, err, e)
	}

	s, err := js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got, err = deadletter.Get(t.Context(), js, big); err != nil || !got.PayloadMissing {
		t.Errorf("payload missing %t, %v, after the original is gone", got.PayloadMissing, err)
	}
}

func TestGetOfNothing(t *testing.T) {
	t.Parallel()
	js := setup(t)
	for _, seq := range []uint64{0, 1, 99} {
		if _, err := deadletter.Get(t.Context(), js, seq); !errors.Is(err, deadletter.ErrNotFound) {
			t.Errorf("Get(%d) = %v, want ErrNotFound", seq, err)
		}
	}
}

func sequences(t *testing.T, js jetstream.JetStream, f deadletter.Filter) []uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	seqs := []uint64{}
	for l, err := range deadletter.List(ctx, js, f) {
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, l.Sequence)
	}
	return seqs
}

func TestListChooses(t *testing.T) {
	t.Parallel()
	js := setup(t)
	if got := sequences(t, js, deadletter.Filter{}); len(got) != 0 {
		t.Fatalf("List() of an empty stream = %d", got)
	}
	for i := range 3 { // 1, 3, 5 of orders; 2, 4, 6 of stripe
		for _, source := range []string{"orders", "stripe"} {
			publish(t, js, letter(t, js, store(t, js, trigger(source, fmt.Sprint("evt_", i)), []byte("{}"))))
		}
	}
	gone := deadletter.Letter{OriginalSequence: 50, PayloadMissing: true}
	gone.Stream, gone.Consumer = topology.StreamRaw, topology.EnrichDurable("orders")
	publish(t, js, gone) // 7
	gone.Stream, gone.Consumer = topology.StreamEnriched, topology.DeliverDurable("orders")
	publish(t, js, gone) // 8
	if _, err := deadletter.Replay(t.Context(), js, 3, deadletter.ReplayOptions{}); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		filter deadletter.Filter
		want   []uint64
	}{
		"all":                          {deadletter.Filter{}, []uint64{1, 2, 3, 4, 5, 6, 7, 8}},
		"of a source":                  {deadletter.Filter{Source: "orders"}, []uint64{1, 3, 5, 7}},
		"of a stage":                   {deadletter.Filter{Stage: topology.StageDeliver}, []uint64{8}},
		"of a source and a stage":      {deadletter.Filter{Source: "stripe", Stage: topology.StageEnrich}, []uint64{2, 4, 6}},
		"of a source that has none":    {deadletter.Filter{Source: "github"}, []uint64{}},
		"of a source with a wild name": {deadletter.Filter{Source: ">"}, []uint64{}},
		"replayed":                     {deadletter.Filter{States: []deadletter.State{deadletter.StateReplayed}}, []uint64{3}},
		"open":                         {deadletter.Filter{States: []deadletter.State{deadletter.StateOpen}, Source: "orders"}, []uint64{1, 5, 7}},
		"any of two states": {
			deadletter.Filter{States: []deadletter.State{deadletter.StateReplayed, deadletter.StateOpen}, Limit: 3}, []uint64{1, 2, 3},
		},
		"discarded, of which there is none": {deadletter.Filter{States: []deadletter.State{deadletter.StateDiscarded}}, []uint64{}},
		"of an event":                       {deadletter.Filter{EventID: "evt_1"}, []uint64{3, 4}},
		"of an account":                     {deadletter.Filter{Account: event.NoAccount, Source: "orders"}, []uint64{1, 3, 5}},
		"of an account that isn't there":    {deadletter.Filter{Account: "north"}, []uint64{}},
		"of a type":                         {deadletter.Filter{Type: "order.*", Source: "orders"}, []uint64{1, 3, 5}},
		"of another type":                   {deadletter.Filter{Type: "invoice.>"}, []uint64{}},
		"of a destination":                  {deadletter.Filter{Destination: "orders"}, []uint64{8}},
		"by number":                         {deadletter.Filter{Sequences: []uint64{6, 2, 99, 0}}, []uint64{2, 6}},
		"before one":                        {deadletter.Filter{Before: 3}, []uint64{1, 2}},
		"between two":                       {deadletter.Filter{After: 3, Before: 6}, []uint64{4, 5}},
		"given up before a time":            {deadletter.Filter{Until: time.Date(2026, 11, 2, 9, 0, 0, 5, time.UTC), Source: "stripe"}, []uint64{}},
		"of a group": {
			deadletter.Filter{Fingerprint: fingerprint(t, js, 2)}, []uint64{2, 4, 6},
		},
		"the first two":                   {deadletter.Filter{Limit: 2}, []uint64{1, 2}},
		"the next two":                    {deadletter.Filter{After: 2, Limit: 2}, []uint64{3, 4}},
		"behind the last":                 {deadletter.Filter{After: 8}, []uint64{}},
		"behind the last of its source":   {deadletter.Filter{After: 6, Source: "stripe"}, []uint64{}},
		"since a time that has not come":  {deadletter.Filter{Since: time.Now().Add(time.Hour)}, []uint64{}},
		"since a time before all of them": {deadletter.Filter{Since: time.Now().Add(-time.Hour), Limit: 1}, []uint64{1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := sequences(t, js, tt.filter); !slices.Equal(got, tt.want) {
				t.Errorf("List() = %d, want %d", got, tt.want)
			}
			if tt.filter.Limit > 0 || !tt.filter.Since.IsZero() {
				return
			}
			var got []uint64
			for l, err := range deadletter.Newest(t.Context(), js, tt.filter) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, l.Sequence)
			}
			if slices.Reverse(got); !slices.Equal(got, tt.want) {
				t.Errorf("Newest() reversed = %d, want %d", got, tt.want)
			}
		})
	}
	if n := messages(t, js, topology.StreamDLQ); n != 8 {
		t.Errorf("%d letters after looking at them, want 8", n)
	}
}

func fingerprint(t *testing.T, js jetstream.JetStream, seq uint64) string {
	t.Helper()
	l, err := deadletter.Get(t.Context(), js, seq)
	if err != nil {
		t.Fatal(err)
	}
	return l.Fingerprint()
}

// A list ends at the end of the stream as it was at the call, even when its
// reader makes new letters all the time.
func TestListEnds(t *testing.T) {
	t.Parallel()
	js := setup(t)
	const n = 50
	l := letter(t, js, store(t, js, trigger("orders", "evt"), []byte("{}")))
	for i := range uint64(n) {
		l.OriginalSequence = i + 1
		publish(t, js, l)
	}
	listed := uint64(0)
	for got, err := range deadletter.List(t.Context(), js, deadletter.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		listed++
		l.OriginalSequence = n + listed
		publish(t, js, l)
		if got.Payload != nil {
			t.Error("a list carries payloads")
		}
	}
	if listed != n {
		t.Errorf("listed %d, want %d", listed, n)
	}
}

// Inside the dedup window, where the original's id is still known, a replay
// stores a new message.
func TestReplayStoresTheMessageAgain(t *testing.T) {
	t.Parallel()
	js := setup(t)
	e := trigger("orders", "evt_1")
	body := []byte(`{"id":7}`)
	seq := publish(t, js, letter(t, js, store(t, js, e, body)))
	got, err := deadletter.Replay(t.Context(), js, seq, deadletter.ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Stream != topology.StreamRaw || got.Sequence != 2 || !strings.HasPrefix(got.MsgID, "orders:_:evt_1:replay:") {
		t.Errorf("Replay() = %+v", got)
	}
	m := get(t, js, topology.StreamRaw, got.Sequence)
	if m.Subject != e.RawSubject() || !bytes.Equal(m.Data, body) || m.Header.Get(jetstream.MsgIDHeader) != got.MsgID {
		t.Errorf("sent again as %s %q %v", m.Subject, m.Data, m.Header)
	}
	again, err := event.FromHeader(m.Header)
	e.Origin, e.TriggerSequence = event.Replay, 1
	if err != nil || again != e {
		t.Errorf("event\n got %+v, %v\nwant %+v", again, err, e)
	}
	for name := range m.Header {
		if strings.HasPrefix(name, "tercel-dead-") {
			t.Errorf("header %s was sent to the stage", name)
		}
	}

	// The message that was sent again fails, too: its letter's replay still
	// names the first trigger.
	second, err := deadletter.Replay(t.Context(), js, publish(t, js, letter(t, js, 2)), deadletter.ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if first := get(t, js, topology.StreamRaw, second.Sequence).Header.Get(event.HeaderTriggerSequence); first != "1" {
		t.Errorf("the second replay names trigger %s, want 1", first)
	}
}

func TestReplayTwiceNeedsForce(t *testing.T) {
	t.Parallel()
	js := setup(t)
	seq := publish(t, js, letter(t, js, store(t, js, trigger("orders", "evt_1"), []byte("{}"))))
	first, err := deadletter.Replay(t.Context(), js, seq, deadletter.ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = deadletter.Replay(t.Context(), js, seq, deadletter.ReplayOptions{})
	if !errors.Is(err, deadletter.ErrReplayed) || !strings.Contains(err.Error(), first.MsgID) ||
		!strings.Contains(err.Error(), first.At.Format(time.RFC3339)) {
		t.Errorf("second Replay() = %v, want ErrReplayed that says when and as what", err)
	}
	if n := messages(t, js, topology.StreamRaw); n != 2 {
		t.Fatalf("%d triggers, want 2", n)
	}
	second, err := deadletter.Replay(t.Context(), js, seq, deadletter.ReplayOptions{Force: true})
	if err != nil || second.Sequence != 3 || second.MsgID == first.MsgID {
		t.Errorf("forced Replay() = %+v, %v", second, err)
	}
	l, err := deadletter.Get(t.Context(), js, seq)
	if err != nil || l.State != deadletter.StateReplayed || l.Replayed == nil || l.Replayed.MsgID != second.MsgID {
		t.Errorf("Get() = %s, %+v, %v", l.State, l.Replayed, err)
	}
}

// Promise 5: a replay that could not be stored leaves its letter open.
func TestReplayThatFailsLeavesTheLetterOpen(t *testing.T) {
	t.Parallel()
	js := setup(t)
	seq := publish(t, js, letter(t, js, store(t, js, trigger("orders", "evt_1"), []byte("{}"))))
	if err := js.DeleteStream(t.Context(), topology.StreamRaw); err != nil {
		t.Fatal(err)
	}
	if _, err := deadletter.Replay(t.Context(), js, seq, deadletter.ReplayOptions{}); err == nil {
		t.Fatal("Replay() into no stream succeeded")
	}
	if l, err := deadletter.Get(t.Context(), js, seq); err != nil || l.State != deadletter.StateOpen {
		t.Errorf("Get() = %s, %v", l.State, err)
	}
}

// A dead letter of a destination goes to the events again and still answers
// the trigger that it answered.
func TestReplayOfAnEventKeepsItsTrigger(t *testing.T) {
	t.Parallel()
	js := setup(t)
	e := trigger("orders", "evt_1")
	e.TriggerSequence = 41
	m := nats.NewMsg(e.EnrichedSubject())
	m.Header, m.Data = e.Header(), event.Body{}.Encode()
	if _, err := js.PublishMsg(t.Context(), m, jetstream.WithMsgID(e.MsgID())); err != nil {
		t.Fatal(err)
	}
	seq := publish(t, js, deadletter.Letter{
		Subject: m.Subject, Stream: topology.StreamEnriched, OriginalSequence: 1, Kind: deadletter.MaxDeliver,
		Consumer: topology.DeliverDurable("warehouse"), MsgID: e.MsgID(), Header: m.Header, Payload: m.Data,
	})
	got, err := deadletter.Replay(t.Context(), js, seq, deadletter.ReplayOptions{})
	if err != nil || got.Stream != topology.StreamEnriched {
		t.Fatalf("Replay() = %+v, %v", got, err)
	}
	header := get(t, js, topology.StreamEnriched, got.Sequence).Header.Get(event.HeaderTriggerSequence)
	if want := strconv.Itoa(41); header != want {
		t.Errorf("%s: %s, want %s", event.HeaderTriggerSequence, header, want)
	}
}

// Letters of one cause have one fingerprint: what names the record in hand is left
// out of it.
func ExampleLetter_Fingerprint() {
	for _, id := range []string{"7", "8"} {
		l := deadletter.Letter{Stage: "enrich", Name: "orders", Reason: consume.Reason{
			Class: fault.Fatal, Message: "get order " + id + ": 404 Not Found",
		}}
		fmt.Println(l.Fingerprint())
	}
	// Output:
	// 48124a2b5de5
	// 48124a2b5de5
}
