package e2e_test

import (
	"context"
	"errors"
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

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/enricher"
	"github.com/tercelhq/tercel/services/internal/control"
	"github.com/tercelhq/tercel/services/reconciler"
)

const (
	// budgetRate and budgetAtOnce are what is configured.
	budgetRate, budgetAtOnce = 60, 8
	// providerRate is what the provider allows within any second: what is
	// configured, and the requests that a stalled machine has sent at once.
	providerRate = budgetRate + budgetAtOnce
	budgetFile   = `
sources:
  shop:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:SECRET]
    event: {id: body.id, type: body.kind}
    accounts: [a1, a2, a3, a4, a5, a6, a7, a8]
    api: {base: %q, allow_private: true, rate: {requests: %d, per: 1s}, concurrency: %d}
    resources:
      order:
        triggers: [order.*]
        id: body.id
        get: "/{account}/orders/{id}"
        version: record.version
        reconcile: {every: 1h, list: "/{account}/orders", items: orders, next: cursor}
      refund:
        triggers: [refund.*]
        id: body.id
        get: "/{account}/refunds/{id}"
        version: record.version
        reconcile: {every: 1s, list: "/{account}/refunds", items: refunds}
reconciler: {catch_up: 100ms, backfill: {rate: 1000}}
`
)

// limited is an API that allows so many requests a second, says how many are
// left, and notes which it was asked and which it refused.
type limited struct {
	mu              sync.Mutex
	gets, lists     []time.Time
	refused         []time.Time
	atOnce, mostNow int
}

func (l *limited) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/") // account, kind and perhaps an id
	now := time.Now()
	l.mu.Lock()
	if l.atOnce++; l.atOnce > l.mostNow {
		l.mostNow = l.atOnce
	}
	left := providerRate - within(l.gets, now) - within(l.lists, now)
	switch {
	case left <= 0:
		l.refused = append(l.refused, now)
	case len(parts) == 3:
		l.gets = append(l.gets, now)
	default:
		l.lists = append(l.lists, now)
	}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.atOnce--
	}()
	w.Header().Set("X-RateLimit-Remaining", strconv.Itoa(max(0, left-1)))
	w.Header().Set("X-RateLimit-Reset", "1")
	page, _ := strconv.Atoi(r.FormValue("cursor"))
	switch {
	case left <= 0:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	case len(parts) == 3:
		fmt.Fprintf(w, `{"id":%q,"version":1}`, parts[2])
	case parts[1] == "orders": // without an end that could be reached
		fmt.Fprintf(w, `{"orders":[{"id":"l%d","version":1}],"cursor":"%d"}`, page, page+1)
	default:
		fmt.Fprint(w, `{"refunds":[]}`)
	}
}

// within counts the times of the last second.
func within(times []time.Time, now time.Time) int {
	i, _ := slices.BinarySearchFunc(times, now.Add(-time.Second), time.Time.Compare)
	return len(times) - i
}

// since counts the gets, lists and refusals from a time on.
func (l *limited) since(t time.Time) (gets, lists, refused int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := func(times []time.Time) int {
		i, _ := slices.BinarySearchFunc(times, t, time.Time.Compare)
		return len(times) - i
	}
	return from(l.gets), from(l.lists), from(l.refused)
}

// Two enrichers and two reconcilers share one budget: together they keep to
// what is configured, and to what the provider allows. While a backfill runs, the
// records of webhooks go first; when there are none, lists have all of it.
func TestOneBudgetOfASourceIsSharedByAllReplicas(t *testing.T) {
	t.Parallel()
	api := &limited{}
	srv := httptest.NewServer(api)
	defer srv.Close()
	file, err := pipeline.Decode("tercel.yaml", fmt.Appendf(nil, budgetFile, srv.URL, budgetRate, budgetAtOnce),
		config.WithLookupEnv(func(string) (string, bool) { return "a secret, long enough", true }))
	if err != nil {
		t.Fatal(err)
	}
	server := natstest.Start(t, false)
	nc := server.Connect()
	js, err := jetstream.New(nc, natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), js, file.Streams); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	for range 2 {
		en, err := enricher.New(enricher.Config{Config: file.Enricher, Sources: file.Sources, Streams: file.Streams}, enricher.Deps{Conn: server.Connect(), Log: log})
		if err != nil {
			t.Fatal(err)
		}
		background(t, en.Run)
		re, err := reconciler.New(reconciler.Config{Reconciler: file.Reconciler, Sources: file.Sources, Streams: file.Streams}, reconciler.Deps{Conn: server.Connect(), Log: log})
		if err != nil {
			t.Fatal(err)
		}
		background(t, re.Run)
	}
	var b cursor.Backfill
	eventually(t, time.Minute, "a backfill begins", func() (err error) {
		b, err = control.Backfill(t.Context(), nc, control.BackfillRequest{Action: control.Start, Source: "shop", Resource: "order", AllAccounts: true})
		return err
	})

	// Triggers of webhooks, at first few, until each process is known to call.
	triggers := 0
	trigger := func(n int) {
		t.Helper()
		for range n {
			e := event.Event{
				ID: fmt.Sprint("e", triggers), DeliveryID: fmt.Sprint("e", triggers), Source: "shop", Account: fmt.Sprint("a", triggers%8+1), Type: "order.changed",
				Origin: event.Webhook, ContentType: "application/json", ReceivedAt: time.Now(),
			}
			m := nats.NewMsg(e.RawSubject())
			m.Header = e.Header()
			m.Header.Set(jetstream.MsgIDHeader, e.MsgID())
			m.Data = fmt.Appendf(nil, `{"id":"w%d","kind":"order.changed"}`, triggers)
			if _, err := js.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			triggers++
		}
	}
	eventually(t, time.Minute, "two enrichers and two reconcilers call the API", func() error {
		trigger(8)
		return calling(t.Context(), js, "shop", 4)
	})
	trigger(400) // more than seven seconds' worth
	known := time.Now().Add(2 * time.Second)
	eventually(t, time.Minute, "each has taken its part", func() error {
		if time.Now().Before(known) {
			return errors.New("the parts are told once a second")
		}
		return nil
	})
	began := time.Now()
	earlier, _, _ := api.since(time.Time{})
	eventually(t, 2*time.Minute, "all records are got", func() error {
		if gets, _, _ := api.since(time.Time{}); gets < triggers {
			return fmt.Errorf("%d of %d", gets, triggers)
		}
		return nil
	})
	took := time.Since(began)
	gets, lists, refused := api.since(began)
	t.Logf("in %s %d records of webhooks and %d pages, %d refused; before that %d records", took, gets, lists, refused, earlier)
	if most := int(budgetRate*took.Seconds()) + providerRate; gets+lists > most || refused > 0 {
		t.Errorf("%d requests in %s, of which %d were refused, want at most %d and none", gets+lists, took, refused, most)
	}
	if most := int(budgetRate/4*took.Seconds()*1.2) + budgetAtOnce; lists > most {
		t.Errorf("%d requests of lists in %s, want at most a quarter of the budget, %d", lists, took, most)
	}
	if api.mostNow > providerRate {
		t.Errorf("%d requests at once", api.mostNow)
	}
	store, err := cursor.OpenBackfills(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = store.Load(t.Context(), b.ID); err != nil || !b.Active() {
		t.Errorf("the backfill is %+v, %v, want it at work still: webhooks went first", b, err)
	}
	eventually(t, time.Minute, "lists have what is left", func() error {
		if _, lists, _ := api.since(time.Now().Add(-time.Second)); lists < budgetRate/3 {
			return fmt.Errorf("%d pages in a second", lists)
		}
		return nil
	})
}

// background runs a service until the test ends.
func background(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
}

// calling reports whether not so many processes call a source's API.
func calling(ctx context.Context, js jetstream.JetStream, source string, want int) error {
	kv, err := js.KeyValue(ctx, topology.BucketLeases)
	if err != nil {
		return err
	}
	keys, err := kv.ListKeysFiltered(ctx, "budget."+source+".*")
	if err != nil {
		return err
	}
	n := 0
	for range keys.Keys() {
		n++
	}
	if n < want {
		return fmt.Errorf("%d call", n)
	}
	return nil
}
