package sourceapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/pkg/topology"
)

// An answer serves a call only if its request began after the call, or within
// the age that the call takes: a record is never older than its trigger.
func TestAnswersAreSharedOnlyWhereTheyAreFreshEnough(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n := calls.Add(1)
		<-release
		fmt.Fprint(w, n)
	})
	cfg := api(s.URL)
	cfg.CacheSize = 1 << 20
	now := newClock()
	c := newClient(t, cfg, sourceapi.Deps{Now: now.now})
	type result struct {
		body string
		err  error
	}
	do := func(r sourceapi.Request) chan result {
		done := make(chan result, 1)
		go func() {
			ans, err := c.Do(t.Context(), r)
			done <- result{string(ans.Body), err}
		}()
		return done
	}
	first := do(sourceapi.Request{Path: "/a"})
	await(t, "the first request", func() bool { return calls.Load() == 1 })
	now.move(time.Second)
	second := do(sourceapi.Request{Path: "/a"}) // the first was sent before this call
	await(t, "a second request", func() bool { return calls.Load() == 2 })
	aged := do(sourceapi.Request{Path: "/a", MaxAge: 5 * time.Second})
	await(t, "the third call", func() bool { return c.Waiting() >= 2 }) // the first one's request isn't listed any more
	release <- struct{}{}
	release <- struct{}{}
	for what, done := range map[string]chan result{"first": first, "second": second, "aged": aged} {
		if r := <-done; r.err != nil || what == "aged" && calls.Load() != 2 {
			t.Errorf("%s: %+v after %d requests, want success after 2", what, r, calls.Load())
		}
	}
	close(release)
	kept := func(age time.Duration) int32 {
		if r := <-do(sourceapi.Request{Path: "/b", MaxAge: age}); r.err != nil {
			t.Error(r.err)
		}
		return calls.Load()
	}
	if got := kept(5 * time.Second); got != 3 {
		t.Errorf("%d requests, want 3", got)
	}
	now.move(4 * time.Second)
	if got := kept(5 * time.Second); got != 3 {
		t.Errorf("%d requests within the age, want 3", got)
	}
	now.move(2 * time.Second)
	if got := kept(5 * time.Second); got != 4 {
		t.Errorf("%d requests beyond the age, want 4", got)
	}
}

// Equal calls that come while a request is delayed are answered by it; one that
// ends meanwhile takes none of the others along.
func TestGatheredCallsAreOneRequest(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "[%d,%q]", calls.Add(1), r.Method+" "+r.Header.Get("Content-Type")+" "+string(body))
	})
	c := newClient(t, api(s.URL), sourceapi.Deps{})
	ctx, cancel := context.WithCancel(t.Context())
	gathered := sourceapi.Request{Method: "POST", Path: "/graphql", Body: []byte(`{"query":"{a}"}`), Gather: 300 * time.Millisecond}
	left := make(chan error, 1)
	go func() { _, err := c.Do(ctx, gathered); left <- err }()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			ans, err := c.Do(t.Context(), gathered)
			if want := `[1,"POST application/json {\"query\":\"{a}\"}"]`; err != nil || string(ans.Body) != want {
				t.Errorf("Do() = %s, %v, want %s", ans.Body, err, want)
			}
		})
	}
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("Do() = %v, want it canceled", err)
	}
	wg.Wait()
	other := gathered
	other.Body, other.Gather = []byte(`{"query":"{b}"}`), 0
	if ans, err := c.Do(t.Context(), other); err != nil || !strings.HasPrefix(string(ans.Body), "[2,") {
		t.Errorf("Do() of another query = %s, %v, want a request of its own", ans.Body, err)
	}
}

func TestConditionalRequests(t *testing.T) {
	t.Parallel()
	var whole, unchanged atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bogus" {
			w.WriteHeader(304)
			return
		}
		tag := `"` + r.Header.Get("Authorization") + `"`
		if r.Header.Get("If-None-Match") == tag {
			unchanged.Add(1)
			w.WriteHeader(304)
			return
		}
		whole.Add(1)
		w.Header().Set("Etag", tag)
		if r.URL.Path == "/private" {
			w.Header().Set("Cache-Control", "private, No-Store")
		}
		fmt.Fprintf(w, `[%q]`, strings.Repeat("x", 3000))
	})
	cfg := api(s.URL)
	cfg.CacheSize = 64 << 10
	now := newClock()
	c := newClient(t, cfg, sourceapi.Deps{Now: now.now, Auth: func(account string) (provider.Auth, bool) {
		return provider.Auth{Token: config.NewSecret(account)}, true
	}})
	counts := func(path, account string, wantWhole, wantUnchanged int32) {
		t.Helper()
		now.move(time.Second)
		ans, err := c.Do(t.Context(), sourceapi.Request{Path: path, Account: account})
		if err != nil || len(ans.Body) != 3004 || ans.Status != 200 || !ans.RequestedAt.Equal(now.now()) {
			t.Errorf("Do() of %s = %d bytes at %s, %v", path, len(ans.Body), ans.RequestedAt, err)
		}
		if ans.Header.Get("Date") == "" {
			t.Errorf("Do() of %s has no date, by which the API's clock can be told", path)
		}
		if whole.Load() != wantWhole || unchanged.Load() != wantUnchanged {
			t.Errorf("%s: %d whole answers and %d without change, want %d and %d", path, whole.Load(), unchanged.Load(), wantWhole, wantUnchanged)
		}
	}
	counts("/a", "north", 1, 0)
	counts("/a", "north", 1, 1)
	counts("/a", "south", 2, 1) // what one account was shown is not for another
	counts("/private", "north", 3, 1)
	counts("/private", "north", 4, 1)
	for i := range 40 { // more than there is room for
		counts(fmt.Sprint("/more/", i), "north", int32(5+i), 1)
	}
	counts("/a", "north", 45, 1)
	if _, err := c.Get(t.Context(), "/bogus", nil); fault.ClassOf(err) != fault.Transient {
		t.Errorf("Get() of a 304 that nobody asked for = %v, want it to pass", err)
	}
}

// While calls wait that events wait for, listing gets one turn of four and at
// most half of the requests in flight.
func TestBackgroundGivesWay(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		order = append(order, r.URL.Path[:2])
		mu.Unlock()
		fmt.Fprint(w, "{}")
	})
	cfg := api(s.URL)
	cfg.Concurrency = 1
	cfg.Rate = provider.Rate{Requests: 100, Per: time.Second}
	c := newClient(t, cfg, sourceapi.Deps{})
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			_, _ = c.Do(t.Context(), sourceapi.Request{Path: fmt.Sprint("/l", i), Background: true})
		})
	}
	for i := range 60 {
		wg.Go(func() { _, _ = c.Do(t.Context(), sourceapi.Request{Path: fmt.Sprint("/r", i)}) })
	}
	wg.Wait()
	listed := 0
	for _, kind := range order[:70] { // some came before all of them waited
		if kind == "/l" {
			listed++
		}
	}
	if len(order) != 120 || listed < 10 || listed > 35 {
		t.Errorf("%d of the first 70 of %d requests were listing, want about a quarter", listed, len(order))
	}
}

// Replicas share the configured limits by what they are, while they call.
func TestReplicasShareTheLimits(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, false)
	js, err := jetstream.New(server.Connect(), natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { calls.Add(1); fmt.Fprint(w, "{}") })
	cfg := api(s.URL)
	cfg.Rate = provider.Rate{Requests: 60, Per: time.Second}
	replica := func(background bool) *sourceapi.Client {
		return newClient(t, cfg, sourceapi.Deps{JetStream: js, Background: background})
	}
	one, two, lister := replica(false), replica(false), replica(true)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	flood := func(c *sourceapi.Client) {
		for worker := range 4 {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					_, _ = c.Get(ctx, fmt.Sprintf("/%d/%d", worker, i), nil)
				}
			})
		}
	}
	parts := func(what string, want map[*sourceapi.Client]float64) {
		t.Helper()
		await(t, what, func() bool {
			for c, part := range want {
				if got := c.Part(); got < part-.001 || got > part+.001 {
					return false
				}
			}
			return true
		})
	}
	flood(one)
	parts("one alone", map[*sourceapi.Client]float64{one: 1})
	flood(two)
	parts("two share", map[*sourceapi.Client]float64{one: .5, two: .5})
	flood(lister)
	parts("a lister takes less", map[*sourceapi.Client]float64{one: 3. / 7, two: 3. / 7, lister: 1. / 7})
	before, began := calls.Load(), time.Now()
	<-time.After(2 * time.Second) // time itself is what this is about
	took := time.Since(began).Seconds()
	if rate := float64(calls.Load()-before) / took; rate > 60*1.1 {
		t.Errorf("%.0f requests a second by all, want at most 60", rate)
	}
	cancel()
	wg.Wait()
	ctx, cancel = context.WithCancel(t.Context())
	flood(one)
	parts("alone again", map[*sourceapi.Client]float64{one: 1})
	cancel()
	wg.Wait()
}

// A credential in the query is sent, and seen nowhere else.
func TestQueryCredential(t *testing.T) {
	t.Parallel()
	var got atomic.Value
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { got.Store(r.URL.RawQuery); w.WriteHeader(400) })
	cfg := api(s.URL)
	cfg.Query = map[string]config.Secret{"key": config.NewSecret("hunter2&")}
	_, err := newClient(t, cfg, sourceapi.Deps{}).Get(t.Context(), "/a?x=1", nil)
	if got.Load() != "x=1&key=hunter2%26" || err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Get() = %v, query %q", err, got.Load())
	}
}

// Who has waited for a turn until too little time was left for the request
// hasn't tried it: that the API takes its time says nothing then.
func TestTurnThatComesTooLateIsNoAttempt(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		<-r.Context().Done()
	})
	cfg := api(s.URL)
	cfg.Rate = provider.Rate{Requests: 1, Per: 2 * time.Second}
	c := newClient(t, cfg, sourceapi.Deps{})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	tried := make(chan error, 1)
	go func() {
		_, err := c.Do(ctx, sourceapi.Request{Path: "/first"})
		tried <- err
	}()
	await(t, "the first request has its turn", func() bool { return calls.Load() == 1 })
	_, late := c.Do(ctx, sourceapi.Request{Path: "/second"})
	if err := <-tried; err == nil || fault.IsPostponed(err) {
		t.Errorf("a request with nearly all of its time: %v, want an error that counts", err)
	}
	if !fault.IsPostponed(late) {
		t.Errorf("a request whose turn came at two thirds of its time: %v, want it postponed", late)
	}
}
