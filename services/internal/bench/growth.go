package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// waiting measures enricher and sink while ever more events wait, or large ones.
// What they take in memory shouldn't grow, nor what an event costs.
type waiting struct{}

// waitingTime is how long a service works on what waits.
const waitingTime = 6 * time.Second

const waitingFile = `
sources: {relay: {preset: standard-webhooks, secrets: [env:BENCH_KEY], resources: {}}}
destinations: {out: {sqlite: {path: %q}}}
`

func (w waiting) run(ctx context.Context, l *lab) error {
	for _, c := range []struct{ events, size int }{{10_000, 256}, {100_000, 256}, {1_000_000, 256}, {400, 512 << 10}} {
		if l.quick && c.events > 100_000 {
			continue
		}
		if err := l.with(ctx, relaxed, func(s *stand) error { return w.measure(ctx, s, c.events, c.size) }); err != nil {
			return err
		}
	}
	return nil
}

func (w waiting) measure(ctx context.Context, s *stand, events, size int) error {
	from := newSender(nil, nil)
	err := s.fill(ctx, events, func(i int) *nats.Msg {
		m := from.trigger("relay", fmt.Sprint("evt-", i), size)
		m.Header.Del(jetstream.MsgIDHeader) // what ids cost is another matter
		return m
	})
	if err != nil {
		return err
	}
	err = s.fill(ctx, events, func(i int) *nats.Msg { return from.enriched("waiting", fmt.Sprint("evt-", i), i, size) })
	if err != nil {
		return err
	}
	// The sink first, which would have the enricher's events beside its own.
	for _, c := range []struct {
		program string
		queue
	}{{"sink", eventsOut()}, {"enricher", triggersOf("relay")}} {
		what := fmt.Sprintf("%d events of %s wait", events, kib(size))
		if c.program == "sink" {
			what += ", SQLite"
		}
		_, err := s.measure(ctx, what, 1, subject{c.program, func(ctx context.Context) (figures, error) { return w.turn(ctx, s, c.program, c.queue) }})
		if err != nil {
			return err
		}
	}
	return nil
}

func kib(size int) string {
	if size < 1<<10 {
		return fmt.Sprintf("%d B", size)
	}
	return fmt.Sprintf("%d KiB", size>>10)
}

func (w waiting) turn(ctx context.Context, s *stand, program string, q queue) (figures, error) {
	if err := s.pausedAnew(ctx, q); err != nil {
		return figures{}, err
	}
	p, err := s.service(ctx, program, fmt.Sprintf(waitingFile, filepath.Join(s.dir, "out.db")))
	if err != nil {
		return figures{}, err
	}
	defer stop(p)
	if err := s.await(ctx, q, waitedFor); err != nil {
		return figures{}, err
	}
	read, err := s.meter(p)
	if err != nil {
		return figures{}, err
	}
	if err := s.begin(ctx, q); err != nil {
		return figures{}, err
	}
	began, left := time.Now(), 0
	var most int
	err = s.await(ctx, q, func(i *jetstream.ConsumerInfo) bool {
		left = int(i.NumPending) + i.NumAckPending
		most = max(most, left)
		return left == 0 || time.Since(began) >= waitingTime
	})
	if err != nil {
		return figures{}, err
	}
	if most == left {
		return figures{}, fmt.Errorf("nothing of %d events was done", most)
	}
	return read(most-left, time.Since(began))
}

// sources measures one ingress with ever more sources. What an event costs
// shouldn't grow.
type sources struct{}

func (x sources) run(ctx context.Context, l *lab) error {
	for _, n := range []int{1, 10, 100, 1000} {
		err := l.with(ctx, relaxed, func(s *stand) error { return x.measure(ctx, s, n) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (x sources) measure(ctx context.Context, s *stand, n int) error {
	var file strings.Builder
	file.WriteString("sources:\n")
	var targets []target
	for i := range n {
		fmt.Fprintf(&file, "  s%d: {preset: stripe, secrets: [env:BENCH_SECRET]}\n", i)
		targets = append(targets, target{path: fmt.Sprint("/v1/s", i)})
	}
	began := time.Now()
	p, addr, err := s.startIngress(ctx, file.String()+"ingress: {listen: %q}\n")
	if err != nil {
		return err
	}
	ready := time.Since(began)
	defer stop(p)
	once := s.webhooks(p, addr, traffic{targets: targets, connections: offeredOver, length: s.length()})
	_, err = s.measure(ctx, fmt.Sprintf("%d sources, maximum, %d in flight", n, offeredOver), s.rounds, subject{"ingress", func(ctx context.Context) (figures, error) {
		f, err := once(ctx)
		if err != nil {
			return figures{}, err
		}
		series, size, err := scraped(ctx, p.addr)
		f.Extra = []extra{{"ready in", ready.Seconds(), "s"}, {"series", float64(series), ""}, {"a scrape", float64(size) / (1 << 10), "KiB"}}
		return f, err
	}})
	return err
}

// scraped counts a program's series, and the bytes in which it tells of them.
func scraped(ctx context.Context, addr string) (series, size int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		size += len(lines.Bytes()) + 1
		if !bytes.HasPrefix(lines.Bytes(), []byte("#")) {
			series++
		}
	}
	return series, size, lines.Err()
}

// window measures the server and the ingress with ever more ids in the dedup
// window.
type window struct{}

// windowRate is how many events a second make the ids of a window.
const windowRate = 250

func (w window) run(ctx context.Context, l *lab) error {
	for _, d := range []time.Duration{2 * time.Minute, 10 * time.Minute, time.Hour} {
		if l.quick && d > 10*time.Minute {
			continue
		}
		if err := l.with(ctx, relaxed, func(s *stand) error { return w.measure(ctx, s, d) }); err != nil {
			return err
		}
	}
	return nil
}

func (w window) measure(ctx context.Context, s *stand, d time.Duration) error {
	ids, from := int(d.Seconds())*windowRate, newSender(nil, nil)
	if err := s.fill(ctx, ids, func(i int) *nats.Msg { return from.trigger("stripe", fmt.Sprint("evt-", i), 256) }); err != nil {
		return err
	}
	filled, err := s.server.Usage()
	if err != nil {
		return err
	}
	s.stopServer()
	began := time.Now()
	if err := s.startServer(ctx); err != nil {
		return err
	}
	restarted := time.Since(began)
	began = time.Now()
	p, addr, err := s.startIngress(ctx, ingressFile)
	if err != nil {
		return err
	}
	ready := time.Since(began)
	defer stop(p)
	once := s.webhooks(p, addr, traffic{targets: providers, connections: offeredOver, length: s.length()})
	what := fmt.Sprintf("%d ids, as of %s at %d/s", ids, d, windowRate)
	_, err = s.measure(ctx, what, 1, subject{"ingress", func(ctx context.Context) (figures, error) {
		f, err := once(ctx)
		f.Extra = []extra{
			{"server before", mib(filled.Memory), "MiB"}, {"it restarts in", restarted.Seconds(), "s"}, {"ingress ready in", ready.Seconds(), "s"},
		}
		return f, err
	}})
	return err
}
