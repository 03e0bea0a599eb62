package deadletter_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/pkg/topology"
)

// What a source redacts is in none of the forms in which a letter is shown: nor in
// the reason, where a destination has answered with what it was sent.
func TestRedactedLettersHaveNoneOfTheValues(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	const card = "4111-planted"
	e := event.Event{ID: "evt-1", Source: "orders", Account: event.NoAccount, Type: "paid", Origin: event.Webhook, ReceivedAt: time.Now()}
	m := nats.NewMsg(e.RawSubject())
	m.Header = e.Header()
	ack, err := deadletter.Publish(t.Context(), js, deadletter.Letter{
		Stream: topology.StreamRaw, Consumer: topology.EnrichDurable("orders"), OriginalSequence: 1, Subject: m.Subject, Header: m.Header,
		Payload: []byte(`{"card":"` + card + `","open":"planted-beside"}`), Kind: deadletter.Terminated, DeadAt: time.Now(),
		Reason: consume.Reason{Class: fault.Fatal, Message: "card " + card, Detail: "got " + card},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := redact.Parse("body.card")
	if err != nil {
		t.Fatal(err)
	}
	rules := redact.Set{"orders": r}
	l, err := deadletter.Get(t.Context(), js, ack.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{"letter": asText(l.Redacted(rules))}
	for listed, err := range deadletter.List(t.Context(), js, deadletter.Filter{}) {
		if err == nil {
			listed, err = listed.RedactedIn(t.Context(), js, rules)
		}
		if err != nil {
			t.Fatal(err)
		}
		shown["in a list"] = asText(listed)
	}
	groups, err := deadletter.GroupBy(t.Context(), js, deadletter.Filter{}, time.Now())
	if err != nil || len(groups.Groups) != 1 {
		t.Fatalf("groups %+v, %v", groups, err)
	}
	g, err := groups.Groups[0].Redacted(t.Context(), js, rules)
	if err != nil {
		t.Fatal(err)
	}
	shown["group"] = g.Message + asText(g.Sample)
	edit, err := l.Apply([]byte(`[{"op":"replace","path":"/card","value":"5555-planted"},{"op":"add","path":"/note","value":"was ` + card + `"}]`))
	if err != nil {
		t.Fatal(err)
	}
	edit = edit.Redacted(l, rules)
	shown["edit"] = string(edit.Patch) + string(edit.Before) + string(edit.After)
	for form, text := range shown {
		if strings.Contains(text, card) || strings.Contains(text, "5555-planted") || !strings.Contains(text, redact.Mark) {
			t.Errorf("%s shows a card, or nothing in its place: %s", form, text)
		}
	}
	if !strings.Contains(shown["letter"], "planted-beside") || asText(l.Redacted(redact.Set{"orders": {}})) != asText(l) {
		t.Errorf("more than the card is left out: %s", shown["letter"])
	}
}

// Nobody knows what is to be left out of a letter's words once its payload is gone, or
// where that can't be looked into, so that none of them are shown where the source has
// rules.
func TestALetterWithoutItsPayloadIsRedactedWholly(t *testing.T) {
	t.Parallel()
	js := setup(t)
	const card = "4111-planted"
	e := trigger("orders", "evt_1")
	header := e.Header()
	header.Set("X-Note", card)
	l := deadletter.Letter{
		Stream: topology.StreamRaw, Consumer: topology.EnrichDurable("orders"), Subject: e.RawSubject(), Header: header,
		Kind: deadletter.Terminated, DeadAt: time.Now(), PayloadMissing: true,
		Reason: consume.Reason{Class: fault.Fatal, Message: "of " + card + " nobody", Detail: "got " + card},
	}
	l.OriginalSequence = 1
	gone := publish(t, js, l)
	unknown := l // of an original that was gone, whose source nobody knows
	unknown.Consumer, unknown.Subject, unknown.Header, unknown.OriginalSequence = topology.DeliverDurable("crm"), "", nil, 2
	publish(t, js, unknown)
	plain := l
	plain.PayloadMissing, plain.Payload, plain.OriginalSequence = false, []byte("no JSON, of "+card), 3
	publish(t, js, plain)
	r, err := redact.Parse("body.card")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		rules redact.Set
		hides bool
	}{
		"rules":                      {redact.Set{"orders": r, "shop": {}}, true},
		"none of them":               {redact.Set{"orders": {}, "shop": {}}, false},
		"a set that has no sources":  {redact.Set{}, true},
		"rules of all, but this one": {redact.Set{"shop": r}, true},
	} {
		for listed, err := range deadletter.List(t.Context(), js, deadletter.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			var shown []deadletter.Letter
			if listed.PayloadMissing {
				shown = append(shown, listed.Redacted(tt.rules))
			}
			in, err := listed.RedactedIn(t.Context(), js, tt.rules)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range append(shown, in) {
				if hidden := !strings.Contains(asText(l), card); hidden != tt.hides || hidden && l.Reason.Message != redact.Mark {
					t.Errorf("%s: letter %d is shown as %s", name, l.Sequence, asText(l))
				}
			}
			if id := in.Header.Get(event.HeaderID); listed.Sequence == gone && id != "evt_1" {
				t.Errorf("%s: its event's id is shown as %q", name, id)
			}
		}
	}
	left, err := deadletter.Get(t.Context(), js, gone)
	if err != nil {
		t.Fatal(err)
	}
	dlq, err := js.Stream(t.Context(), topology.StreamDLQ)
	if err != nil {
		t.Fatal(err)
	}
	left.PayloadMissing = false
	if err := dlq.DeleteMsg(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if l, err := left.RedactedIn(t.Context(), js, redact.Set{"orders": r}); err != nil || strings.Contains(asText(l), card) {
		t.Errorf("one that has left meanwhile is shown as %s, %v", asText(l), err)
	}
}

// asText is all of a letter, its payload as it reads.
func asText(l deadletter.Letter) string { return fmt.Sprintf("%+v %s", l, l.Payload) }
