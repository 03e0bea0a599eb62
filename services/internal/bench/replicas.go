package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
)

// replicas measures enricher and sink in ever more processes, with an API and a
// destination that take their time: what is done should grow with them, until
// processors are what it lacks.
type replicas struct{}

const (
	// eachWorkers is how many calls a replica makes at once, of which each takes
	// slowCall: 320 events a second.
	eachWorkers = 32
	slowCall    = 100 * time.Millisecond
)

const hookFile = `
sources: {shop: {preset: stripe, secrets: [env:BENCH_SECRET]}}
destinations: {out: {http: {url: %q, secrets: [env:BENCH_KEY], allow_private: true, concurrency: %d}}}
sink: {workers: %d}
`

func (r replicas) run(ctx context.Context, l *lab) error {
	return l.with(ctx, relaxed, func(s *stand) error {
		api, base, err := s.startAPI(ctx)
		if err != nil {
			return err
		}
		defer stop(api)
		for _, n := range []int{1, 2, 4} {
			if err := r.enrichers(ctx, s, base, n); err != nil {
				return err
			}
		}
		for _, n := range []int{1, 2, 4} {
			if err := r.sinks(ctx, s, base, n); err != nil {
				return err
			}
		}
		return nil
	})
}

// events is how many n replicas have to do.
func (r replicas) events(s *stand, n int) int { return n * s.size(1500, 500) }

func (r replicas) enrichers(ctx context.Context, s *stand, base string, n int) error {
	job := errand{source: fmt.Sprint("slow", n), events: r.events(s, n), workers: 4 * eachWorkers, latency: slowCall, get: true}
	w := newSender(nil, nil)
	if err := s.fill(ctx, job.events, func(i int) *nats.Msg { return w.trigger(job.source, fmt.Sprint("evt-", i), 0) }); err != nil {
		return err
	}
	q := triggersOf(job.source)
	return r.measure(ctx, s, group{
		n: n, program: "enricher", file: job.file(base+"/"+slowCall.String(), eachWorkers), queue: q, events: job.events,
		prepare: func(ctx context.Context) error { return s.reset(ctx, q) },
		prove:   func(ctx context.Context, f *figures) error { return s.prove(ctx, f, verified{Events: job.events}) },
	})
}

func (r replicas) sinks(ctx context.Context, s *stand, base string, n int) error {
	q := eventsOut()
	events, w := r.events(s, n), newSender(nil, nil)
	before := 0
	return r.measure(ctx, s, group{
		n: n, program: "sink", file: fmt.Sprintf(hookFile, base+"/"+slowCall.String()+"/hook", eachWorkers, eachWorkers), queue: q, events: events,
		prepare: func(ctx context.Context) error {
			if err := s.reset(ctx, q); err != nil {
				return err
			}
			var err error
			if before, _, err = taken(ctx, base); err != nil {
				return err
			}
			unique := fmt.Sprintf("evt-%d-%d-", n, time.Now().UnixNano())
			return s.fill(ctx, events, func(i int) *nats.Msg { return w.enriched("shop", fmt.Sprint(unique, i), i, 0) })
		},
		prove: func(ctx context.Context, _ *figures) error {
			all, ids, err := taken(ctx, base)
			if err == nil && (all != ids || all-before != events) {
				err = fmt.Errorf("%d events were delivered, want %d; %d of all since the start, which have %d ids", all-before, events, all, ids)
			}
			s.report.Verified.add(verified{Events: events})
			return err
		},
	})
}

// group is replicas of a program, and what they have to do.
type group struct {
	n             int
	program, file string
	queue
	events  int
	prepare func(context.Context) error
	prove   func(context.Context, *figures) error
}

func (r replicas) measure(ctx context.Context, s *stand, g group) error {
	what := fmt.Sprintf("%d replicas of %d workers, %s a call", g.n, eachWorkers, slowCall)
	_, err := s.measure(ctx, what, s.rounds, subject{g.program, func(ctx context.Context) (figures, error) { return r.turn(ctx, s, g) }})
	return err
}

func (r replicas) turn(ctx context.Context, s *stand, g group) (figures, error) {
	if err := g.prepare(ctx); err != nil {
		return figures{}, err
	}
	var all []proc
	for range g.n {
		p, err := s.service(ctx, g.program, g.file)
		if err != nil {
			return figures{}, err
		}
		defer stop(p)
		all = append(all, p)
	}
	if err := s.await(ctx, g.queue, waitedFor); err != nil {
		return figures{}, err
	}
	read, err := s.meter(all...)
	if err != nil {
		return figures{}, err
	}
	if err := s.begin(ctx, g.queue); err != nil {
		return figures{}, err
	}
	began := time.Now()
	if err := s.await(ctx, g.queue, workedOff); err != nil {
		return figures{}, err
	}
	f, err := read(g.events, time.Since(began))
	if err != nil {
		return figures{}, err
	}
	return f, g.prove(ctx, &f)
}

// taken is how many deliveries the API has taken, and of how many ids.
func taken(ctx context.Context, base string) (all, ids int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/taken", nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = fmt.Fscan(resp.Body, &all, &ids)
	return all, ids, err
}
