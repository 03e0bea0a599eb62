package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// enrichment measures the enricher. Its yardsticks are the least that does its
// job on the same consumer: loops that pass on triggers, 256 at a time or without
// waiting for any batch, and workers that each get a record, put it beside the
// trigger, publish and acknowledge.
type enrichment struct{}

// errand is what becomes of the triggers of one source.
type errand struct {
	source  string
	events  int // in a turn
	workers int
	latency time.Duration // of the API
	get     bool
	bare    []string // roles of the yardsticks, the one that counts first
	offered bool     // at half of the maximum, too
}

var (
	relay  = errand{source: "relay", events: 10_000, workers: 256, bare: []string{"fetch", "pipe"}, offered: true}
	get    = errand{source: "get", events: 3000, workers: 64, get: true, bare: []string{"get"}, offered: true}
	get20  = errand{source: "get20", events: 3000, workers: 64, latency: 20 * time.Millisecond, get: true, bare: []string{"get"}}
	get100 = errand{source: "get100", events: 3000, workers: 256, latency: 100 * time.Millisecond, get: true, bare: []string{"get"}}
)

// bareNames are what the yardsticks are called.
var bareNames = map[string]string{"fetch": "bare fetch of 256", "pipe": "bare pipe", "get": "bare workers"}

func (e errand) String() string {
	if !e.get {
		return "nothing to get"
	}
	return fmt.Sprintf("a record in %s, %d workers", e.latency, e.workers)
}

func (e enrichment) run(ctx context.Context, l *lab) error {
	for _, c := range []struct {
		level
		errands []errand
	}{{relaxed, []errand{relay, get, get20, get100}}, {synced, []errand{relay, get, get20}}} {
		err := l.with(ctx, c.level, func(s *stand) error {
			api, base, err := s.startAPI(ctx)
			if err != nil {
				return err
			}
			defer stop(api)
			for _, job := range c.errands {
				if c.durability == topology.Synced {
					job.events /= 3 // for the yardsticks, which sync each
				}
				if job.events /= s.size(1, 4); job.events == 0 {
					continue
				}
				if err := (&enricherTurns{s, job, base}).measure(ctx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// enricherTurns are turns of one errand.
type enricherTurns struct {
	*stand
	errand
	api string
}

func (e *enricherTurns) measure(ctx context.Context) error {
	w := newSender(nil, nil)
	if err := e.fill(ctx, e.events, func(i int) *nats.Msg { return w.trigger(e.source, fmt.Sprint("evt-", i), 0) }); err != nil {
		return err
	}
	subjects := []subject{{"enricher", func(ctx context.Context) (figures, error) { return e.turn(ctx, "enricher") }}}
	for _, role := range e.bare {
		subjects = append(subjects, subject{bareNames[role], func(ctx context.Context) (figures, error) { return e.turn(ctx, role) }})
	}
	rows, err := e.stand.measure(ctx, "maximum, "+e.String(), e.rounds, subjects...)
	if err != nil || !e.offered {
		return err
	}
	half := slowest(rows[:2]) / 2
	at := func(role string) func(context.Context) (figures, error) {
		return func(ctx context.Context) (figures, error) { return e.offeredTurn(ctx, role, half) }
	}
	_, err = e.stand.measure(ctx, fmt.Sprintf("%s/s, half of the slower maximum, %s", number(half), e), e.rounds,
		subject{"enricher", at("enricher")}, subject{bareNames[e.bare[0]], at(e.bare[0])})
	return err
}

// turn has one of them enrich all triggers of a source and proves that it did.
func (e *enricherTurns) turn(ctx context.Context, role string) (figures, error) {
	q := triggersOf(e.source)
	p, err := e.ready(ctx, role, q)
	if err != nil {
		return figures{}, err
	}
	defer stop(p)
	read, err := e.meter(p)
	if err != nil {
		return figures{}, err
	}
	if err := e.begin(ctx, q); err != nil {
		return figures{}, err
	}
	began := time.Now()
	if err := e.await(ctx, q, workedOff); err != nil {
		return figures{}, e.blamed(err)
	}
	f, err := read(e.events, time.Since(began))
	if err != nil {
		return figures{}, err
	}
	return f, e.prove(ctx, &f, verified{Events: e.events})
}

// offeredTurn has triggers come at their times, and sees when their events are
// there.
func (e *enricherTurns) offeredTurn(ctx context.Context, role string, rate float64) (figures, error) {
	raw, err := e.js.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return figures{}, err
	}
	if err := raw.Purge(ctx); err != nil {
		return figures{}, err
	}
	q := triggersOf(e.source)
	p, err := e.ready(ctx, role, q)
	if err != nil {
		return figures{}, err
	}
	defer stop(p)
	seen, err := e.watch(ctx, topology.StreamEnriched)
	if err != nil {
		return figures{}, err
	}
	if _, err := e.js.ResumeConsumer(ctx, q.stream, q.Durable); err != nil {
		return figures{}, err
	}
	read, err := e.meter(p)
	if err != nil {
		return figures{}, err
	}
	w, began := newSender(nil, nil), time.Now()
	n, err := e.offer(ctx, rate, e.length(), func(i int, due time.Time) *nats.Msg {
		return w.trigger(e.source, dueID(due, fmt.Sprint(i)), 0)
	})
	if err != nil {
		return figures{}, err
	}
	took, err := seen.await(ctx, n)
	if err != nil {
		return figures{}, err
	}
	f, err := read(n, time.Since(began))
	if err != nil {
		return figures{}, err
	}
	f.latencies(took)
	return f, e.prove(ctx, &f, verified{Events: n})
}

// ready makes everything anew, and starts one of them, which then waits.
func (e *enricherTurns) ready(ctx context.Context, role string, q queue) (proc, error) {
	if err := e.reset(ctx, q); err != nil {
		return proc{}, err
	}
	base := e.api + "/" + e.latency.String()
	var p proc
	var err error
	if role == "enricher" {
		p, err = e.service(ctx, "enricher", e.file(base, e.workers))
	} else {
		p, err = e.child(ctx, role, part{Source: e.source, API: base, Workers: e.workers})
	}
	if err != nil {
		return proc{}, err
	}
	return p, e.await(ctx, q, waitedFor)
}

// reset makes the source's consumer anew, paused, and the stream of enriched
// events with it: emptied, it would still know the ids.
func (s *stand) reset(ctx context.Context, q queue) error {
	if err := s.js.DeleteStream(ctx, topology.StreamEnriched); err != nil {
		return err
	}
	if err := topology.Ensure(ctx, s.js, s.streams()); err != nil {
		return err
	}
	// The process of the turn before counts among those that share the API's
	// limits for some seconds more.
	leases, err := s.js.KeyValue(ctx, topology.BucketLeases)
	if err != nil {
		return err
	}
	keys, err := leases.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return err
	}
	for _, key := range keys {
		if err := leases.Purge(ctx, key); err != nil {
			return err
		}
	}
	return s.pausedAnew(ctx, q)
}

// prove counts the events: what was published twice would be there twice, since
// each has an id of its own trigger. It notes what was sent, and what they take on
// disk.
func (s *stand) prove(ctx context.Context, f *figures, sent verified) error {
	stored, disk, err := s.stored(ctx, topology.StreamEnriched)
	if err != nil {
		return err
	}
	if stored != sent.Events {
		return fmt.Errorf("%d events are there, want %d", stored, sent.Events)
	}
	f.Disk = disk
	s.report.Verified.add(sent)
	return nil
}

// file is the enricher's pipeline file, with the API at base.
func (e errand) file(base string, workers int) string {
	extra := "resources: {}"
	if e.get {
		extra = fmt.Sprintf(`api: {base: %q, allow_private: true, concurrency: %d},
    resources: {order: {triggers: [order.*], id: body.id, get: "/orders/{id}", version: record.updated_at}}`, base, max(e.workers, workers))
	}
	return fmt.Sprintf(`
sources:
  %s: {preset: standard-webhooks, secrets: [env:BENCH_KEY], %s}
enricher: {workers: %d}
`, e.source, extra, workers)
}
