package simulator_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

const (
	secret = "a signing secret of the tests"
	token  = "a token of the tests"
)

func newProvider(t *testing.T, cfg simulator.Config) *simulator.Provider {
	t.Helper()
	cfg.Secret, cfg.Token = config.NewSecret(secret), config.NewSecret(token)
	p, err := simulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// receiver takes webhooks as an honest receiver does: what it can't verify is
// answered 401.
type receiver struct {
	verifier *signature.Verifier
	key      signature.Key
	refuse   func(n int) int // the status of request n, or 0 to look at it

	mu     sync.Mutex
	n      int
	taken  []string // delivery ids
	bodies map[string][]string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	v, err := signature.Compile(simulator.Scheme())
	if err != nil {
		t.Fatal(err)
	}
	k, err := signature.ParseKey(simulator.Scheme(), secret)
	if err != nil {
		t.Fatal(err)
	}
	return &receiver{verifier: v, key: k, refuse: func(int) int { return 0 }, bodies: map[string][]string{}}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	if status := r.refuse(r.n); status != 0 {
		w.WriteHeader(status)
		return
	}
	err = r.verifier.Verify(signature.Request{Header: req.Header, Body: body}, []signature.Key{r.key}, time.Now())
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	id := req.Header.Get(simulator.HeaderDelivery)
	r.taken = append(r.taken, id)
	r.bodies[id] = append(r.bodies[id], string(body))
}

func run(t *testing.T, p *simulator.Provider, h http.Handler) simulator.Book {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.Run(ctx, srv.URL); err != nil {
		t.Fatalf("Run() = %v", err)
	}
	if !p.Progress().Done {
		t.Error("Run returned, but progress doesn't say that it is done")
	}
	return p.Book()
}

var mean = simulator.Config{
	Seed: 7, Events: 600, Records: 100, Drop: 0.1, Duplicate: 0.1, Reorder: 0.1, Forge: 0.05, Poison: 0.03, Delete: 0.05,
}

func TestRunDoesWhatItsSharesSay(t *testing.T) {
	t.Parallel()
	p, r := newProvider(t, mean), newReceiver(t)
	got := run(t, p, r).Counts()
	want := simulator.Counts{
		Changes: 600, Dropped: 60, Sent: 540, Accepted: 540, DuplicatesSent: 60, DuplicatesAccepted: 60,
		Forged: 30, ForgedRefused: 30,
	}
	if got != want {
		t.Errorf("Counts() = %+v, want %+v", got, want)
	}
	var dead, poisoned int
	for _, rec := range p.Newest() {
		if rec.Deleted {
			dead++
		}
		if rec.Poisoned {
			poisoned++
		}
	}
	if dead != 5 || poisoned != 3 || len(p.Newest()) != 100 {
		t.Errorf("records: %d of which %d deleted, %d poisoned, want 100, 5, 3", len(p.Newest()), dead, poisoned)
	}
}

func TestWhatNothingCanReplaceIsNeverDropped(t *testing.T) {
	t.Parallel()
	cfg := mean
	cfg.Drop = 1
	p := newProvider(t, cfg)
	book := run(t, p, newReceiver(t))
	for _, c := range book.Changes {
		if want := !c.Deleted && !c.Poisoned; c.Dropped != want {
			t.Errorf("%s version %d: dropped %t, want %t", c.RecordID, c.Version, c.Dropped, want)
		}
	}
}

func TestReceiverSeesWhatTheBookSays(t *testing.T) {
	t.Parallel()
	p, r := newProvider(t, mean), newReceiver(t)
	book := run(t, p, r)
	want := map[string]int{}
	for _, d := range book.Deliveries {
		if d.Taken() {
			want[d.ID]++
		}
		if d.DueAt.IsZero() || d.SentAt.Before(d.DueAt) || d.AnsweredAt.Before(d.SentAt) {
			t.Errorf("%s: due at %s, sent at %s, answered at %s", d.ID, d.DueAt, d.SentAt, d.AnsweredAt)
		}
	}
	got := map[string]int{}
	for id, bodies := range r.bodies {
		got[id] = len(bodies)
		if len(slices.Compact(bodies)) != 1 {
			t.Errorf("%s: a repeat has another body", id)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("receiver took %d different webhooks, book says %d, or their repeats differ", len(got), len(want))
	}
	if slices.IsSorted(r.taken) {
		t.Error("webhooks came in the order of their changes, want some delayed")
	}
	if slices.ContainsFunc(r.taken, func(id string) bool { return strings.HasPrefix(id, simulator.ForgedPrefix) }) {
		t.Error("a forged webhook was verified as genuine")
	}
}

func TestSeedDecidesWhatHappens(t *testing.T) {
	t.Parallel()
	plot := func(seed uint64) (out []simulator.Change) {
		cfg := mean
		cfg.Seed = seed
		for _, c := range run(t, newProvider(t, cfg), newReceiver(t)).Changes {
			c.At = time.Time{}
			out = append(out, c)
		}
		return out
	}
	first := plot(1)
	if !slices.Equal(first, plot(1)) {
		t.Error("the same seed gave other changes")
	}
	if slices.Equal(first, plot(2)) {
		t.Error("another seed gave the same changes")
	}
}

func TestRefusedWebhooksAreSentAgain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		refuse  func(n int) int
		attempt int // allowed
		poison  float64
		want    simulator.Counts
	}{
		"503 until it passes":         {until(4, 503), 10, 0, simulator.Counts{Changes: 1, Sent: 1, Accepted: 1, Retries: 3}},
		"429 until it passes":         {until(2, 429), 10, 0, simulator.Counts{Changes: 1, Sent: 1, Accepted: 1, Retries: 1}},
		"given up after all attempts": {until(100, 500), 3, 0, simulator.Counts{Changes: 1, Sent: 1, GaveUp: 1, Retries: 2}},
		"a 400 is final":              {until(100, 400), 3, 0, simulator.Counts{Changes: 1, Sent: 1, GaveUp: 1}},
		"but not if no list tells it": {until(4, 401), 3, 1, simulator.Counts{Changes: 1, Sent: 1, Accepted: 1, Retries: 3}},
		"a redirect is no acceptance": {until(100, 302), 3, 0, simulator.Counts{Changes: 1, Sent: 1, GaveUp: 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, r := newProvider(t, simulator.Config{
				Events: 1, Poison: tt.poison, MaxAttempts: tt.attempt, RetryMin: time.Millisecond, RetryMax: 2 * time.Millisecond,
			}), newReceiver(t)
			r.refuse = tt.refuse
			if got := run(t, p, r).Counts(); got != tt.want {
				t.Errorf("Counts() = %+v, want %+v", got, tt.want)
			}
		})
	}
}

func until(n, status int) func(int) int {
	return func(i int) int {
		if i < n {
			return status
		}
		return 0
	}
}

// A receiver that dies and comes back gets every webhook in the end.
func TestRunOutlivesItsReceiver(t *testing.T) {
	t.Parallel()
	p, r := newProvider(t, simulator.Config{Events: 200, RetryMin: time.Millisecond}), newReceiver(t)
	r.refuse = func(n int) int {
		if n > 50 && n < 120 {
			panic(http.ErrAbortHandler) // cuts the connection
		}
		return 0
	}
	got := run(t, p, r).Counts()
	if got.Accepted != 200 || got.GaveUp != 0 || got.Retries != 69 {
		t.Errorf("accepted %d, gave up %d, retries %d, want 200, 0, 69", got.Accepted, got.GaveUp, got.Retries)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p, r := newProvider(t, mean), newReceiver(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.refuse = func(n int) int {
		if n == 20 {
			cancel()
		}
		return http.StatusServiceUnavailable
	}
	srv := httptest.NewServer(r)
	defer srv.Close()
	if err := p.Run(ctx, srv.URL); !errors.Is(err, context.Canceled) {
		t.Errorf("Run() = %v, want %v", err, context.Canceled)
	}
	if p.Progress().Done {
		t.Error("a run that was cut short says that it is done")
	}
}

func TestRateBoundsChanges(t *testing.T) {
	t.Parallel()
	p := newProvider(t, simulator.Config{Events: 21, Rate: 100})
	started := time.Now()
	run(t, p, newReceiver(t))
	if took := time.Since(started); took < 200*time.Millisecond {
		t.Errorf("21 changes at 100 a second took %s, want at least 200ms", took)
	}
}

func TestConfigReportsEveryFault(t *testing.T) {
	t.Parallel()
	err := simulator.Config{Events: 10, Records: 11, Drop: 1.5, Forge: -1, Concurrency: -1}.Validate()
	for _, want := range []string{"records: 11", "drop: 1.5", "forge: -1", "concurrency: -1", "token: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, want %q in it", err, want)
		}
	}
	if _, err := simulator.New(simulator.Config{Token: config.NewSecret(token), Secret: config.NewSecret("short")}); err == nil {
		t.Error("New took a secret of 5 bytes")
	}
}
