package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tercelhq/tercel/pkg/freeport"
)

// way measures how long webhooks take to their rows in PostgreSQL, through all
// services as processes of their own, with an API that answers at once.
type way struct{}

// wayRate is how many webhooks a second are due.
const wayRate = 500

const wayFile = `
sources:
  stripe:
    verify: {scheme: hmac-sha256, header: Stripe-Signature, format: pairs, timestamp_key: t, signature_key: v1, encoding: hex,
      signed: "{timestamp}.{body}", tolerance: 5m}
    secrets: [env:BENCH_SECRET]
    event: {id: body.id, type: body.type, time: body.created}
    api: {base: %q, allow_private: true, concurrency: 16}
    resources: {invoice: {triggers: [invoice.*], id: body.id, get: "/orders/{id}", version: record.updated_at}}
destinations: {out: {postgres: {dsn: env:BENCH_DSN}}}
ingress: {listen: %q}
`

func (w way) run(ctx context.Context, l *lab) error {
	for _, at := range []level{relaxed, synced} {
		err := l.with(ctx, at, func(s *stand) error {
			return s.withDatabase(ctx, func() error { return w.measure(ctx, s) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w way) measure(ctx context.Context, s *stand) error {
	api, base, err := s.startAPI(ctx)
	if err != nil {
		return err
	}
	defer stop(api)
	addr, err := freeport.Addr()
	if err != nil {
		return err
	}
	var all []proc
	for _, name := range []string{"ingress", "enricher", "sink"} {
		p, err := s.service(ctx, name, fmt.Sprintf(wayFile, base+"/0s", addr))
		if err != nil {
			return err
		}
		defer stop(p)
		all = append(all, p)
	}
	if err := s.pg.listen(ctx); err != nil {
		return err
	}
	t := traffic{targets: providers[1:], connections: offeredOver, rate: wayRate, length: 5 * s.length()}
	_, err = s.measure(ctx, fmt.Sprintf("%d/s for %s, a record in 0s, PostgreSQL", wayRate, t.length), 1,
		subject{"ingress, enricher and sink", func(ctx context.Context) (figures, error) { return w.turn(ctx, s, t, addr, all) }})
	return err
}

func (w way) turn(ctx context.Context, s *stand, t traffic, addr string, all []proc) (figures, error) {
	read, err := s.meter(all...)
	if err != nil {
		return figures{}, err
	}
	sent, failed := make(chan int, 1), make(chan error, 1)
	var found verified // once failed has told
	began := time.Now()
	go func() {
		o, err := t.send(ctx, addr)
		if err == nil && o.crowded > 0 {
			err = fmt.Errorf("%d webhooks found no room", o.crowded)
		}
		found = verified{Events: o.firsts(), Repeats: o.repeats, Forgeries: o.forgeries}
		failed <- err
		sent <- o.firsts()
	}()
	took, err := s.pg.receive(ctx, sent)
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
	for i, p := range all {
		u, err := p.Usage()
		if err != nil {
			return figures{}, err
		}
		f.Extra = append(f.Extra, extra{[]string{"ingress", "enricher", "sink"}[i], mib(u.Peak), "MiB"})
	}
	f.latencies(took)
	if err := s.prove(ctx, &f, found); err != nil {
		return figures{}, err
	}
	return f, s.pg.prove(ctx, &f, found.Events)
}
