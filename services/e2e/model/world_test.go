package model_test

import (
	"context"
	"errors"
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
	destination = "database"
	secret      = "a secret, long enough"
	// perWorld is how many histories one world sees, each with an account of its
	// own, one after the other.
	perWorld = 25
)

// world is a provider and a pipeline: a server and the four services on it, each
// with a connection of its own.
type world struct {
	t testing.TB
	setting
	clock *clock
	watch *watch // the reconciler's
	pipe  *pipeline.File
	db    string

	server *natstest.Server
	nc     *nats.Conn
	js     jetstream.JetStream
	parts  map[string]*part
	sign   func(body []byte) http.Header

	mu      sync.Mutex // guards books
	books   map[string]*book
	hook    hook
	reached *coverage
	used    int // accounts
}

// newWorld makes one that ends with the test, or when it is ended.
func newWorld(t testing.TB, s setting, reached *coverage) *world {
	w := &world{t: t, setting: s, clock: newClock(), books: map[string]*book{}, parts: map[string]*part{}, reached: reached}
	w.watch = &watch{clock: w.clock}
	api := httptest.NewServer(w)
	t.Cleanup(api.Close)
	w.db = filepath.Join(t.TempDir(), "orders.db")
	var accounts []string
	for i := range perWorld {
		accounts = append(accounts, account(i))
	}
	var err error
	w.pipe, err = pipeline.Decode("tercel.yaml", s.file(api.URL, w.db, accounts), config.WithLookupEnv(func(string) (string, bool) { return secret, true }))
	if err != nil {
		t.Fatal(err)
	}
	src := w.pipe.Sources[source]
	key, err := signature.ParseKey(src.Verify, secret)
	if err != nil {
		t.Fatal(err)
	}
	w.sign = func(body []byte) http.Header { return src.Verifier().Sign(key, body, "", w.clock.now()) }
	w.server = natstest.Start(t, false)
	// Not the server's own Connect, whose patience a busy machine may exceed.
	if w.nc, err = nats.Connect(w.server.URL(), nats.Timeout(time.Minute), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.nc.Close)
	if w.js, err = jetstream.New(w.nc, jetstream.WithDefaultTimeout(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), w.js, w.pipe.Streams); err != nil {
		t.Fatal(err)
	}
	w.pauseAll()
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

// pauseAll keeps the reconciler from beginning by itself: when it runs is a
// history's to say.
func (w *world) pauseAll() {
	for i := range perWorld {
		if err := w.pause(w.t.Context(), account(i)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// pause keeps an account whose history is not being played from being
// reconciled, resume ends that.
func (w *world) pause(ctx context.Context, account string) error {
	store, err := cursor.Open(ctx, w.js)
	if err == nil {
		_, err = store.Pause(ctx, cursor.Scope{Source: source, Account: account}, w.clock.now())
	}
	return err
}

func (w *world) resume(ctx context.Context, account string) error {
	store, err := cursor.Open(ctx, w.js)
	if err == nil {
		_, _, err = store.Resume(ctx, cursor.Scope{Source: source, Account: account})
	}
	return err
}

// began notes when the last runs of an account began, after which the schedule
// says when the next do.
func (w *world) began(ctx context.Context, account string, at time.Time) error {
	store, err := cursor.Open(ctx, w.js)
	if err != nil {
		return err
	}
	for _, work := range []cursor.Work{"", cursor.Deletes} {
		if work != "" && !w.deletes {
			continue
		}
		for { // the service may be noting what it saw of the schedule
			e, err := store.Load(ctx, w.key(account, work))
			if err != nil {
				return err
			}
			next := e.Cursor
			next.StartedAt = at
			if _, err = store.Save(ctx, e, next); err == nil {
				break
			}
			if !errors.Is(err, cursor.ErrConflict) || ctx.Err() != nil {
				return err
			}
		}
	}
	return nil
}

func (w *world) key(account string, work cursor.Work) cursor.Key {
	return cursor.Key{Source: source, Account: account, Resource: w.target(), Work: work}
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
	leases, err := kv.ListKeysFiltered(ctx, "reconcile.>", "backfill.>", "audit", "alarm")
	if err != nil {
		return
	}
	for lease := range leases.Keys() {
		_ = kv.Purge(ctx, lease)
	}
}

var quiet = slog.New(slog.DiscardHandler)

func (w *world) ingress(nc *nats.Conn) (running, error) {
	s, err := ingress.New(ingress.Config{Ingress: w.pipe.Ingress, Sources: w.pipe.Sources, Streams: w.pipe.Streams},
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
	s, err := enricher.New(enricher.Config{Config: w.pipe.Enricher, Sources: w.pipe.Sources, Streams: w.pipe.Streams},
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
	s, err := sink.New(sink.Config{Config: w.pipe.Sink, Destinations: w.pipe.Destinations}, sink.Deps{JetStream: js, Log: quiet})
	if err != nil {
		return running{}, err
	}
	return running{run: s.Run}, nil
}

func (w *world) reconciler(nc *nats.Conn) (running, error) {
	s, err := reconciler.New(reconciler.Config{
		Reconciler: w.pipe.Reconciler, Sources: w.pipe.Sources, Streams: w.pipe.Streams, Destinations: w.pipe.Compared(),
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

// hooked does at a page what is to be done there, and reports whether the answer
// is as it is after that.
func (w *world) hooked() bool {
	do, early := w.hook.take()
	if do == nil {
		return false
	}
	do()
	w.hook.doing.Done()
	return !early
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
	if path[1] == "events" {
		w.eventsAPI(rw, r, b, path[1:])
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
	if w.hooked() {
		all = b.records()
	}
	rw.Header().Set("Date", w.clock.now().Format(http.TimeFormat))
	w.list(rw, r, all)
}
