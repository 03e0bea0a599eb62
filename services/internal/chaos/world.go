package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/freeport"
	"github.com/tercelhq/tercel/services/internal/chaos/balancer"
	"github.com/tercelhq/tercel/services/internal/chaos/clock"
	disks "github.com/tercelhq/tercel/services/internal/chaos/disk"
	"github.com/tercelhq/tercel/services/internal/chaos/link"
	"github.com/tercelhq/tercel/services/internal/pgtest"
	"github.com/tercelhq/tercel/services/internal/process"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

// startTime bounds the start of the whole world, and of any process that a fault
// has ended.
const startTime = 5 * time.Minute

// member is one process of the pipeline or of its cluster.
type member struct {
	*process.Process
	name string // such as "ingress-1"
	kind string // such as "ingress", the program's name
	addr string // where an ingress takes webhooks, or a server its clients

	health string // base URL of its health and figures
}

// world is everything that runs.
type world struct {
	plan
	dir string // with all that is written

	stores map[string]string      // folders, by the names of the processes that store in them
	disks  map[string]*disks.Disk // that these are on, if they can be

	members map[string]*member // by name
	order   []string           // the names in the order of their start
	ways    map[way]*link.Link // of all connections between members
	db      *pgtest.Server
	pool    *pgxpool.Pool // to db itself
	nc      *nats.Conn    // to all servers themselves
	js      jetstream.JetStream

	balancer *balancer.Balancer
	api      *http.Server
	apiAddr  string
	provider atomic.Pointer[simulator.Provider] // whose API is served
	warming  atomic.Bool                        // it is the warm-up's, of which no list may tell the load's source

	ends []func() // in the order of starts
}

// build makes the programs that are run, on request with clocks that can be set.
func build(ctx context.Context, dir string, clocks bool) error {
	programs := []string{"github.com/nats-io/nats-server/v2"}
	for _, kind := range kinds {
		programs = append(programs, "./services/cmd/"+kind)
	}
	if clocks {
		return clock.Build(ctx, dir, programs...)
	}
	args := append([]string{"build", "-o", dir + string(filepath.Separator)}, programs...)
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// plan is what a world is made for.
type plan struct {
	retention time.Duration // how long streams keep messages
	clocks    bool          // clocks are to be set
}

// newWorld builds and starts everything in dir. Close it, even after an error.
func newWorld(ctx context.Context, dir string, p plan) (w *world, err error) {
	w = &world{
		dir: dir, plan: p, stores: map[string]string{}, disks: map[string]*disks.Disk{},
		members: map[string]*member{}, ways: map[way]*link.Link{},
	}
	if err := os.Chmod(dir, 0o711); err != nil { // the database's user must get through to its store
		return w, err
	}
	for _, sub := range []string{"bin", "logs", "config", "store", "clocks"} {
		if err := os.MkdirAll(w.path(sub), 0o711); err != nil {
			return w, err
		}
	}
	if err := build(ctx, w.path("bin"), p.clocks); err != nil {
		return w, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for _, start := range []func(context.Context) error{w.startDatabase, w.startAPI, w.startCluster, w.startServices} {
		if err := start(ctx); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// close ends everything, the last first.
func (w *world) close() {
	for i := len(w.ends) - 1; i >= 0; i-- {
		w.ends[i]()
	}
}

// add makes a member of a program that was built.
func (w *world) add(m member, args []string, env ...string) *member {
	page := "/readyz"
	if m.kind == server {
		page = "/healthz"
	}
	m.Process = &process.Process{
		Path: w.path("bin", m.kind), Args: args, Env: append(env, clock.Variable+"="+w.clockFile(m.name)),
		Log: w.path("logs", m.name+".log"), Ready: process.Answers(m.health + page),
	}
	w.members[m.name], w.order = &m, append(w.order, m.name)
	w.ends = append(w.ends, m.Kill)
	return &m
}

// ready waits until every process is ready.
func (w *world) ready(ctx context.Context) error {
	for _, name := range w.order {
		if err := w.members[name].AwaitReady(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (w *world) startDatabase(ctx context.Context) (err error) {
	dir, err := w.newStore(database)
	if err != nil {
		return err
	}
	if w.db, err = pgtest.LaunchIn(dir); err != nil { // which syncs every commit
		return err
	}
	w.ends = append(w.ends, func() { _ = w.db.Stop() })
	if w.pool, err = pgxpool.New(ctx, w.dsn(w.db.Addr())); err != nil {
		return err
	}
	w.ends = append(w.ends, w.pool.Close)
	return nil
}

func (w *world) dsn(addr string) string { return w.db.URL(pgtest.Superuser, pgtest.Database, addr) }

// startAPI serves the API of the provider of the hour.
func (w *world) startAPI(context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.apiAddr = l.Addr().String()
	w.api = &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch p := w.provider.Load(); {
		case p == nil:
			http.Error(rw, "there is no provider yet", http.StatusServiceUnavailable)
		case w.warming.Load() && r.URL.Path == "/orders":
			rw.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(rw, `{"orders": [], "next_cursor": null}`)
		default:
			p.ServeHTTP(rw, r)
		}
	})}
	served := make(chan error, 1)
	go func() { served <- w.api.Serve(l) }()
	w.ends = append(w.ends, func() {
		_ = w.api.Close()
		<-served
	})
	return nil
}

// newProvider returns a provider whose API is served from now on.
func (w *world) newProvider(cfg simulator.Config) (*simulator.Provider, error) {
	cfg.Secret, cfg.Token = config.NewSecret(secret), config.NewSecret(token)
	p, err := simulator.New(cfg)
	if err != nil {
		return nil, err
	}
	w.provider.Store(p)
	return p, nil
}

// target is where a source's webhooks are sent.
func (w *world) target(source string) string { return w.balancer.URL() + "/v1/" + source }

// freeAddrs returns n addresses for processes to listen on.
func freeAddrs(n int) (addrs []string, err error) {
	for range n {
		addr, bad := freeport.Addr()
		addrs, err = append(addrs, addr), errors.Join(err, bad)
	}
	return addrs, err
}
