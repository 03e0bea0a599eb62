package run_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/seen"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// listed is an event as its provider has it.
type listed struct {
	id, typ string
	at      time.Time
	number  int // of the delivery
	body    string
	gone    bool // it is listed, but no more to be had
	status  int  // that its own address answers with, if set
	refuses bool // the provider doesn't send it again
}

// book is a provider's API that lists its events, the newest first: as Stripe
// does below /v1/events, and as GitHub does below the deliveries of a hook.
type book struct {
	now func() time.Time

	mu        sync.Mutex
	events    []listed
	asked     []string       // method and address of each request
	before    func(e listed) // it is answered
	redeliver func(e listed)
	refusal   int // status of requests to send again, if set
}

func (b *book) add(events ...listed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range events {
		e.number = 1000 + len(b.events)
		b.events = append(b.events, e)
	}
	slices.SortFunc(b.events, func(x, y listed) int { return y.at.Compare(x.at) })
}

func (b *book) requests(method string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, a := range b.asked {
		if strings.HasPrefix(a, method+" ") {
			all = append(all, strings.TrimPrefix(a, method+" "))
		}
	}
	return all
}

// stripeEvent is an event as Stripe's API writes it: over several lines, as its
// webhooks are too.
func stripeEvent(e listed) string {
	return fmt.Sprintf("{\n  \"id\": %q,\n  \"object\": \"event\",\n  \"created\": %d,\n  \"data\": {\"object\": {\"id\": \"in_%s\", \"object\": \"invoice\"}},\n  \"type\": %q\n}",
		e.id, e.at.Unix(), e.id, e.typ)
}

const deliveries = "/repos/north/widgets/hooks/7/deliveries"

func (b *book) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.asked = append(b.asked, r.Method+" "+r.URL.RequestURI())
	events, before, redeliver, refusal := slices.Clone(b.events), b.before, b.redeliver, b.refusal
	b.mu.Unlock()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Date", b.now().UTC().Format(http.TimeFormat))
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/v1/events":
		b.stripe(w, r, events)
	case r.Method == http.MethodGet && r.URL.Path == deliveries:
		b.github(w, r, events)
	default:
		number, attempt := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, deliveries+"/"), "/attempts")
		i := slices.IndexFunc(events, func(e listed) bool { return strconv.Itoa(e.number) == number })
		if i < 0 || events[i].gone || attempt != (r.Method == http.MethodPost) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"message":"Not Found"}`))
			return
		}
		if before != nil {
			before(events[i])
		}
		if events[i].status != 0 {
			w.WriteHeader(events[i].status)
			return
		}
		if !attempt {
			_, _ = fmt.Fprintf(w, `{"id":%d,"guid":%q,"event":"issues","action":"opened","request":{"headers":{"X-GitHub-Delivery":%q},"payload": %s }}`,
				events[i].number, events[i].id, events[i].id, events[i].body)
			return
		}
		if events[i].refuses {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		if refusal != 0 {
			w.WriteHeader(refusal)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		if redeliver != nil {
			redeliver(events[i])
		}
	}
}

func (b *book) stripe(w http.ResponseWriter, r *http.Request, events []listed) {
	since, _ := strconv.ParseInt(r.FormValue("created[gte]"), 10, 64)
	var page []string
	behind, more := r.FormValue("starting_after") == "", false
	for _, e := range events {
		switch {
		case !behind:
			behind = e.id == r.FormValue("starting_after")
		case e.at.Unix() < since:
		case len(page) == 2:
			more = true
		default:
			page = append(page, stripeEvent(e))
		}
	}
	_, _ = fmt.Fprintf(w, `{"object": "list", "url": "/v1/events", "has_more": %t, "data": [%s]}`, more, strings.Join(page, ", "))
}

func (b *book) github(w http.ResponseWriter, r *http.Request, events []listed) {
	at, _ := strconv.Atoi(strings.TrimPrefix(r.FormValue("cursor"), "v1_"))
	type item struct {
		ID     int     `json:"id"`
		GUID   string  `json:"guid"`
		At     string  `json:"delivered_at"`
		Status int     `json:"status_code"`
		Event  string  `json:"event"`
		Action *string `json:"action"`
	}
	page := []item{}
	for _, e := range events[min(at, len(events)):min(at+2, len(events))] {
		name, action, two := strings.Cut(e.typ, ".")
		it := item{ID: e.number, GUID: e.id, At: e.at.UTC().Format(time.RFC3339), Status: 503, Event: name}
		if two {
			it.Action = &action
		}
		page = append(page, it)
	}
	if at+2 < len(events) {
		w.Header().Set("Link", fmt.Sprintf(`<http://%s%s?per_page=100&cursor=v1_%d>; rel="next"`, r.Host, deliveries, at+2))
	}
	_ = json.NewEncoder(w).Encode(page)
}

// eventsFixture is a pipeline of one source whose events are listed.
type eventsFixture struct {
	*fixture
	book   *book
	source *provider.Source
	key    cursor.Key
}

const (
	stripe = `
    preset: stripe
    resources: [invoice]
    drop: '.trigger.data.object.id == "in_unwanted"'
`
	github = `
    preset: github
    resources: [issue]
`
)

// setupEvents is of a source as text says, whose list has the given keys.
func setupEvents(t *testing.T, text, events string) *eventsFixture {
	t.Helper()
	f := &eventsFixture{fixture: setup(t), book: &book{}, key: cursor.Key{Source: "pay", Account: "_", Resource: provider.EventsResource}}
	f.now = time.Now().UTC() // the server stamps messages with it
	f.book.now = f.clock
	srv := httptest.NewServer(f.book)
	t.Cleanup(srv.Close)
	f.base = srv.URL
	file, err := pipeline.Decode("tercel.yaml", []byte(`
sources:
  pay:`+text+`
    secrets: [env:S]
    api: {base: "`+srv.URL+`", allow_private: true}
    events: {`+events+`}
`), config.WithLookupEnv(func(string) (string, bool) { return "whsec_a secret, long enough", true }))
	if err != nil {
		t.Fatal(err)
	}
	src := file.Sources["pay"]
	f.source = &src
	return f
}

func (f *eventsFixture) runner() *run.Runner {
	f.t.Helper()
	api, err := sourceapi.New("pay", f.source.API, sourceapi.Deps{Now: f.clock})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(api.Close)
	r, err := run.New(run.Config{
		Key: f.key, Source: f.source, Drop: f.source.Drop, Base: f.base, LeaseTTL: time.Minute, CatchUp: f.catchUp,
	}, run.Deps{
		JetStream: f.js, API: api, Publisher: f.pub, Repairs: rate.NewLimiter(rate.Inf, 1), Metrics: f.met, Now: f.clock,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// run makes a run that must not fail and returns its report.
func (f *eventsFixture) run(o run.Options) report.Report {
	f.t.Helper()
	begun, err := f.runner().Begin(f.t.Context(), o)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := begun.Do(); err != nil {
		f.t.Fatal(err)
	}
	return lastReport(f.t, f.js, f.key, begun.ID())
}

var demand = run.Options{Trigger: report.Demand}

// webhook is the trigger that the ingress makes of an event's webhook.
func (f *eventsFixture) webhook(e listed) *nats.Msg {
	body := e.body
	if f.source.Preset == "stripe" {
		body = stripeEvent(e)
	}
	ev := event.Event{
		ID: event.Identity(e.id, f.source.IDSigned(), []byte(body)), DeliveryID: e.id, Source: "pay", Account: "_", Type: e.typ,
		Origin: event.Webhook, ContentType: "application/json", Time: e.at,
	}
	m := nats.NewMsg(ev.RawSubject())
	m.Header, m.Data = ev.Header(), []byte(body)
	keyed := ev
	if f.source.SameBodySameEvent() {
		keyed.ID = event.Identity("", false, []byte(body))
	}
	m.Header.Set(jetstream.MsgIDHeader, keyed.MsgID())
	return m
}

// arrive stores the triggers of webhooks.
func (f *eventsFixture) arrive(events ...listed) {
	f.t.Helper()
	for _, e := range events {
		if _, err := f.js.PublishMsg(f.t.Context(), f.webhook(e)); err != nil {
			f.t.Error(err)
		}
	}
}

// ids are those of the deliveries in TERCEL_RAW, in order.
func (f *eventsFixture) ids() string {
	f.t.Helper()
	var ids []string
	for _, m := range f.sent() {
		ids = append(ids, event.DeliveryIDOf(m.Header))
	}
	return strings.Join(ids, " ")
}

// trigger is the last one in TERCEL_RAW of a delivery.
func (f *eventsFixture) trigger(id string) (consume.Message, event.Event) {
	f.t.Helper()
	for _, m := range slices.Backward(f.sent()) {
		if event.DeliveryIDOf(m.Header) == id {
			e, err := event.FromHeader(m.Header)
			if err != nil {
				f.t.Fatal(err)
			}
			return m, e
		}
	}
	f.t.Fatalf("no trigger of %s", id)
	return consume.Message{}, event.Event{}
}

// purge empties a stream.
func (f *eventsFixture) purge(name string) {
	f.t.Helper()
	s, err := f.js.Stream(f.t.Context(), name)
	if err == nil {
		err = s.Purge(f.t.Context())
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// enrichedOf stores an event that a trigger has led to.
func (f *eventsFixture) enrichedOf(e listed) {
	f.t.Helper()
	ev, err := event.FromHeader(f.webhook(e).Header)
	if err != nil {
		f.t.Fatal(err)
	}
	f.enriched(ev)
}

func (f *eventsFixture) marks() uint64 {
	f.t.Helper()
	s, err := f.js.Stream(f.t.Context(), topology.StreamSeen)
	if err != nil {
		f.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// found is the sequence that the ingress finds for a Nats-Msg-Id, or 0.
func (f *eventsFixture) found(msgID string) uint64 {
	f.t.Helper()
	index, err := seen.New(seen.Config{Horizon: 72 * time.Hour, Flush: 50 * time.Millisecond}, seen.Deps{JetStream: f.js, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	defer index.Close()
	<-index.Loaded()
	there, _ := index.Find(f.t.Context(), msgID, 72*time.Hour, true)
	return there.Sequence
}

// arriveBefore stores an event's trigger when the source is asked for its list.
func (f *eventsFixture) arriveBefore(e listed) {
	inner := f.book
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.arrive(e)
		inner.ServeHTTP(w, r)
	}))
	f.t.Cleanup(srv.Close)
	f.base, f.source.API.Base = srv.URL, srv.URL
}
