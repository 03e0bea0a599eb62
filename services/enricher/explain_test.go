package enricher_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/services/enricher"
)

// caller answers by path.
type caller map[string]string

func (c caller) Do(_ context.Context, r sourceapi.Request) (sourceapi.Answer, error) {
	body, ok := c[r.Path]
	switch {
	case !ok:
		return sourceapi.Answer{RequestedAt: time.Now(), ObservedAt: time.Now()}, sourceapi.ErrNotFound
	case body == "":
		return sourceapi.Answer{}, errors.New("no answer")
	}
	return sourceapi.Answer{Status: 200, Body: []byte(body), RequestedAt: time.Now(), ObservedAt: time.Now()}, nil
}

func message(e event.Event, body string) *nats.Msg {
	m := rawMessage(e.RawSubject(), e.Header(), body)
	m.Header.Set(jetstream.MsgIDHeader, e.MsgID())
	return m
}

// What Explain says is what the service publishes.
func TestExplainAgreesWithTheService(t *testing.T) {
	t.Parallel()
	records := whole()
	records["/plain/1"], records["/plain/2"] = `{"id":1,"version":1}`, `{"id":2,"version":1}`
	f := setup(t, dropping(`.trigger.test == true`), answers(records))
	f.start()
	bodies := map[string]string{
		"evt_1": order7, "evt_2": `{"kind":"batch.done","orders":[{"id":1},{"id":2},{"id":3}]}`,
		"evt_3": `{"kind":"user.created"}`, "evt_4": `{"kind":"order.paid","order":{"id":404}}`, "evt_5": `{"test":true}`,
	}
	types := map[string]string{"evt_1": "order.paid", "evt_2": "batch.done", "evt_3": "user.created", "evt_4": "order.paid", "evt_5": "order.paid"}
	explained := map[string]string{}
	for id, body := range bodies {
		e := trigger(types[id], id)
		ex, err := enricher.Explain(t.Context(), "orders", f.cfg.Sources["orders"], message(e, body), caller(records))
		if err != nil || ex.Dropped != (id == "evt_5") || ex.Dropped && len(ex.Events) > 0 {
			t.Errorf("%s: Explain() = %+v, %v", id, ex, err)
		}
		for _, m := range ex.Events {
			explained[m.Header.Get(jetstream.MsgIDHeader)] = m.Subject + " " + m.Header.Get(event.HeaderVersion) + " " + string(m.Data)
		}
		f.send(e, body)
	}
	f.settled("orders")
	stored := f.events()
	if len(stored) != 6 || len(explained) != 6 {
		t.Errorf("%d events, %d explained, want 6", len(stored), len(explained))
	}
	for _, e := range stored {
		got := explained[e.header.Get(jetstream.MsgIDHeader)]
		if want := e.subject + " " + string(e.Version) + " " + e.body; got != want {
			t.Errorf("%s explained as %s, stored as %s", e.ID, got, want)
		}
	}
}

// What fails is told with the service's own error, beside what didn't.
func TestExplainTellsWhatFails(t *testing.T) {
	t.Parallel()
	f := setup(t, oneSource, answers(nil))
	src := f.cfg.Sources["orders"]
	ex, err := enricher.Explain(t.Context(), "orders", src, message(trigger("batch.done", "evt_1"), `{"orders":[{"id":1},{"id":2}]}`),
		caller{"/plain/1": `{"id":1,"version":1}`, "/plain/2": ""})
	if err == nil || err.Error() != "batch 2: no answer" || len(ex.Events) != 1 {
		t.Errorf("Explain() = %+v, %v, want the event of 1 and the error of 2", ex, err)
	}
	other := trigger("order.paid", "evt_1")
	other.Source = "others"
	if _, err := enricher.Explain(t.Context(), "orders", src, message(other, order7), caller{}); err == nil || !strings.Contains(err.Error(), `names source "others"`) {
		t.Errorf("Explain() of another source's trigger = %v", err)
	}
}
