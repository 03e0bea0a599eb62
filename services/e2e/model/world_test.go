package model_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/enricher"
	"github.com/tercelhq/tercel/services/ingress"
	"github.com/tercelhq/tercel/services/reconciler"
	"github.com/tercelhq/tercel/services/sink"
)

const (
	source      = "shop"
	resource    = "order"
	destination = "database"
	secret      = "a secret, long enough"
	// perWorld is how many histories one world sees, each with an account of its
	// own, one after the other.
	perWorld = 20
)

const pipelineFile = `
sources:
  shop:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:SECRET]
    event: {id: body.id, type: body.kind}
    accounts: [%[1]s]
    api: {base: %[2]q, allow_private: true, concurrency: 4}
    resources:
      order:
        triggers: [order.*]
        id: body.order
        get: "/{account}/orders/{id}"
        version: %[3]s
        reconcile: {%[4]s, time: record.updated_at, every: 87600h, settle: %[5]s, overlap: %[6]s}
destinations:
  database: {sqlite: {path: %[7]q}}
streams: {durability: relaxed}
enricher: {ack_wait: 1s, max_attempts: 50, retry_min: 10ms, retry_max: 100ms}
sink: {ack_wait: 1s, max_attempts: 50, retry_min: 10ms, retry_max: 100ms}
reconciler: {lease_ttl: 60s, catch_up: 300ms, repair_rate: 10000, audit_every: 24h}
`

// world is a provider and a pipeline: a server and the four services on it, each
// with a connection of its own.
type world struct {
	t     testing.TB
	shape shape
	clock *clock
	watch *watch // the reconciler's
	file  *pipeline.File
	db    string

	server *natstest.Server
	nc     *nats.Conn
	js     jetstream.JetStream
	parts  map[string]*part
	sign   func(body []byte) http.Header

	mu    sync.Mutex // guards books
	books map[string]*book
	hook  hook
	used  int // accounts
}

// newWorld makes one that ends with the test, or when it is ended.
func newWorld(t testing.TB, s shape) *world {
	w := &world{t: t, shape: s, clock: newClock(), books: map[string]*book{}, parts: map[string]*part{}}
	w.watch = &watch{clock: w.clock}
	api := httptest.NewServer(w)
	t.Cleanup(api.Close)
	w.db = filepath.Join(t.TempDir(), "orders.db")
	var accounts []string
	for i := range perWorld {
		accounts = append(accounts, account(i))
	}
	var err error
	w.file, err = pipeline.Decode("tercel.yaml", fmt.Appendf(nil, pipelineFile, strings.Join(accounts, ", "), api.URL,
		s.version, s.reconcile, settle, s.overlap, w.db), config.WithLookupEnv(func(string) (string, bool) { return secret, true }))
	if err != nil {
		t.Fatal(err)
	}
	src := w.file.Sources[source]
	key, err := signature.ParseKey(src.Verify, secret)
	if err != nil {
		t.Fatal(err)
	}
	w.sign = func(body []byte) http.Header { return src.Verifier().Sign(key, body, "", w.clock.now()) }
	w.server = natstest.Start(t, false)
	// Not the server's own Connect, whose patience a busy machine may exceed.
	if w.nc, err = nats.Connect(w.server.URL(), nats.Timeout(time.Minute)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.nc.Close)
	if w.js, err = jetstream.New(w.nc, jetstream.WithDefaultTimeout(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), w.js, w.file.Streams); err != nil {
		t.Fatal(err)
	}
	w.asIfBegun()
	for name, build := range map[string]func(*nats.Conn) (running, error){
		"ingress": w.ingress, "enricher": w.enricher, "sink": w.sink, "reconciler": w.reconciler,
	} {
		w.parts[name] = &part{name: name, url: w.server.URL(), build: build, buried: func() { w.buried(name) }, alone: name == "sink"}
		w.parts[name].start()
	}
	t.Cleanup(w.end)
	return w
}

func account(i int) string { return fmt.Sprint("acct", i) }

// asIfBegun keeps the reconciler from beginning by itself: when it runs is a
// history's to say.
func (w *world) asIfBegun() {
	store, err := cursor.Open(w.t.Context(), w.js)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range perWorld {
		if _, err := store.Save(w.t.Context(), cursor.Entry{Key: w.key(account(i))}, cursor.Cursor{StartedAt: w.clock.now()}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) key(account string) cursor.Key {
	return cursor.Key{Source: source, Account: account, Resource: resource}
}

// end kills all services.
func (w *world) end() {
	for _, p := range w.parts {
		p.kill(true)
	}
	for _, p := range w.parts {
		p.ended.Wait()
	}
}

// buried lets the time pass that a dead service's lease has left.
func (w *world) buried(name string) {
	if name != "reconciler" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	kv, err := w.js.KeyValue(ctx, topology.BucketLeases)
	if err != nil {
		return // the world ends
	}
	for i := range perWorld {
		lease := "reconcile." + w.key(account(i)).String()
		if holder, err := cursor.Holder(ctx, w.js, lease); err == nil && holder != "" {
			_ = kv.Purge(ctx, lease)
		}
	}
}

var quiet = slog.New(slog.DiscardHandler)

func (w *world) ingress(nc *nats.Conn) (running, error) {
	s, err := ingress.New(ingress.Config{Ingress: w.file.Ingress, Sources: w.file.Sources, Streams: w.file.Streams},
		ingress.Deps{Conn: nc, Log: quiet, Now: w.clock.now})
	if err != nil {
		return running{}, err
	}
	return running{func(ctx context.Context) error {
		<-ctx.Done()
		s.Close()
		return nil
	}, s.Handler()}, nil
}

func (w *world) enricher(nc *nats.Conn) (running, error) {
	s, err := enricher.New(enricher.Config{Config: w.file.Enricher, Sources: w.file.Sources, Streams: w.file.Streams},
		enricher.Deps{Conn: nc, Log: quiet, Now: w.clock.now})
	if err != nil {
		return running{}, err
	}
	return running{run: s.Run}, nil
}

func (w *world) sink(nc *nats.Conn) (running, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return running{}, err
	}
	s, err := sink.New(sink.Config{Config: w.file.Sink, Destinations: w.file.Destinations}, sink.Deps{JetStream: js, Log: quiet})
	if err != nil {
		return running{}, err
	}
	return running{run: s.Run}, nil
}

func (w *world) reconciler(nc *nats.Conn) (running, error) {
	s, err := reconciler.New(reconciler.Config{
		Reconciler: w.file.Reconciler, Sources: w.file.Sources, Streams: w.file.Streams, Destinations: w.file.Compared(),
	}, reconciler.Deps{Conn: nc, Log: quiet, Now: w.watch.now})
	if err != nil {
		return running{}, err
	}
	return running{run: s.Run}, nil
}

// hook makes something happen while the provider answers a request for a page.
type hook struct {
	mu    sync.Mutex // guards those below
	page  int        // how many requests come before it
	early bool       // the answer is as it was before
	do    func()     // or nil
	doing sync.WaitGroup
}

// set has do be done once, at a page to come.
func (h *hook) set(page int, early bool, do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.page, h.early, h.do = page, early, do
}

// take is what to do at this page, if anything.
func (h *hook) take() (do func(), early bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.do == nil {
		return nil, false
	}
	if h.page > 0 {
		h.page--
		return nil, false
	}
	do, early, h.do = h.do, h.early, nil
	h.doing.Add(1)
	return do, early
}

// ServeHTTP is the provider's API.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	w.mu.Lock()
	b := w.books[path[0]]
	w.mu.Unlock()
	if b == nil {
		http.NotFound(rw, r)
		return
	}
	if len(path) == 3 {
		rw.Header().Set("Date", w.clock.now().Format(http.TimeFormat))
		id, err := url.PathUnescape(path[2])
		rec, there := b.get(id)
		if err != nil || !there {
			http.NotFound(rw, r)
			return
		}
		answer(rw, rec)
		return
	}
	all := b.records()
	if do, early := w.hook.take(); do != nil {
		do()
		w.hook.doing.Done()
		if !early {
			all = b.records()
		}
	}
	rw.Header().Set("Date", w.clock.now().Format(http.TimeFormat))
	w.shape.list(rw, r, all)
}
