package webhook_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
	"github.com/tercelhq/tercel/services/sink/internal/webhook"
)

// reopen opens the receiver as often as a service would, until it is open.
func reopen(t *testing.T, r *webhook.Receiver) (tries int) {
	t.Helper()
	for r.Open(t.Context()) != nil {
		if tries++; tries > 50 {
			t.Fatal("it doesn't open")
		}
	}
	return tries
}

// An outage stops the sending at once; until it is over the event that met it is
// all that is sent, and it isn't sent again when it comes again.
func TestOutageIsProbedWithOneEvent(t *testing.T) {
	t.Parallel()
	s := serve(t, status(503, "Retry-After", "7"))
	cfg := settings(s)
	cfg.Concurrency = 1
	r := open(t, cfg)
	items := []delivery.Item{item(1, "a"), item(2, "b"), item(3, "c")}
	for i, res := range write(t, r, items...) {
		if delay, _ := fault.Delay(res.Err); !fault.IsPostponed(res.Err) || !res.Outage || delay < 7*time.Second {
			t.Errorf("item %d: %v, %t, after %s; want it postponed by 7s for an outage", i, res.Err, res.Outage, delay)
		}
	}
	for range 3 {
		if err := r.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "status 503") {
			t.Errorf("Open() = %v", err)
		} else if delay, _ := fault.Delay(err); delay != 7*time.Second {
			t.Errorf("Open() asks for %s, want 7s", delay)
		}
	}
	s.answers(status(200))
	if err := r.Open(t.Context()); err != nil {
		t.Errorf("Open() = %v after the outage", err)
	}
	results := write(t, r, items...)
	taken(t, results)
	if !results[0].Duplicate {
		t.Error("the probe was sent twice")
	}
	if got, want := fmt.Sprint(s.got()), "[evt-1 evt-1 evt-1 evt-1 evt-1 evt-2 evt-3]"; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
}

// An event that a server always answers as if it were down, or never answers,
// stops the others for some tries, not for ever, and uses up its own attempts
// then.
func TestPromise3OneEventIsNoOutageForEver(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		poison func(http.ResponseWriter)
		tries  int
	}{
		"out":       {func(w http.ResponseWriter) { w.WriteHeader(503) }, 4},
		"elsewhere": {func(w http.ResponseWriter) { w.WriteHeader(302) }, 4},
		"throttled": {func(w http.ResponseWriter) { w.WriteHeader(429) }, 29},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.Header.Get("Webhook-Id"), "evt-1") {
					tt.poison(w)
				}
			})
			cfg := settings(s)
			cfg.Concurrency = 1
			r := open(t, cfg)
			write(t, r, item(1, "a"), item(2, "b"))
			if tries := reopen(t, r); tries != tt.tries {
				t.Errorf("it opened after %d tries in vain, want %d", tries, tt.tries)
			}
			results := write(t, r, item(1, "a"), item(2, "b"))
			if fault.ClassOf(results[0].Err) != fault.Transient || results[0].Outage || results[1].Err != nil {
				t.Errorf("Write() = %v and %v, want a transient error and nil", results[0].Err, results[1].Err)
			}
		})
	}
}

// So does one that breaks every connection, when it was the last that failed in
// an outage.
func TestPromise3EventWithoutAnAnswerIsNoOutageForEver(t *testing.T) {
	t.Parallel()
	s := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	cfg := settings(s)
	cfg.Concurrency = 1
	r := open(t, cfg)
	write(t, r, item(1, "a"), item(2, "b"), item(3, "c"))
	s.answers(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("Webhook-Id"), "evt-3") {
			panic(http.ErrAbortHandler)
		}
	})
	if tries := reopen(t, r); tries != 29 {
		t.Errorf("it opened after %d tries in vain, want 29", tries)
	}
	results := write(t, r, item(1, "a"), item(2, "b"), item(3, "c"))
	if results[0].Err != nil || results[1].Err != nil || fault.ClassOf(results[2].Err) != fault.Transient {
		t.Errorf("Write() = %v, want an error of the third alone", results)
	}
}

// A server that isn't there is waited for however long.
func TestMissingServerIsWaitedForHoweverLong(t *testing.T) {
	t.Parallel()
	s := serve(t, status(503))
	r := open(t, settings(s))
	write(t, r, item(1, "a"))
	s.Close()
	for range 50 {
		if r.Open(t.Context()) == nil {
			t.Fatal("it opened without a server")
		}
	}
}

// What may be the event's fault is an outage once several events in a row met it,
// and one that the server judged in between makes it none.
func TestDoubtfulAnswersInARowAreAnOutage(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		codes  map[string]int
		events []int
		outage bool
	}{
		"three events":             {map[string]int{"1": 500, "2": 404, "3": 403}, []int{1, 2, 3}, true},
		"one event three times":    {map[string]int{"1": 500}, []int{1, 1, 1, 1}, false},
		"one taken in between":     {map[string]int{"1": 500, "2": 500, "4": 500}, []int{1, 2, 3, 4}, false},
		"one refused in between":   {map[string]int{"1": 500, "2": 500, "3": 422, "4": 500}, []int{1, 2, 3, 4}, false},
		"a proxy without a server": {map[string]int{"1": 502, "2": 504, "3": 502}, []int{1, 2, 3}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, n, _ := strings.Cut(r.Header.Get("Webhook-Id"), "evt-")
				if code := tt.codes[n]; code > 0 {
					w.WriteHeader(code)
				}
			})
			r := open(t, settings(s))
			outage := false
			for _, n := range tt.events {
				outage = write(t, r, item(n, fmt.Sprint(n)))[0].Outage
			}
			if outage != tt.outage {
				t.Errorf("an outage: %t, want %t", outage, tt.outage)
			}
		})
	}
}

// A receiver that is gone gets nothing more, and nothing is lost. Whoever opens
// it again wants to know whether it still is.
func TestGoneReceiverGetsNothingMore(t *testing.T) {
	t.Parallel()
	s := serve(t, status(410))
	cfg := settings(s)
	cfg.Concurrency = 1
	r := open(t, cfg)
	for range 2 {
		for i, res := range write(t, r, item(1, "a"), item(2, "b")) {
			if !fault.IsPostponed(res.Err) || !res.Outage || !errors.Is(res.Err, delivery.ErrUnwanted) {
				t.Errorf("item %d: %v, want it postponed", i, res.Err)
			}
		}
		if err := r.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.got(); len(got) != 2 {
		t.Errorf("sent %v, want the first alone, each time", got)
	}
	s.answers(status(200))
	taken(t, write(t, r, item(1, "a"), item(2, "b")))
}

// So does one whose outage ends with that answer.
func TestOutageEndsWithAGoneReceiver(t *testing.T) {
	t.Parallel()
	s := serve(t, status(503))
	r := open(t, settings(s))
	write(t, r, item(1, "a"))
	s.answers(status(410))
	if err := r.Open(t.Context()); !errors.Is(err, delivery.ErrUnwanted) {
		t.Errorf("Open() = %v, want that no more events are wanted", err)
	}
	if err := r.Open(t.Context()); err != nil {
		t.Errorf("Open() = %v for somebody who knows", err)
	}
	if got := s.got(); len(got) != 2 {
		t.Errorf("sent %v, want nothing after the 410", got)
	}
}

// Events of one record follow each other, those of others don't wait.
func TestOrderOfARecordIsKept(t *testing.T) {
	t.Parallel()
	first, arrived := make(chan struct{}), make(chan struct{})
	s := serve(t, nil)
	s.answers(func(_ http.ResponseWriter, r *http.Request) {
		switch _, n, _ := strings.Cut(r.Header.Get("Webhook-Id"), "evt-"); n {
		case "1":
			<-first
		case "3":
			close(arrived) // of another record, while 1 is under way and 2 waits
		}
	})
	cfg := settings(s)
	cfg.Order = pipeline.OrderRecord
	r := open(t, cfg)
	var call sync.WaitGroup
	call.Go(func() { taken(t, write(t, r, item(2, "a"), item(1, "a"), item(3, "b"))) })
	<-arrived
	close(first)
	call.Wait()
	got := s.got()
	if slices.Index(got, "evt-1") > slices.Index(got, "evt-2") || len(got) != 3 {
		t.Errorf("sent %v, want 1 before 2", got)
	}
}

// What failed is waited for by what comes after it in its record, in the same
// batch and in later ones, until it is taken or given up.
func TestOrderOfARecordIsKeptOverFailures(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		code    int
		attempt int
		waits   bool
	}{
		"tried again": {500, 1, true},
		"refused":     {422, 1, false},
		"given up":    {500, 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.Header.Get("Webhook-Id"), "evt-1") {
					w.WriteHeader(tt.code)
				}
			})
			cfg := settings(s)
			cfg.Order = pipeline.OrderRecord
			r := open(t, cfg)
			one := item(1, "a")
			one.Attempt = tt.attempt
			results := write(t, r, one, item(2, "a"), item(3, "b"))
			later := write(t, r, item(4, "a"), item(5, "b"))
			if waited := fault.IsPostponed(results[1].Err) && fault.IsPostponed(later[0].Err) && !results[1].Outage; waited != tt.waits {
				t.Errorf("2: %v, 4: %v, want them to wait: %t", results[1].Err, later[0].Err, tt.waits)
			}
			if results[2].Err != nil || later[1].Err != nil {
				t.Errorf("another record waited: %v, %v", results[2].Err, later[1].Err)
			}
			if !tt.waits {
				return
			}
			s.answers(status(200))
			if res := write(t, r, item(4, "a"))[0]; !fault.IsPostponed(res.Err) {
				t.Errorf("4 came before 1: %v", res.Err)
			}
			taken(t, write(t, r, item(4, "a"), item(2, "a"), item(1, "a")))
			want := []string{"evt-1", "evt-2", "evt-4"}
			if got := s.got(); !slices.Equal(got[len(got)-3:], want) {
				t.Errorf("sent %v, want %v at the end", got, want)
			}
		})
	}
}

// An outage doesn't break the order either.
func TestOrderOfARecordIsKeptOverAnOutage(t *testing.T) {
	t.Parallel()
	s := serve(t, status(503))
	cfg := settings(s)
	cfg.Order, cfg.Concurrency = pipeline.OrderRecord, 1
	r := open(t, cfg)
	write(t, r, item(1, "a"), item(2, "b"), item(3, "b"))
	s.answers(status(200))
	reopen(t, r)
	if res := write(t, r, item(4, "b"), item(5, "a"))[0]; !fault.IsPostponed(res.Err) {
		t.Errorf("4 came before 2: %v", res.Err)
	}
	taken(t, write(t, r, item(3, "b"), item(4, "b"), item(2, "b")))
	if got, want := fmt.Sprint(s.got()), "[evt-1 evt-1 evt-5 evt-2 evt-3 evt-4]"; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
}

// Promise 10: an event that another sink was given when it came again is not
// remembered for ever.
func TestPromise10EventsThatDoNotComeAgainAreForgotten(t *testing.T) {
	t.Parallel()
	s := serve(t, status(503))
	cfg := settings(s)
	cfg.Order, cfg.Concurrency = pipeline.OrderRecord, 1
	r := open(t, cfg)
	for n := 1; n <= 20; n++ {
		write(t, r, item(n, fmt.Sprint("record-", n)))
	}
	s.answers(status(200))
	reopen(t, r) // takes the first, which met the outage
	if got := r.Remembered(); got != 20 {
		t.Fatalf("%d events are remembered, want 20", got)
	}
	taken(t, write(t, r, item(30, "another")))
	if got := r.Remembered(); got != 20 {
		t.Errorf("%d events are remembered after a moment, want 20", got)
	}
	r.Age(11 * time.Minute)
	taken(t, write(t, r, item(31, "another")))
	if got := r.Remembered(); got != 0 {
		t.Errorf("%d events are remembered, want none", got)
	}
}

// Why nothing is sent is the outage, and not what the server said of an event.
func TestOutageIsToldByWhatMetIt(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("Webhook-Id"), "evt-1") {
			w.WriteHeader(422)
			return
		}
		w.WriteHeader(503)
	})
	cfg := settings(s)
	cfg.Concurrency = 1
	results := write(t, open(t, cfg), item(1, "a"), item(2, "b"), item(3, "c"))
	if results[0].Outage || !fault.IsPermanent(results[0].Err) {
		t.Errorf("an event that is refused: %+v, want no outage", results[0])
	}
	for _, res := range results[1:] {
		if !res.Outage || !strings.Contains(res.Err.Error(), "status 503") {
			t.Errorf("an event that met the outage or waits for its end: %+v", res)
		}
	}
}

// A stream that was made anew counts from 1 again: what was sent as a probe tells
// nothing of another event that has its sequence.
func TestPromise3ProbeIsNotTakenForAnotherEventOfItsSequence(t *testing.T) {
	t.Parallel()
	s := serve(t, status(503))
	r := open(t, settings(s))
	write(t, r, item(1, "a"))
	s.answers(status(200))
	if err := r.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := item(2, "b")
	other.Sequence = 1
	results := write(t, r, other)
	taken(t, results)
	if results[0].Duplicate {
		t.Error("an event that was never sent is called a duplicate")
	}
	if got, want := fmt.Sprint(s.got()), "[evt-1 evt-1 evt-2]"; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
}
