package main

import (
	"context"
	"fmt"

	"github.com/tercelhq/tercel/pkg/freeport"
	"github.com/tercelhq/tercel/pkg/topology"
)

// intake measures the ingress. Its yardstick is the smallest honest handler. So
// that it doesn't depend on one disk what group commits are worth, the synced
// level is measured twice.
type intake struct{}

const ingressFile = `
sources:
  stripe: {preset: stripe, secrets: [env:BENCH_SECRET]}
  hub: {preset: github, secrets: [env:BENCH_SECRET]}
ingress: {listen: %q}
`

// offeredOver is how many connections an offered load has.
const offeredOver = 128

func (i intake) run(ctx context.Context, l *lab) error {
	for _, c := range []struct {
		level
		flights []int
	}{{relaxed, []int{128}}, {synced, []int{1, 128, 512}}, {slowly, []int{1, 128, 512}}} {
		if err := l.with(ctx, c.level, func(s *stand) error { return i.measure(ctx, s, c.flights) }); err != nil {
			return err
		}
	}
	return nil
}

// startIngress starts the ingress, for webhooks at addr.
func (s *stand) startIngress(ctx context.Context, file string) (p proc, addr string, err error) {
	if addr, err = freeport.Addr(); err != nil {
		return proc{}, "", err
	}
	p, err = s.service(ctx, "ingress", fmt.Sprintf(file, addr))
	return p, addr, err
}

func (i intake) measure(ctx context.Context, s *stand, flights []int) error {
	bare, err := s.child(ctx, "handler", part{})
	if err != nil {
		return err
	}
	defer stop(bare)
	ingress, addr, err := s.startIngress(ctx, ingressFile)
	if err != nil {
		return err
	}
	defer stop(ingress)
	both := func(what string, t traffic) ([]row, error) {
		t.targets, t.length = providers, s.length()
		return s.measure(ctx, what, s.rounds, subject{"ingress", s.webhooks(ingress, addr, t)}, subject{"bare handler", s.webhooks(bare, bare.addr, t)})
	}
	var rows []row
	for _, n := range flights {
		if rows, err = both(fmt.Sprintf("maximum, %d in flight", n), traffic{connections: n}); err != nil {
			return err
		}
	}
	half := slowest(rows) / 2
	if _, err := both(fmt.Sprintf("%s/s, half of the slower maximum", number(half)), traffic{connections: offeredOver, rate: half}); err != nil {
		return err
	}
	return i.flood(ctx, s, ingress, addr)
}

// flooders is twice as many connections as the ingress has places for requests.
const flooders = 2048

// flood shows that memory doesn't grow with the time that there is too much to
// take in.
func (i intake) flood(ctx context.Context, s *stand, ingress proc, addr string) error {
	once := s.webhooks(ingress, addr, traffic{targets: providers, connections: flooders, length: s.length()})
	_, err := s.measure(ctx, fmt.Sprintf("flooded over %d connections", flooders), 1, subject{"ingress", func(ctx context.Context) (f figures, err error) {
		var before []extra
		for _, name := range []string{"peak in the first third", "in the second", ""} {
			if f, err = once(ctx); err != nil {
				return figures{}, err
			}
			before = append(before, extra{name, f.Peak, "MiB"})
		}
		f.Extra = append(f.Extra, before[:2]...)
		return f, nil
	}})
	return err
}

// webhooks is a turn of a program that takes webhooks at addr, and proves what it
// answered.
func (s *stand) webhooks(p proc, addr string, t traffic) func(context.Context) (figures, error) {
	return func(ctx context.Context) (figures, error) {
		stream, err := s.js.Stream(ctx, topology.StreamRaw)
		if err != nil {
			return figures{}, err
		}
		if err := stream.Purge(ctx); err != nil {
			return figures{}, err
		}
		read, err := s.meter(p)
		if err != nil {
			return figures{}, err
		}
		o, err := t.send(ctx, addr)
		if err != nil {
			return figures{}, err
		}
		f, err := read(o.events, o.duration)
		if err != nil {
			return figures{}, err
		}
		stored, disk, err := s.stored(ctx, topology.StreamRaw)
		if err != nil {
			return figures{}, err
		}
		if stored != o.firsts() || stored == 0 {
			return figures{}, fmt.Errorf("%d events are stored, want %d", stored, o.firsts())
		}
		f.Disk = disk
		if o.crowded > 0 && t.connections < flooders {
			return figures{}, fmt.Errorf("%d requests found no room", o.crowded)
		}
		if o.crowded > 0 {
			f.Extra = append(f.Extra, extra{"told to come later", float64(o.crowded) / o.duration.Seconds(), "/s"})
		}
		s.report.Verified.add(verified{Events: o.firsts(), Repeats: o.repeats, Forgeries: o.forgeries})
		if t.rate > 0 {
			f.latencies(o.latencies)
		}
		return f, nil
	}
}
