package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// traffic is webhooks, and how they are sent.
type traffic struct {
	// targets are sent to in turn.
	targets []target
	// connections are kept alive. Each waits for its answer before it sends the
	// next request.
	connections int
	// rate is how many are due in a second, at random times that don't depend on
	// the answers. 0 sends as fast as they are answered.
	rate   float64
	length time.Duration
}

// outcome is what the answers were.
type outcome struct {
	events    int // answered 200
	repeats   int // of them sent again
	forgeries int // and refused, as they should be
	crowded   int // answered 429 or 503
	wrong     int // refused though genuine, let in though forged, or not answered
	duration  time.Duration
	latencies []time.Duration // of what was due at a time: from then to the answer
}

// firsts is how many events there should be.
func (o outcome) firsts() int { return o.events - o.repeats }

func (o *outcome) add(p outcome) {
	o.events, o.repeats, o.forgeries = o.events+p.events, o.repeats+p.repeats, o.forgeries+p.forgeries
	o.crowded, o.wrong = o.crowded+p.crowded, o.wrong+p.wrong
	o.latencies = append(o.latencies, p.latencies...)
}

// send sends the traffic until its time is over. Who is told to come later comes
// at once.
func (t traffic) send(ctx context.Context, addr string) (outcome, error) {
	senders := make([]*sender, t.connections)
	for i := range senders {
		s, err := dial(ctx, addr, t.targets)
		if err != nil {
			return outcome{}, err
		}
		defer func() { _ = s.conn.Close() }()
		senders[i] = s
	}
	began, parts := time.Now(), make([]outcome, t.connections)
	due := schedule(began, t.rate)
	var wg sync.WaitGroup
	for i, s := range senders {
		wg.Go(func() { s.work(ctx, &parts[i], due, began.Add(t.length)) })
	}
	wg.Wait()
	all := outcome{duration: time.Since(began)}
	for _, o := range parts {
		all.add(o)
	}
	if all.wrong > 0 {
		return all, fmt.Errorf("%d requests were refused though genuine, let in though forged, or not answered; %d answered well", all.wrong, all.events)
	}
	return all, ctx.Err()
}

// schedule returns when the next one is due, at random times that make so many in
// a second; without a rate it is always now. It is safe for concurrent use.
func schedule(began time.Time, rate float64) func() time.Time {
	if rate == 0 {
		return time.Now
	}
	var mu sync.Mutex
	next := began
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		next = next.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
		return next
	}
}

// work sends what falls due until end.
func (s *sender) work(ctx context.Context, o *outcome, due func() time.Time, end time.Time) {
	for ctx.Err() == nil {
		at := due()
		if !at.Before(end) {
			return
		}
		time.Sleep(time.Until(at))
		if err := s.sendOne(o, at); err != nil {
			o.wrong++
			return // the connection can't be used any more
		}
		o.latencies = append(o.latencies, time.Since(at))
	}
}

// Shares of the requests, in percent.
const (
	repeats   = 2
	forgeries = 1
)

// sendOne sends one request and counts its answer.
func (s *sender) sendOne(o *outcome, due time.Time) error {
	forged := s.rand.IntN(100) < forgeries
	again := !forged && s.stored && s.rand.IntN(100) < repeats
	if !again {
		s.next(due, forged)
	}
	code, err := s.send()
	if err != nil {
		return err
	}
	s.stored = code == http.StatusOK && !forged
	switch {
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		o.crowded++
	case forged && code >= 400 && code < 500:
		o.forgeries++
	case s.stored:
		o.events++
		if again {
			o.repeats++
		}
	default:
		o.wrong++
	}
	return nil
}
