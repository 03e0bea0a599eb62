package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/control"
	"github.com/tercelhq/tercel/services/reconciler"
)

// shop lists five pages of one order each, all changed an hour ago.
type shop struct {
	age    time.Duration // of the orders
	mu     sync.Mutex
	pages  []string        // the cursor of each request
	proofs map[string]bool // path and Authorization of each request
	before func(ctx context.Context, page string)
	busy   atomic.Int32
	most   atomic.Int32 // requests at once
	events string       // the list of an account's deliveries
	clash  atomic.Bool  // two requests at once
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	busy := s.busy.Add(1)
	if busy > 1 {
		s.clash.Store(true)
	}
	for most := s.most.Load(); busy > most && !s.most.CompareAndSwap(most, busy); most = s.most.Load() {
	}
	defer s.busy.Add(-1)
	if _, of, ok := strings.Cut(r.URL.Path, "/deliveries"); ok {
		if of == "" {
			_, _ = w.Write([]byte(s.events))
		} else {
			_, _ = w.Write([]byte(`{"request":{"payload":{"kind":"order.paid","id":"o1"}}}`))
		}
		return
	}
	page := r.FormValue("cursor")
	if page == "" {
		page = "1"
	}
	s.mu.Lock()
	s.pages = append(s.pages, page)
	s.proofs[r.URL.Path+" "+r.Header.Get("Authorization")] = true
	before := s.before
	s.mu.Unlock()
	if before != nil {
		before(r.Context(), page)
	}
	next := fmt.Sprintf("%q", string(page[0]+1))
	if page == "5" {
		next = "null"
	}
	_, _ = fmt.Fprintf(w, `{"orders":[{"id":"o%s","updated_at":%q}],"cursor":%s}`,
		page, time.Now().Add(-s.age).Format(time.RFC3339), next)
}

func (s *shop) set(before func(ctx context.Context, page string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *shop) asked() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.pages, " ")
}

type fixture struct {
	t      *testing.T
	server *natstest.Server
	js     jetstream.JetStream
	shop   *shop
	cfg    reconciler.Config
	log    io.Writer
}

func setup(t *testing.T, every string) *fixture {
	t.Helper()
	return setupAccounts(t, every, "[north]")
}

func setupAccounts(t *testing.T, every, accounts string) *fixture {
	t.Helper()
	f := &fixture{t: t, server: natstest.Start(t, false), shop: &shop{proofs: map[string]bool{}, age: time.Hour}, log: io.Discard}
	srv := httptest.NewServer(f.shop)
	t.Cleanup(srv.Close)
	file, err := pipeline.Decode("tercel.yaml", []byte(`
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:S]
    event: {type: body.kind}
    accounts: `+accounts+`
    api: {base: "`+srv.URL+`", allow_private: true, concurrency: 4}
    resources:
      order:
        triggers: [order.*]
        id: body.id
        get: /orders/{id}
        version: record.updated_at
        reconcile: {every: `+every+`, list: "/{account}/orders", items: orders, next: cursor}
      draft: {triggers: [draft.*], id: body.id, get: "/drafts/{id}", version: record.v}
reconciler: {lease_ttl: 10s, catch_up: 100ms}
`), config.WithLookupEnv(func(string) (string, bool) { return "a secret, long enough", true }))
	if err != nil {
		t.Fatal(err)
	}
	f.cfg = reconciler.Config{Reconciler: file.Reconciler, Sources: file.Sources, Streams: file.Streams}
	if f.js, err = jetstream.New(f.server.Connect(), natstest.Patient()); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), f.js, file.Streams); err != nil {
		t.Fatal(err)
	}
	return f
}

// start runs a service until the returned function is called.
func (f *fixture) start() (stop func()) {
	f.t.Helper()
	nc, log := f.server.Connect(), slog.New(slog.NewJSONHandler(f.log, nil))
	accounts, err := account.Open(account.Config{Sources: f.cfg.Sources, Streams: f.cfg.Streams}, account.Deps{Conn: nc, Log: log})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(accounts.Close)
	s, err := reconciler.New(f.cfg, reconciler.Deps{Conn: nc, Log: log, Accounts: accounts})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				f.t.Errorf("Run() = %v", err)
			}
		case <-time.After(time.Minute):
			f.t.Error("Run() goes on after its context ended")
		}
	})
	f.t.Cleanup(stop)
	return stop
}

// eventually waits until f holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func (f *fixture) reports() []report.Report {
	f.t.Helper()
	list, err := report.List(f.t.Context(), f.js, report.Query{Source: "orders"})
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

// ask asks for a run until a service answers that can begin it.
func (f *fixture) ask(nc *nats.Conn, req control.Request) control.Started {
	f.t.Helper()
	var started control.Started
	var err error
	eventually(f.t, "a run begins", func() bool {
		started, err = control.RunReconcile(f.t.Context(), nc, req)
		return !errors.Is(err, control.ErrNobody) && !errors.Is(err, control.ErrRunning)
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return started
}

// follow returns the report of a run that was asked for.
func (f *fixture) follow(started control.Started) report.Report {
	f.t.Helper()
	var rep report.Report
	eventually(f.t, "the report of run "+started.Run, func() bool {
		all := f.reports()
		i := slices.IndexFunc(all, func(r report.Report) bool { return r.Run == started.Run })
		if i >= 0 {
			rep = all[i]
		}
		return i >= 0
	})
	return rep
}

func TestRunOnDemand(t *testing.T) {
	t.Parallel()
	f := setup(t, "1h")
	f.start()
	eventually(t, "the first run, by schedule", func() bool { return len(f.reports()) == 1 })
	nc := f.server.Connect()
	for _, dry := range []bool{true, false} {
		started := f.ask(nc, control.Request{Source: "orders", Resource: "order", DryRun: dry})
		rep := f.follow(started)
		if rep.Trigger != report.Demand || rep.DryRun != dry || rep.Account != "north" || rep.Listed != 5 || !rep.Complete ||
			started.Account != "north" || !started.StartedAt.Equal(rep.StartedAt) {
			t.Errorf("dry %t: started %+v, report %+v", dry, started, rep)
		}
	}
	reports := f.reports()
	if len(reports) != 3 || reports[0].Trigger != report.Schedule || reports[0].Repaired != 5 {
		t.Errorf("%d reports, the first %+v", len(reports), reports[0])
	}
}

func TestRequestsThatCannotBeMetSayWhy(t *testing.T) {
	t.Parallel()
	f := setup(t, "1h")
	hold := make(chan struct{})
	f.shop.set(func(ctx context.Context, _ string) {
		select {
		case <-hold:
		case <-ctx.Done():
		}
	})
	f.start()
	eventually(t, "the first run asks the source", func() bool { return f.shop.asked() != "" })
	nc := f.server.Connect()
	tests := map[string]struct {
		req  control.Request
		want error
		text string
	}{
		"unknown source":        {control.Request{Source: "order", Resource: "order"}, control.ErrUnknown, "known are orders/north/order"},
		"unknown account":       {control.Request{Source: "orders", Account: "south", Resource: "order"}, control.ErrUnknown, "known are orders/north/order"},
		"resource without list": {control.Request{Source: "orders", Resource: "draft"}, control.ErrUnknown, "known are orders/north/order"},
		"one that runs":         {control.Request{Source: "orders", Resource: "order"}, control.ErrRunning, "held by "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := control.RunReconcile(t.Context(), nc, tt.req)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("RunReconcile() = %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
	close(hold)
	eventually(t, "the first run ends", func() bool { return len(f.reports()) == 1 })
}

// However many replicas there are, runs of a resource follow each other, and
// no more of them than the schedule wants.
func TestReplicasTakeTurns(t *testing.T) {
	t.Parallel()
	f := setup(t, "2s")
	began := time.Now()
	stopOne := f.start()
	f.start()
	f.start()
	eventually(t, "two runs", func() bool { return len(f.reports()) >= 2 })
	stopOne()
	eventually(t, "four runs", func() bool { return len(f.reports()) >= 4 })
	reports := f.reports()
	if most := int(time.Since(began)/(1800*time.Millisecond)) + 1; len(reports) > most {
		t.Errorf("%d runs in %s, want at most %d", len(reports), time.Since(began), most)
	}
	for i, r := range reports {
		if i > 0 && r.StartedAt.Before(reports[i-1].EndedAt) {
			t.Errorf("run %d began %s before the one before ended", i, reports[i-1].EndedAt.Sub(r.StartedAt))
		}
		if !r.Complete {
			t.Errorf("report %+v", r)
		}
	}
	if f.shop.clash.Load() {
		t.Error("two replicas listed at once")
	}
}

// Promise 6: a service that is stopped between two pages loses none and
// compares none again.
func TestStoppedRunGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	f := setup(t, "1h")
	third := make(chan struct{})
	f.shop.set(func(ctx context.Context, page string) {
		if page == "3" {
			close(third)
			<-ctx.Done()
		}
	})
	stop := f.start()
	<-third
	stopping := time.Now()
	stop()
	if took := time.Since(stopping); took > 20*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if n := len(f.reports()); n != 0 {
		t.Errorf("%d reports of an unfinished run, want none", n)
	}
	f.shop.set(nil)
	f.start()
	eventually(t, "the run's report", func() bool { return len(f.reports()) == 1 })
	if rep := f.reports()[0]; rep.Listed != 5 || rep.Repaired != 5 || rep.Pages != 5 || !rep.Complete || rep.Continues != "" {
		t.Errorf("report %+v, want the whole window", rep)
	}
	if got := f.shop.asked(); got != "1 2 3 3 4 5" {
		t.Errorf("pages asked for: %s, want only the third twice", got)
	}
	raw, err := f.js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	if n := raw.CachedInfo().State.Msgs; n != 5 {
		t.Errorf("%d triggers, want 5", n)
	}
}

func TestHealthFollowsTheConnection(t *testing.T) {
	t.Parallel()
	f := setup(t, "1h")
	s, err := reconciler.New(f.cfg, reconciler.Deps{Conn: f.server.Connect(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	defer func() { _ = s.Run(ctx) }()
	if err := s.Healthy(t.Context()); err != nil {
		t.Errorf("Healthy() = %v", err)
	}
	f.server.Stop()
	eventually(t, "it is not healthy", func() bool { return s.Healthy(t.Context()) != nil })
	f.server.Resume()
	eventually(t, "it is healthy again", func() bool { return s.Healthy(t.Context()) == nil })
}

// full makes the bucket of cursors anew, with a consumer and room for no other,
// until the returned function is called: it can be read and not be watched.
func (f *fixture) full() (free func()) {
	f.t.Helper()
	stream, err := f.js.Stream(f.t.Context(), "KV_"+topology.BucketCursors)
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxConsumers = 1
	if err = f.js.DeleteStream(f.t.Context(), cfg.Name); err == nil {
		stream, err = f.js.CreateStream(f.t.Context(), cfg)
	}
	if err == nil {
		_, err = stream.CreateConsumer(f.t.Context(), jetstream.ConsumerConfig{Name: "other", Durable: "other"})
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return func() {
		if err := stream.DeleteConsumer(f.t.Context(), "other"); err != nil {
			f.t.Error(err)
		}
	}
}

// While it can't be known what is paused nothing is reconciled, which the log and
// the health tell.
func TestHealthAndLogTellThatNothingCanBegin(t *testing.T) {
	t.Parallel()
	f, log := setup(t, "1h"), &written{}
	free := f.full()
	s, err := reconciler.New(f.cfg, reconciler.Deps{Conn: f.server.Connect(), Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	defer running.Wait()
	defer cancel()
	eventually(t, "it is not healthy", func() bool { return s.Healthy(t.Context()) != nil })
	free()
	eventually(t, "it is healthy again", func() bool { return s.Healthy(t.Context()) == nil })
	for _, text := range []string{"pauses can't be followed", "pauses are followed again"} {
		if n := strings.Count(log.String(), text); n != 1 {
			t.Errorf("%q is %d times in the log, want once:\n%s", text, n, log)
		}
	}
}

// A source's list of events is reconciled by schedule and on demand beside its
// resources, for each account.
func TestEventsAreReconciledToo(t *testing.T) {
	t.Parallel()
	f := setup(t, "1h")
	src := f.cfg.Sources["orders"]
	github, _ := provider.LookupPreset("github")
	events := *github.Events
	src.Event.ID, src.Events = github.Event.ID, &events
	listed, err := provider.ParsePath("/{account}/deliveries")
	if err != nil {
		t.Fatal(err)
	}
	src.Events.List = listed
	f.cfg.Sources["orders"] = src
	f.shop.events = fmt.Sprintf(`[{"id":7,"guid":"g7","delivered_at":%q,"event":"order","action":"paid"}]`, time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
	f.start()
	reports := func() []report.Report {
		list, err := report.List(t.Context(), f.js, report.Query{Source: "orders", Resource: provider.EventsResource})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	eventually(t, "the first run, by schedule", func() bool { return len(reports()) == 1 })
	if rep := reports()[0]; rep.Account != "north" || rep.Missed != 1 || rep.Repaired != 1 || !rep.Complete || rep.Records[0].Type != "order.paid" {
		t.Errorf("report %+v, want one event that was missed", rep)
	}
	started := f.ask(f.server.Connect(), control.Request{Source: "orders", Resource: provider.EventsResource})
	if started.Resource != provider.EventsResource || started.Account != "north" {
		t.Errorf("started %+v", started)
	}
	eventually(t, "the second run", func() bool { return len(reports()) == 2 })
}
