package simulator_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/simulator"
)

// An endless run goes on until it is stopped, and every round has its shares.
func TestAnEndlessRunEndsWhenItIsStopped(t *testing.T) {
	t.Parallel()
	cfg := mean
	cfg.Endless, cfg.Events, cfg.Records = true, 200, 40
	p, r := newProvider(t, cfg), newReceiver(t)
	r.refuse = func(n int) int {
		if n == 1000 {
			p.Stop()
			p.Stop() // again does nothing
		}
		return 0
	}
	book := run(t, p, r)
	c := book.Counts()
	if c.Changes < 900 || c.Changes > 5000 || c.Accepted != c.Sent || c.Sent+c.Dropped != c.Changes || c.GaveUp != 0 {
		t.Errorf("%+v", c)
	}
	dropped, roundOf, webhooks := map[int]int{}, map[string]int{}, map[string]bool{}
	for i, ch := range book.Changes {
		round := i / cfg.Events
		if ch.Dropped {
			dropped[round]++
		}
		if first, ok := roundOf[ch.RecordID]; ok && first != round {
			t.Fatalf("%s is of rounds %d and %d", ch.RecordID, first, round)
		}
		if webhooks[ch.DeliveryID] {
			t.Fatalf("%s is the webhook of two changes", ch.DeliveryID)
		}
		roundOf[ch.RecordID], webhooks[ch.DeliveryID] = round, true
	}
	poisoned, whole := 0, len(book.Changes)/cfg.Events
	for _, rec := range p.Newest() {
		if rec.Poisoned {
			poisoned++
		}
	}
	for round := range whole {
		if dropped[round] != 20 {
			t.Errorf("round %d: %d dropped, want 20", round, dropped[round])
		}
	}
	if poisoned < whole {
		t.Errorf("%d poisoned records in %d rounds, want one each", poisoned, whole)
	}
}

func TestRoundsDiffer(t *testing.T) {
	t.Parallel()
	cfg := mean
	cfg.Endless, cfg.Events, cfg.Records = true, 200, 40
	p, r := newProvider(t, cfg), newReceiver(t)
	r.refuse = func(n int) int {
		if n == 600 {
			p.Stop()
		}
		return 0
	}
	book := run(t, p, r)
	var first, second []int
	for i, ch := range book.Changes[:400] {
		if ch.Dropped && i < 200 {
			first = append(first, i)
		} else if ch.Dropped {
			second = append(second, i-200)
		}
	}
	if slices.Equal(first, second) {
		t.Errorf("both rounds drop the webhooks of changes %v", first)
	}
}

// With a rate, changes don't wait for a receiver that doesn't answer, and every
// webhook is taken once it does.
func TestChangesDoNotWaitForTheReceiver(t *testing.T) {
	t.Parallel()
	p, r := newProvider(t, simulator.Config{Events: 500, Rate: 5000, Concurrency: 4, RetryMin: time.Millisecond, Timeout: time.Minute}), newReceiver(t)
	var stuck atomic.Int32
	resume := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		stuck.Add(1)
		<-resume
		r.ServeHTTP(w, req)
	}))
	defer srv.Close()
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	go func() { ended <- p.Run(ctx, srv.URL) }()
	eventually(t, "all changes are made", func() bool { return len(p.Book().Changes) == 500 })
	eventually(t, "as many are on their way as may be", func() bool { return stuck.Load() == 4 })
	if n := len(p.Book().Deliveries); n != 0 {
		t.Errorf("%d attempts have ended at a receiver that doesn't answer", n)
	}
	close(resume)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if c := p.Book().Counts(); c.Accepted != 500 || c.Retries != 0 {
		t.Errorf("%d accepted after %d retries, want 500 after none", c.Accepted, c.Retries)
	}
}

// Without a rate they do: there are never more than are on their way, and the one
// that waits for room.
func TestChangesWaitForTheReceiverWithoutARate(t *testing.T) {
	t.Parallel()
	p, r := newProvider(t, simulator.Config{Events: 500, Concurrency: 4, Timeout: time.Minute}), newReceiver(t)
	run(t, p, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b := p.Book()
		if n := len(b.Changes) - b.Counts().Accepted; n > 4+1 {
			t.Errorf("%d changes were made beside those that were taken, want at most 5", n)
		}
		r.ServeHTTP(w, req)
	}))
}

// Each kind of forgery is tried equally often.
func TestEveryForgeryIsTried(t *testing.T) {
	t.Parallel()
	cfg := mean
	cfg.Forge = 0.1
	p, r := newProvider(t, cfg), newReceiver(t)
	var mu sync.Mutex
	kinds := map[string]int{}
	run(t, p, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.Header.Get(simulator.HeaderDelivery), simulator.ForgedPrefix) {
			kind := "signed wrongly, or another body"
			at, err := strconv.ParseInt(req.Header.Get("X-Timestamp"), 10, 64)
			if err != nil {
				t.Error(err)
			}
			switch {
			case time.Since(time.Unix(at, 0)) > 30*time.Minute:
				kind = "old"
			case req.Header.Get("X-Signature") != "":
			case req.Header.Get("X-Hub-Signature-256") != "":
				kind = "in another header"
			default:
				kind = "unsigned"
			}
			mu.Lock()
			kinds[kind]++
			mu.Unlock()
		}
		r.ServeHTTP(w, req)
	}))
	want := map[string]int{"signed wrongly, or another body": 24, "old": 12, "in another header": 12, "unsigned": 12}
	if !maps.Equal(kinds, want) {
		t.Errorf("forgeries %v, want %v", kinds, want)
	}
}
