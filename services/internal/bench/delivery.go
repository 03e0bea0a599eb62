package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// delivery measures the sink with PostgreSQL. Its yardstick is a bare loop that
// takes 500 messages of the same consumer, writes the same two rows for each in
// one pipelined batch, and acknowledges; and the same row by row.
type delivery struct{}

const deliveryFile = `
sources: {shop: {preset: stripe, secrets: [env:BENCH_SECRET]}}
destinations: {out: {postgres: {dsn: env:BENCH_DSN}}}
`

func (d delivery) run(ctx context.Context, l *lab) error {
	for _, at := range []level{relaxed, synced} {
		err := l.with(ctx, at, func(s *stand) error {
			return s.withDatabase(ctx, func() error { return (&sinkTurns{s, s.size(6000, 2000)}).measure(ctx) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sinkTurns are turns with so many events that wait.
type sinkTurns struct {
	*stand
	events int
}

func (d *sinkTurns) measure(ctx context.Context) error {
	w := newSender(nil, nil)
	if err := d.fill(ctx, d.events, func(i int) *nats.Msg { return w.enriched("shop", fmt.Sprint("evt-", i), i, 0) }); err != nil {
		return err
	}
	at := func(role string, events int) func(context.Context) (figures, error) {
		return func(ctx context.Context) (figures, error) { return d.turn(ctx, role, events) }
	}
	rows, err := d.stand.measure(ctx, "maximum, PostgreSQL", d.rounds, subject{"sink", at("sink", d.events)},
		subject{"bare pgx.Batch of 500", at("batch", d.events)}, subject{"bare, row by row", at("rows", d.events/10)})
	if err != nil {
		return err
	}
	half := slowest(rows[:2]) / 2
	offered := func(role string) func(context.Context) (figures, error) {
		return func(ctx context.Context) (figures, error) { return d.offeredTurn(ctx, role, half) }
	}
	stream, err := d.js.Stream(ctx, eventsOut().stream)
	if err != nil {
		return err
	}
	if err := stream.Purge(ctx); err != nil {
		return err
	}
	_, err = d.stand.measure(ctx, fmt.Sprintf("%s/s, half of the slower maximum, PostgreSQL", number(half)), d.rounds,
		subject{"sink", offered("sink")}, subject{"bare pgx.Batch of 500", offered("batch")})
	return err
}

// ready empties the database, makes the consumer anew and starts one of them,
// which then waits.
func (d *sinkTurns) ready(ctx context.Context, role string) (p proc, err error) {
	if err := d.pg.empty(ctx); err != nil {
		return proc{}, err
	}
	if err := d.pausedAnew(ctx, eventsOut()); err != nil {
		return proc{}, err
	}
	if role == "sink" {
		p, err = d.service(ctx, "sink", deliveryFile)
	} else {
		p, err = d.child(ctx, role, part{DSN: d.pg.dsn()})
	}
	if err != nil {
		return proc{}, err
	}
	return p, d.await(ctx, eventsOut(), waitedFor)
}

// turn has one of them deliver to empty tables, and proves that it did: the
// first n at least, in case it was given more.
func (d *sinkTurns) turn(ctx context.Context, role string, n int) (figures, error) {
	p, err := d.ready(ctx, role)
	if err != nil {
		return figures{}, err
	}
	defer stop(p)
	read, err := d.meter(p)
	if err != nil {
		return figures{}, err
	}
	if err := d.begin(ctx, eventsOut()); err != nil {
		return figures{}, err
	}
	began, done := time.Now(), 0
	err = d.await(ctx, eventsOut(), func(i *jetstream.ConsumerInfo) bool {
		done = d.events - int(i.NumPending) - i.NumAckPending
		return done >= n
	})
	if err != nil {
		return figures{}, err
	}
	f, err := read(done, time.Since(began))
	if err != nil || n < d.events {
		return f, err // it goes on with the rest
	}
	d.report.Verified.add(verified{Events: n})
	return f, d.pg.prove(ctx, &f, n)
}

// offeredTurn has events come at their times, and sees when they are committed.
func (d *sinkTurns) offeredTurn(ctx context.Context, role string, rate float64) (figures, error) {
	p, err := d.ready(ctx, role)
	if err != nil {
		return figures{}, err
	}
	defer stop(p)
	if err := d.pg.listen(ctx); err != nil {
		return figures{}, err
	}
	if _, err := d.js.ResumeConsumer(ctx, eventsOut().stream, eventsOut().Durable); err != nil {
		return figures{}, err
	}
	read, err := d.meter(p)
	if err != nil {
		return figures{}, err
	}
	began := time.Now()
	sent, failed := make(chan int, 1), make(chan error, 1)
	go func() {
		w := newSender(nil, nil)
		n, err := d.offer(ctx, rate, d.length(), func(i int, due time.Time) *nats.Msg {
			m := w.enriched("shop", dueID(due, fmt.Sprint(i)), i, 0)
			m.Header.Set(jetstream.MsgIDHeader, m.Header.Get("ce-id"))
			return m
		})
		failed <- err
		sent <- n
	}()
	took, err := d.pg.receive(ctx, sent)
	if err != nil {
		return figures{}, err
	}
	if err := <-failed; err != nil {
		return figures{}, err
	}
	f, err := read(len(took), time.Since(began))
	if err != nil {
		return figures{}, err
	}
	f.latencies(took)
	d.report.Verified.add(verified{Events: len(took)})
	if err := d.pg.prove(ctx, &f, len(took)); err != nil {
		return figures{}, err
	}
	stream, err := d.js.Stream(ctx, eventsOut().stream)
	if err != nil {
		return figures{}, err
	}
	return f, stream.Purge(ctx)
}
