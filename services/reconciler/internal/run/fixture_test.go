package run_test

import (
	"cmp"
	"context"
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
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

var (
	key  = cursor.Key{Source: "orders", Account: "_", Resource: "order"}
	noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
)

// order is a record of the source.
type order struct {
	ID      string    `json:"id"`
	Updated time.Time `json:"updated_at"`
	Note    string    `json:"note,omitempty"`
}

// shop is a source's API: it lists orders that changed at or after a time, in
// the order of change, in pages of two, and shows single ones.
type shop struct {
	now func() time.Time

	mu      sync.Mutex
	orders  map[string]order
	hidden  map[string]bool // the list leaves them out
	got     []string        // the ids that were asked for
	get     func(id string, w http.ResponseWriter) bool
	asked   []string // the query of each request
	trouble func(n int, w http.ResponseWriter, r *http.Request) bool
	change  func(n int)
}

// before makes f do something before a request is answered. It is told how
// many came before.
func (s *shop) before(f func(n int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change = f
}

func (s *shop) put(id string, updated time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders[id] = order{ID: id, Updated: updated}
}

// troubled makes f answer in the shop's place where it returns true. It is
// told how many requests came before.
func (s *shop) troubled(f func(n int, w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = f
}

func (s *shop) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// remove deletes an order without telling anybody.
func (s *shop) remove(ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.orders, id)
	}
}

// mark notes something on an order, which changes nothing else of it.
func (s *shop) mark(id, note string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[id]
	o.Note = note
	s.orders[id] = o
}

// hide leaves orders out of the list.
func (s *shop) hide(ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden = map[string]bool{}
	for _, id := range ids {
		s.hidden[id] = true
	}
}

// getting makes f answer for single orders where it returns true.
func (s *shop) getting(f func(id string, w http.ResponseWriter) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.get = f
}

// gets lists the ids that were asked for since the last call.
func (s *shop) gets() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.got)
	ids := strings.Join(s.got, " ")
	s.got = nil
	return ids
}

func (s *shop) serveOne(id string, w http.ResponseWriter) {
	s.mu.Lock()
	s.got = append(s.got, id)
	o, there := s.orders[id]
	get := s.get
	s.mu.Unlock()
	switch {
	case get != nil && get(id, w):
	case !there:
		w.WriteHeader(http.StatusNotFound)
	default:
		_ = json.NewEncoder(w).Encode(o)
	}
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	if id, one := strings.CutPrefix(r.URL.Path, "/orders/"); one {
		s.serveOne(id, w)
		return
	}
	s.mu.Lock()
	if n, change := len(s.asked), s.change; change != nil {
		s.mu.Unlock()
		change(n)
		s.mu.Lock()
	}
	n, trouble := len(s.asked), s.trouble
	s.asked = append(s.asked, r.URL.RawQuery)
	list := []order{}
	since, _ := time.Parse(time.RFC3339, r.FormValue("updated_after"))
	for _, o := range s.orders {
		if !o.Updated.Before(since) && !s.hidden[o.ID] {
			list = append(list, o)
		}
	}
	s.mu.Unlock()
	if trouble != nil && trouble(n, w, r) {
		return
	}
	slices.SortFunc(list, func(a, b order) int {
		if c := a.Updated.Compare(b.Updated); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	at, _ := strconv.Atoi(strings.TrimPrefix(r.FormValue("cursor"), "at "))
	if v := r.FormValue("offset"); v != "" {
		at, _ = strconv.Atoi(v)
	}
	answer := map[string]any{"orders": list[min(at, len(list)):min(at+2, len(list))], "cursor": nil}
	if at+2 < len(list) {
		answer["cursor"] = fmt.Sprint("at ", at+2)
	}
	if r.FormValue("all") != "" {
		answer["orders"] = list
	}
	_ = json.NewEncoder(w).Encode(answer)
}

const ascending = "since: updated_after, order: ascending, items: orders, next: cursor"

type fixture struct {
	t    *testing.T
	nc   *nats.Conn
	js   jetstream.JetStream
	shop *shop
	base string
	pub  run.Publisher
	met  *run.Metrics

	version string        // of the resource; "" is the time of change
	catchUp time.Duration // that runners wait for the enricher
	ttl     time.Duration // of their leases; 0 is a minute
	account string        // whose orders they reconcile; "" is none
	shelves map[string]shelf

	mu   sync.Mutex
	now  time.Time
	look func() // done at the next look at the clock

	giveWay, goFirst int // requests of runners, see watched
}

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, nc: natstest.Start(t, false).Connect(), shop: &shop{orders: map[string]order{}}, now: noon, catchUp: 200 * time.Millisecond}
	f.shop.now = f.clock
	srv := httptest.NewServer(f.shop)
	t.Cleanup(srv.Close)
	f.base = srv.URL
	var err error
	if f.js, err = jetstream.New(f.nc, natstest.Patient()); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), f.js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	p, err := publish.New(f.nc, publish.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	f.pub = p
	if f.met, err = run.NewMetrics(f.clock); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.met.Close)
	return f
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	now, look := f.now, f.look
	f.look = nil
	f.mu.Unlock()
	if look != nil {
		look()
	}
	return now
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

// runner reconciles orders as the given keys of reconcile say, every hour with
// an overlap of ten minutes and two minutes to settle.
func (f *fixture) runner(reconcile string) *run.Runner {
	f.t.Helper()
	return f.runnerOf(key, reconcile)
}

// scanner looks for orphans, as runner does for gaps.
func (f *fixture) scanner(reconcile string) *run.Runner {
	f.t.Helper()
	k := key
	k.Work = cursor.Deletes
	return f.runnerOf(k, reconcile)
}

// file is the pipeline file with the given keys of reconcile.
func (f *fixture) file(reconcile string) *pipeline.File {
	f.t.Helper()
	file, err := pipeline.Decode("tercel.yaml", []byte(`
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:S]
    event: {type: body.kind}
    drop: '.record.id | try startswith("test-") catch error("no id")'
    api: {base: "`+f.base+`", allow_private: true}
    resources:
      order:
        triggers: [order.*]
        id: body.id
        get: /orders/{id}
        gone: {record.note: deleted}
        version: `+cmp.Or(f.version, "record.updated_at")+`
        reconcile: {list: /orders, `+reconcile+`}
destinations:
  warehouse: {sqlite: {path: warehouse.db}}
  empty: {sqlite: {path: empty.db}}
`), config.WithLookupEnv(func(string) (string, bool) { return "a secret, long enough", true }))
	if err != nil {
		f.t.Fatal(err)
	}
	return file
}

func (f *fixture) resource(reconcile string) provider.Resource {
	f.t.Helper()
	return f.file(reconcile).Sources["orders"].Resources["order"]
}

func (f *fixture) runnerOf(key cursor.Key, reconcile string) *run.Runner {
	f.t.Helper()
	file := f.file(reconcile)
	key.Account = cmp.Or(f.account, key.Account)
	api, err := sourceapi.New("orders", file.Sources["orders"].API, sourceapi.Deps{Now: f.clock})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(api.Close)
	destinations := map[string]run.Destination{}
	for name, s := range f.shelves {
		destinations[name] = s
	}
	r, err := run.New(run.Config{
		Key: key, Resource: file.Sources["orders"].Resources["order"], Base: f.base, Drop: file.Sources["orders"].Drop, LeaseTTL: cmp.Or(f.ttl, time.Minute), CatchUp: f.catchUp,
	}, run.Deps{
		JetStream: f.js, API: watched{api, f}, Publisher: f.pub, Repairs: rate.NewLimiter(rate.Inf, 1), Metrics: f.met, Now: f.clock, Destinations: destinations,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// watched counts the requests of runners by whether they give way to others.
type watched struct {
	run.Lister
	f *fixture
}

func (w watched) Do(ctx context.Context, q sourceapi.Request) (sourceapi.Answer, error) {
	w.f.mu.Lock()
	if q.Background {
		w.f.giveWay++
	} else {
		w.f.goFirst++
	}
	w.f.mu.Unlock()
	return w.Lister.Do(ctx, q)
}

func (f *fixture) begin(r *run.Runner) *run.Run {
	f.t.Helper()
	begun, err := r.Begin(f.t.Context(), run.Options{Trigger: report.Demand})
	if err != nil {
		f.t.Fatal(err)
	}
	return begun
}

// do makes a run that must not fail and returns its report.
func (f *fixture) do(r *run.Runner) report.Report {
	f.t.Helper()
	begun := f.begin(r)
	if err := begun.Do(); err != nil {
		f.t.Fatal(err)
	}
	return f.report(begun.ID())
}

// report is that of a run, which must be the last.
func (f *fixture) report(id string) report.Report {
	f.t.Helper()
	return lastReport(f.t, f.js, key, id)
}

// lastReport is the last report of a resource, which must be that of a run.
func lastReport(t *testing.T, js jetstream.JetStream, key cursor.Key, run string) report.Report {
	t.Helper()
	last, err := report.List(t.Context(), js, report.Query{Source: key.Source, Resource: key.Resource, Limit: 1})
	if err != nil || len(last) != 1 || last[0].Run != run {
		t.Fatalf("the last report is %+v, %v, want that of run %s", last, err, run)
	}
	return last[0]
}

func (f *fixture) reports() []report.Report {
	f.t.Helper()
	list, err := report.List(f.t.Context(), f.js, report.Query{})
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

func (f *fixture) cursor() cursor.Entry {
	f.t.Helper()
	s, err := cursor.Open(f.t.Context(), f.js)
	if err != nil {
		f.t.Fatal(err)
	}
	e, err := s.Load(f.t.Context(), key)
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

// sent lists the triggers in TERCEL_RAW.
func (f *fixture) sent() []consume.Message {
	f.t.Helper()
	var all []consume.Message
	for m, err := range consume.Scan(f.t.Context(), f.js, consume.ScanOptions{Stream: topology.StreamRaw}) {
		if err != nil {
			f.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// sentIDs lists the records in TERCEL_RAW as "id@version's time".
func (f *fixture) sentIDs() string {
	f.t.Helper()
	var ids []string
	for _, m := range f.sent() {
		ids = append(ids, m.Header.Get(event.HeaderSubject))
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// saw publishes an enriched event, as if a webhook had come.
func (f *fixture) saw(id string, updated time.Time, deleted bool) {
	f.t.Helper()
	e := event.Event{
		ID: "hook " + id, Source: "orders", Account: "_", Type: "order.paid", Origin: event.Webhook, Resource: "order",
		RecordID: id, Version: event.TimeVersion(updated), ObservedAt: updated.Add(time.Second), Deleted: deleted,
	}
	if deleted {
		e.Version = ""
	}
	f.enriched(e)
}

func (f *fixture) enriched(e event.Event) {
	f.t.Helper()
	m := nats.NewMsg(e.EnrichedSubject())
	m.Header, m.Data = e.Header(), []byte(`{"trigger":null,"record":{}}`)
	if _, err := f.js.PublishMsg(f.t.Context(), m); err != nil {
		f.t.Fatal(err)
	}
}

// enrich passes triggers that carry their record on to TERCEL_ENRICHED until
// the test ends, as the enricher does.
func (f *fixture) enrich() {
	f.t.Helper()
	f.catchUp = 30 * time.Second
	cfg := consume.DefaultConfig()
	loop, err := consume.New(cfg, topology.StreamRaw, topology.EnrichConsumer("orders", cfg.Delivery()),
		consume.Each(func(ctx context.Context, m consume.Message) error {
			e, err := event.FromHeader(m.Header)
			if err != nil {
				return err
			}
			out := nats.NewMsg(e.EnrichedSubject())
			out.Header = e.Header()
			out.Data = event.Body{Record: m.Data}.Encode()
			_, err = f.js.PublishMsg(ctx, out)
			return err
		}), consume.Deps{JetStream: f.js, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Errorf("enriching: %v", err)
		}
	})
}
