package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// undelivered stores a trigger and the event that answers it, and returns the
// letter of a destination that could not be served with it.
func undelivered(t *testing.T, js jetstream.JetStream, id, destination string) (letter, first uint64) {
	t.Helper()
	return undeliveredOf(t, js, trigger("orders", id), destination)
}

func undeliveredOf(t *testing.T, js jetstream.JetStream, e event.Event, destination string) (letter, first uint64) {
	t.Helper()
	first = store(t, js, e, []byte(`{"order":7}`))
	e.Resource, e.RecordID, e.Version, e.ObservedAt = "order", "7", event.TimeVersion(time.Unix(1, 0)), time.Unix(2, 0)
	e.TriggerSequence = first
	m := event.Body{Record: []byte(`{"id":"7","note":"old"}`)}.Encode()
	msg := nats.NewMsg(e.EnrichedSubject())
	msg.Header, msg.Data = e.Header(), m
	ack, err := js.PublishMsg(t.Context(), msg, jetstream.WithMsgID(e.MsgID()))
	if err != nil {
		t.Fatal(err)
	}
	return publish(t, js, deadletter.Letter{
		Subject: msg.Subject, Stream: topology.StreamEnriched, OriginalSequence: ack.Sequence,
		Consumer: topology.DeliverDurable(destination), MsgID: e.MsgID(), Kind: deadletter.Terminated,
		DeadAt: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC), Header: msg.Header, Payload: m,
	}), first
}

func replay(t *testing.T, js jetstream.JetStream, seq uint64, o deadletter.ReplayOptions) *jetstream.RawStreamMsg {
	t.Helper()
	r, err := deadletter.Replay(t.Context(), js, seq, o)
	if err != nil {
		t.Fatal(err)
	}
	return get(t, js, r.Stream, r.Sequence)
}

// What one destination could not take is not sent to the others again, unless
// that is asked for.
func TestReplayGoesToTheChosenDestinations(t *testing.T) {
	t.Parallel()
	js := setup(t)
	seq, _ := undelivered(t, js, "evt_1", "crm")
	for name, tt := range map[string]struct {
		only []string
		want map[string]bool
	}{
		"by itself": {nil, map[string]bool{"crm": true, "warehouse": false}},
		"to others": {[]string{"warehouse", "lake"}, map[string]bool{"crm": false, "warehouse": true, "lake": true, "war": false}},
	} {
		e, err := event.FromHeader(replay(t, js, seq, deadletter.ReplayOptions{Force: true, Destinations: tt.only}).Header)
		if err != nil {
			t.Fatal(err)
		}
		for destination, want := range tt.want {
			if e.For(destination) != want {
				t.Errorf("%s: %s gets it: %t, want %t", name, destination, !want, want)
			}
		}
	}
	whole := trigger("orders", "evt_2")
	e, err := event.FromHeader(replay(t, js, publish(t, js, letter(t, js, store(t, js, whole, []byte("{}")))), deadletter.ReplayOptions{}).Header)
	if err != nil || !e.For("crm") || !e.For("warehouse") {
		t.Errorf("a trigger that was never enriched is for %q only, %v", e.Destinations, err)
	}
}

// An event can begin anew at the enricher, which gets the record again.
func TestReplayFromAnEarlierStage(t *testing.T) {
	t.Parallel()
	js := setup(t)
	seq, first := undelivered(t, js, "evt_1", "crm")
	m := replay(t, js, seq, deadletter.ReplayOptions{Stage: topology.StageEnrich})
	e, err := event.FromHeader(m.Header)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "tercel.raw.orders._.order.paid" || string(m.Data) != `{"order":7}` || e.Resource != "" {
		t.Errorf("%s %s, resource %q; want the trigger as it was", m.Subject, m.Data, e.Resource)
	}
	if e.ID != "evt_1" || e.TriggerSequence != first || e.Origin != event.Replay || !e.For("crm") || e.For("lake") {
		t.Errorf("%+v, want evt_1 of trigger %d for crm", e, first)
	}
	if id := m.Header.Get(jetstream.MsgIDHeader); !strings.HasPrefix(id, "orders:_:evt_1:replay:") {
		t.Errorf("message id %q is not fresh", id)
	}
}

// Promise 3: a stream that was made anew gives its sequences out again. What stands at the
// trigger's is sent only if the letter's event answers it.
func TestReplayFromAnEarlierStageSendsNoOtherEvent(t *testing.T) {
	t.Parallel()
	js := setup(t)
	ofRecord := func(e event.Event, id string) event.Event {
		e.ID, e.Resource, e.RecordID, e.Version, e.ObservedAt = id, "order", "7", event.TimeVersion(time.Unix(1, 0)), time.Unix(2, 0)
		return e
	}
	base := trigger("orders", "evt_1")
	request := nats.NewMsg("tercel.requests.orders._")
	request.Header = base.Header()
	ack, err := js.PublishMsg(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	north := base
	north.Account = "north"
	for name, tt := range map[string]struct {
		stands event.Event // at the trigger's sequence, unless the request does
		event  event.Event
		sent   bool
		want   string
	}{
		"the trigger":                       {base, ofRecord(base, "evt_1"), true, ""},
		"the trigger of several records":    {base, ofRecord(base, "evt_1#7"), true, ""},
		"another event":                     {trigger("orders", "evt_2"), ofRecord(base, "evt_1"), false, "event evt_2 of orders"},
		"one whose id begins like it":       {trigger("orders", "evt"), ofRecord(base, "evt_1"), false, "event evt of orders"},
		"the same id of another source":     {trigger("shop", "evt_1"), ofRecord(base, "evt_1"), false, "event evt_1 of shop"},
		"the same id of another account":    {north, ofRecord(base, "evt_1"), false, "event evt_1 of orders, account north"},
		"no trigger, though with its event": {event.Event{}, ofRecord(base, "evt_1"), false, "no trigger"},
	} {
		e := tt.event
		if e.TriggerSequence = ack.Sequence; tt.stands.ID != "" {
			m := nats.NewMsg(tt.stands.RawSubject())
			m.Header, m.Data = tt.stands.Header(), []byte("{}")
			ack, err := js.PublishMsg(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			e.TriggerSequence = ack.Sequence
		}
		l := deadletter.Letter{
			Subject: e.EnrichedSubject(), Stream: topology.StreamEnriched, OriginalSequence: e.TriggerSequence, StoredAt: time.Unix(3, 0),
			Consumer: topology.DeliverDurable("crm"), MsgID: e.MsgID(), Kind: deadletter.Terminated, Header: e.Header(), Payload: []byte("{}"),
		}
		seq, before := publish(t, js, l), messages(t, js, topology.StreamRaw)
		_, err := deadletter.Replay(t.Context(), js, seq, deadletter.ReplayOptions{Stage: topology.StageEnrich})
		state, stored := deadletter.StateReplayed, before+1
		if !tt.sent {
			state, stored = deadletter.StateOpen, before
		}
		if tt.sent && err != nil || !tt.sent && (!errors.Is(err, deadletter.ErrStage) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want ErrStage with %q unless it is sent", name, err, tt.want)
		}
		if l, err := deadletter.Get(t.Context(), js, seq); err != nil || l.State != state {
			t.Errorf("%s: the letter is %s, %v; want %s", name, l.State, err, state)
		}
		if n := messages(t, js, topology.StreamRaw); n != stored {
			t.Errorf("%s: %d messages are stored, want %d", name, n, stored)
		}
	}
}

// A letter can begin anew at the checks of its request, which whoever makes them
// also sends: for the destination that lacks it, if one does. It is noted only if
// they pass.
func TestReplayFromTheChecks(t *testing.T) {
	t.Parallel()
	js := setup(t)
	delivered, first := undelivered(t, js, "evt_1", "crm")
	trigger := store(t, js, trigger("orders", "evt_3"), []byte("{}"))
	enriched := publish(t, js, letter(t, js, trigger))
	refused := errors.New("not accepted")
	for name, tt := range map[string]struct {
		letter, trigger uint64
		of, to          string
	}{"of a destination": {delivered, first, "evt_1", "crm"}, "of the enricher": {enriched, trigger, "evt_3", ""}} {
		var asked []any
		opts := deadletter.ReplayOptions{Stage: topology.StageVerify}
		opts.Verify = func(_ context.Context, trigger uint64, of event.Event, destinations string) (deadletter.Replayed, error) {
			asked = append(asked, trigger, of.ID, destinations)
			return deadletter.Replayed{}, refused
		}
		if _, err := deadletter.Replay(t.Context(), js, tt.letter, opts); !errors.Is(err, refused) {
			t.Errorf("%s: %v, want %v", name, err, refused)
		}
		if l, err := deadletter.Get(t.Context(), js, tt.letter); err != nil || l.State != deadletter.StateOpen {
			t.Errorf("%s: refused, the letter is %s, %v", name, l.State, err)
		}
		sent := deadletter.Replayed{At: time.Now().UTC(), MsgID: "m", Stream: topology.StreamRaw, Sequence: 9}
		opts.Verify = func(context.Context, uint64, event.Event, string) (deadletter.Replayed, error) { return sent, nil }
		if got, err := deadletter.Replay(t.Context(), js, tt.letter, opts); err != nil || got != sent {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if l, err := deadletter.Get(t.Context(), js, tt.letter); err != nil || l.State != deadletter.StateReplayed || l.Replayed.MsgID != "m" {
			t.Errorf("%s: sent, the letter is %s as %+v, %v", name, l.State, l.Replayed, err)
		}
		if want := []any{tt.trigger, tt.of, tt.to}; !slices.Equal(asked, want) {
			t.Errorf("%s: asked for %v, want %v", name, asked, want)
		}
	}
}

func TestReplayWhereItCantBegin(t *testing.T) {
	t.Parallel()
	js := setup(t)
	delivered, first := undelivered(t, js, "evt_1", "crm")
	edited, _ := undelivered(t, js, "evt_2", "crm")
	if _, err := deadletter.Edit(t.Context(), js, edited, []byte(`[{"op":"remove","path":"/record/note"}]`)); err != nil {
		t.Fatal(err)
	}
	ofEdit := trigger("orders", "evt_4")
	ofEdit.Edited = true // as the event of a trigger that was edited and replayed
	ofEdited, _ := undeliveredOf(t, js, ofEdit, "crm")
	enriched := publish(t, js, letter(t, js, store(t, js, trigger("orders", "evt_3"), []byte("{}"))))
	unknown := publish(t, js, deadletter.Letter{
		OriginalSequence: 1, PayloadMissing: true, Stream: topology.StreamRaw, Consumer: topology.EnrichDurable("orders"),
	})
	raw, err := js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.DeleteMsg(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		seq   uint64
		stage string
		want  string
	}{
		"its trigger is gone":             {delivered, topology.StageEnrich, "no longer stored"},
		"an edit that would be lost":      {edited, topology.StageEnrich, "take the edit back"},
		"deliver what was never enriched": {enriched, topology.StageDeliver, "nothing to deliver"},
		"a stage that there isn't":        {enriched, "paint", "want verify, enrich or deliver"},
		"nobody checks signatures":        {delivered, topology.StageVerify, "nobody is there"},
		"a trigger as it was edited":      {ofEdited, topology.StageEnrich, "what was edited away would be sent"},
		"an edited trigger":               {ofEdited, topology.StageVerify, "nobody signed the edit of its trigger"},
		"an edit that nobody signed":      {edited, topology.StageVerify, "nobody signed its edit"},
		"an event that nobody knows":      {unknown, topology.StageVerify, "which event it is of"},
	} {
		_, err := deadletter.Replay(t.Context(), js, tt.seq, deadletter.ReplayOptions{Stage: tt.stage})
		if !errors.Is(err, deadletter.ErrStage) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want ErrStage with %q", name, err, tt.want)
		}
		if l, err := deadletter.Get(t.Context(), js, tt.seq); err != nil || l.State != deadletter.StateOpen {
			t.Errorf("%s: the letter is %s, %v", name, l.State, err)
		}
	}
}

// Promise 8: an edit stands beside the payload, which stays as it was.
func TestEditIsSentInsteadOfThePayload(t *testing.T) {
	t.Parallel()
	js := setup(t)
	body := []byte(`{"id": 9007199254740993, "email": "<a&b>", "note": "x"}`)
	seq := publish(t, js, letter(t, js, store(t, js, trigger("orders", "evt_1"), body)))
	patch := []byte(`[{"op":"replace","path":"/email","value":"c"},{"op":"remove","path":"/note"}]`)
	if _, err := deadletter.Edit(t.Context(), js, seq, []byte(`[{"op":"remove","path":"/id"}]`)); err != nil {
		t.Fatal(err)
	}
	if _, err := deadletter.Edit(t.Context(), js, seq, patch); err != nil { // of the payload, not of the first edit
		t.Fatal(err)
	}
	l, err := deadletter.Get(t.Context(), js, seq)
	if err != nil || !l.Edited || l.State != deadletter.StateOpen || string(l.Payload) != string(body) {
		t.Errorf("Get() = edited %t, %s, %s, %v; want the payload as it was", l.Edited, l.State, l.Payload, err)
	}
	if e, err := deadletter.EditOf(t.Context(), js, l); err != nil || string(e.Patch) != string(patch) {
		t.Errorf("EditOf() = %s, %v", e.Patch, err)
	}
	m := replay(t, js, seq, deadletter.ReplayOptions{})
	const want = `{"id":9007199254740993,"email":"c"}`
	if got := strings.ReplaceAll(string(m.Data), " ", ""); got != want {
		t.Errorf("sent %s, want %s", m.Data, want)
	}
	if e, err := event.FromHeader(m.Header); err != nil || !e.Edited || e.ID != "evt_1" {
		t.Errorf("sent %+v, %v; want it marked as edited", e, err)
	}
	if _, err := deadletter.Edit(t.Context(), js, seq, nil); err != nil {
		t.Fatal(err)
	}
	m = replay(t, js, seq, deadletter.ReplayOptions{Force: true})
	if e, _ := event.FromHeader(m.Header); string(m.Data) != string(body) || e.Edited {
		t.Errorf("sent %s after the edit was taken back", m.Data)
	}
}

func TestPatchesThatCantBeApplied(t *testing.T) {
	t.Parallel()
	js := setup(t)
	seq := publish(t, js, letter(t, js, store(t, js, trigger("orders", "evt_1"), []byte(`{"a":{"b":[1,2]},"s":"`+strings.Repeat("x", 1000)+`"}`))))
	text := publish(t, js, letter(t, js, store(t, js, trigger("orders", "evt_2"), []byte("no json"))))
	bomb := "[" + strings.Repeat(`{"op":"copy","from":"/a","path":"/a/b/-"},`, 40) + `{"op":"remove","path":"/a"}]`
	for name, tt := range map[string]struct {
		seq   uint64
		patch string
	}{
		"no JSON":               {seq, `[{"op":`},
		"an object":             {seq, `{"op":"remove","path":"/a"}`},
		"no operations":         {seq, `[1,null,"x"]`},
		"an unknown operation":  {seq, `[{"op":"paint","path":"/a"}]`},
		"a path that isn't":     {seq, `[{"op":"remove","path":"/b"}]`},
		"an index far out":      {seq, `[{"op":"add","path":"/a/b/99999999999","value":1}]`},
		"a test that fails":     {seq, `[{"op":"test","path":"/a/b/0","value":2}]`},
		"without a path":        {seq, `[{"op":"add","value":1}]`},
		"the whole taken away":  {seq, `[{"op":"remove","path":""}]`},
		"a bomb":                {seq, bomb},
		"of what is no JSON":    {text, `[{"op":"add","path":"/a","value":1}]`},
		"too large":             {seq, `[{"op":"add","path":"/a","value":"` + strings.Repeat("x", 600<<10) + `"}]`},
		"an add without a null": {seq, `[{"op":"add","path":"/a/c/d","value":1}]`},
	} {
		if e, err := deadletter.Edit(t.Context(), js, tt.seq, []byte(tt.patch)); !errors.Is(err, deadletter.ErrPatch) {
			t.Errorf("%s: Edit() makes %.100s, %v; want ErrPatch", name, e.After, err)
		}
		if l, err := deadletter.Get(t.Context(), js, tt.seq); err != nil || l.Edited {
			t.Errorf("%s: the letter is edited: %t, %v", name, l.Edited, err)
		}
	}
	if _, err := deadletter.Edit(t.Context(), js, 99, []byte("[]")); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("Edit() of no letter = %v", err)
	}
}

func FuzzEdit(f *testing.F) {
	f.Add([]byte(`[{"op":"copy","from":"/a","path":"/b/-"}]`), []byte(`{"a":[1],"b":[]}`))
	f.Add([]byte(`[{"op":"move","from":"/a/0","path":""}]`), []byte(`{"a":[null]}`))
	f.Add([]byte(`[{"op":"test","path":"/~01","value":null}]`), []byte(`{"~1":{}}`))
	f.Fuzz(func(t *testing.T, patch, body []byte) {
		e, err := deadletter.Letter{Payload: body}.Apply(patch)
		if err == nil && len(patch) > 0 && !jsontext.Value(e.After).IsValid() {
			t.Errorf("%q makes %q of %q, which is no JSON", patch, e.After, body)
		}
	})
}

func TestDiscardedLettersSayWhy(t *testing.T) {
	t.Parallel()
	js := setup(t)
	seq := publish(t, js, letter(t, js, store(t, js, trigger("orders", "evt_1"), []byte("{}"))))
	at := time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC)
	if err := deadletter.Discard(t.Context(), js, seq, deadletter.Discarded{At: at, Reason: "test data"}); err != nil {
		t.Fatal(err)
	}
	l, err := deadletter.Get(t.Context(), js, seq)
	if err != nil || l.State != deadletter.StateDiscarded || l.Discarded == nil || l.Discarded.Reason != "test data" || !l.Discarded.At.Equal(at) {
		t.Errorf("Get() = %s, %+v, %v", l.State, l.Discarded, err)
	}
	if n := messages(t, js, topology.StreamRaw); n != 1 {
		t.Errorf("%d triggers, want 1: nothing is sent", n)
	}
	if _, err := deadletter.Replay(t.Context(), js, seq, deadletter.ReplayOptions{LeaveDiscarded: true}); !errors.Is(err, deadletter.ErrDiscarded) {
		t.Errorf("Replay() by who chose it before = %v, want ErrDiscarded", err)
	}
	replay(t, js, seq, deadletter.ReplayOptions{}) // somebody thought again
	if l, err = deadletter.Get(t.Context(), js, seq); err != nil || l.State != deadletter.StateReplayed {
		t.Errorf("after a replay: %s, %v", l.State, err)
	}
	if err := deadletter.Discard(t.Context(), js, 99, deadletter.Discarded{}); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("Discard() of no letter = %v", err)
	}
}

// Promise 3: a letter that has the sequence of an older one, since the stream was lost,
// has none of what became of that: it is open, and replayed as it is.
func TestPromise3ALetterInheritsNothing(t *testing.T) {
	t.Parallel()
	js := setup(t)
	first := publish(t, js, letter(t, js, store(t, js, trigger("orders", "evt_1"), []byte(`{"a":1}`))))
	if _, err := deadletter.Edit(t.Context(), js, first, []byte(`[{"op":"replace","path":"/a","value":2}]`)); err != nil {
		t.Fatal(err)
	}
	replay(t, js, first, deadletter.ReplayOptions{})
	if err := deadletter.Discard(t.Context(), js, first, deadletter.Discarded{Reason: "done with"}); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), topology.StreamDLQ); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	second := publish(t, js, letter(t, js, store(t, js, trigger("orders", "evt_2"), []byte(`{"a":1}`))))
	if second != first {
		t.Fatalf("the letter has sequence %d, want %d again", second, first)
	}
	open := 0
	for l, err := range deadletter.List(t.Context(), js, deadletter.Filter{States: []deadletter.State{deadletter.StateOpen}}) {
		if open++; err != nil || l.Edited || l.Discarded != nil || l.Replayed != nil {
			t.Errorf("%+v, %v; want it open and untouched", l, err)
		}
	}
	if open != 1 {
		t.Errorf("%d letters are open, want 1", open)
	}
	if m := replay(t, js, second, deadletter.ReplayOptions{}); string(m.Data) != `{"a":1}` {
		t.Errorf("sent %s, want the payload without the older letter's edit", m.Data)
	}
	if l, err := deadletter.Get(t.Context(), js, second); err != nil || l.State != deadletter.StateReplayed || l.Edited || l.Discarded != nil {
		t.Errorf("after its replay: %+v, %v", l, err)
	}
}

// What several operators do to one letter at once is all kept.
func TestChangesAtOnceAreAllKept(t *testing.T) {
	t.Parallel()
	js := setup(t)
	seq := publish(t, js, letter(t, js, store(t, js, trigger("orders", "evt_1"), []byte(`{"a":1}`))))
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			if _, err := deadletter.Edit(t.Context(), js, seq, fmt.Appendf(nil, `[{"op":"add","path":"/a","value":%d}]`, i)); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			if err := deadletter.Discard(t.Context(), js, seq, deadletter.Discarded{Reason: "x"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if l, err := deadletter.Get(t.Context(), js, seq); err != nil || !l.Edited || l.State != deadletter.StateDiscarded {
		t.Errorf("edited %t, %s, %v", l.Edited, l.State, err)
	}
}
