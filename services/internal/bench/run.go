package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// bench is one whole measurement.
type bench struct {
	ingress string
	only    string
	rounds  int
	time    time.Duration
	dir     string
	out     *tabwriter.Writer
}

// scenario is a durability and a disk, with the connections that they are
// loaded over.
type scenario struct {
	name       string
	durability topology.Durability
	hold       time.Duration // what a sync takes longer
	flights    []int
}

var scenarios = []scenario{
	{name: "relaxed", durability: topology.Relaxed, flights: []int{128}},
	{name: "synced", durability: topology.Synced, flights: []int{1, 128, 512}},
	{name: "synced-slowly", durability: topology.Synced, hold: 2 * time.Millisecond, flights: []int{1, 128, 512}},
}

// turn is what was measured in one turn of load.
type turn struct {
	outcome
	rate     float64 // events a second
	app      float64 // microseconds of the process's own processor time for an event
	server   float64 // and of the server's
	peak     float64 // memory of the process, in MiB
	p50, p99 time.Duration
}

// cpu is the processor time that an event takes.
func (t turn) cpu() float64 { return t.app + t.server }

func (b *bench) run(ctx context.Context) error {
	if b.ingress == "" {
		return errors.New("--ingress: the path of the built program is needed; use scripts/bench")
	}
	var err error
	if b.dir, err = os.MkdirTemp("", "tercel-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	b.out = tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, s := range scenarios {
		if !strings.HasPrefix(s.name, b.only) {
			continue
		}
		if err := b.scenario(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	fmt.Printf("Medians of %d turns of %s each, ratios those of the turns beside each other. CPU in µs an event: the program's own + nats-server's.\n",
		b.rounds, b.time)
	return nil
}

// pair is the two that are held against each other, and their server.
type pair struct {
	*bench
	js            jetstream.JetStream
	server        *process
	yard, ingress *process
}

func (b *bench) scenario(ctx context.Context, s scenario) error {
	server, url, sync, err := b.startServer(s)
	if err != nil {
		return err
	}
	defer server.stop()
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(time.Minute)) // a disk may be busy with the turn before
	if err != nil {
		return err
	}
	cfg := topology.DefaultConfig()
	cfg.Durability = s.durability
	if err := topology.Ensure(ctx, js, cfg); err != nil {
		return err
	}
	yard, err := b.startYardstick(url)
	if err != nil {
		return err
	}
	defer yard.stop()
	ingress, err := b.startIngress(url, s)
	if err != nil {
		return err
	}
	defer ingress.stop()
	fmt.Printf("%s: a sync of 4 KiB takes %s\n\n", s.name, sync)
	return pair{b, js, server, yard, ingress}.measure(ctx, s.flights)
}

// measure loads both in turns: as fast as they answer, at half of that rate,
// and with more than they take.
func (p pair) measure(ctx context.Context, flights []int) error {
	if _, _, err := p.rounds(ctx, 1, closed(flights[0], p.time)); err != nil { // warms up
		return err
	}
	fmt.Fprintln(p.out, "in flight\tyardstick/s\tingress/s\tratio\tyardstick CPU\tingress CPU\tratio\tpeak RSS")
	slower := 0.0
	for _, n := range flights {
		yards, ingresses, err := p.rounds(ctx, p.bench.rounds, closed(n, p.time))
		if err != nil {
			return err
		}
		report(p.out, n, yards, ingresses)
		slower = min(median(yards, perSecond), median(ingresses, perSecond))
	}
	_ = p.out.Flush()
	yards, ingresses, err := p.rounds(ctx, p.bench.rounds, offered(slower/2, offeredOver, p.time))
	if err != nil {
		return err
	}
	reportLatency(p.out, slower/2, yards, ingresses)
	return p.flood(ctx)
}

// offeredOver is how many connections an offered load has.
const offeredOver = 128

// flooders is twice as many connections as the ingress has places for requests.
const flooders = 2048

// flood shows that memory doesn't grow with the time that there is too much to
// take in.
func (p pair) flood(ctx context.Context) error {
	var turns []turn
	for range 3 {
		t, err := p.turn(ctx, p.ingress, closed(flooders, p.time))
		if err != nil {
			return fmt.Errorf("flood: %w", err)
		}
		turns = append(turns, t)
	}
	fmt.Fprintln(p.out, "flooded by\tstored/s\trefused/s\tpeak RSS by turns")
	fmt.Fprintf(p.out, "%d\t%.0f\t%.0f\t%.0f, %.0f, %.0f MiB\n\n", flooders, median(turns, perSecond),
		median(turns, func(t turn) float64 { return float64(t.crowded) / t.duration.Seconds() }), turns[0].peak, turns[1].peak, turns[2].peak)
	return p.out.Flush()
}

// rounds loads yardstick and ingress n times, one after the other.
func (p pair) rounds(ctx context.Context, n int, l load) (yards, ingresses []turn, err error) {
	for range n {
		y, err := p.turn(ctx, p.yard, l)
		if err != nil {
			return nil, nil, fmt.Errorf("yardstick: %w", err)
		}
		in, err := p.turn(ctx, p.ingress, l)
		if err != nil {
			return nil, nil, fmt.Errorf("ingress: %w", err)
		}
		if y.crowded+in.crowded > 0 {
			return nil, nil, fmt.Errorf("%d and %d requests found no room", y.crowded, in.crowded)
		}
		yards, ingresses = append(yards, y), append(ingresses, in)
	}
	return yards, ingresses, nil
}

// turn loads a process once and proves what it answered.
func (p pair) turn(ctx context.Context, target *process, l load) (turn, error) {
	stream, err := p.js.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return turn{}, err
	}
	if err := stream.Purge(ctx); err != nil {
		return turn{}, err
	}
	target.resetPeak()
	app, server := target.cpu(), p.server.cpu()
	o, err := l(ctx, target.addr)
	if err != nil {
		return turn{}, err
	}
	app, server = target.cpu()-app, p.server.cpu()-server
	info, err := stream.Info(ctx)
	if err != nil {
		return turn{}, err
	}
	if stored := int(info.State.Msgs); o.refused > 0 || stored != o.firsts {
		return turn{}, fmt.Errorf("%d of %d requests refused, %d events stored of %d", o.refused, o.events, stored, o.firsts)
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(o.events) }
	return turn{
		outcome: o, rate: float64(o.events) / o.duration.Seconds(), app: each(app), server: each(server), peak: target.peakMiB(),
		p50: o.latency(50), p99: o.latency(99),
	}, nil
}
