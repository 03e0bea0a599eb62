package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/pgtest"
)

// way measures how long webhooks take to their rows in PostgreSQL, through all
// services as processes of their own, with an API that answers at once.
type way struct {
	*bench
	programs   map[string]string // by the service's name
	rate       float64           // webhooks a second
	durability topology.Durability

	url, api string
	db       *pgtest.Server
	pg       *pgx.Conn // which listens
}

// wayTime is how long webhooks are sent.
const wayTime = 10 * time.Second

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
streams: {durability: %s}
ingress: {listen: %q}
telemetry: {listen: %q, sample: 0.01, log_level: error}
`

func (w *way) run(ctx context.Context) error {
	var err error
	if w.dir, err = os.MkdirTemp("", "tercel-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(w.dir) }()
	server, url, sync, err := w.startServer(scenario{name: "way", durability: w.durability})
	if err != nil {
		return err
	}
	defer server.stop()
	api, err := w.startAPI()
	if err != nil {
		return err
	}
	defer api.stop()
	w.url, w.api = url, "http://"+api.addr+"/0s"
	if w.db, err = pgtest.Launch(); err != nil { // which syncs every commit
		return err
	}
	defer func() { _ = w.db.Stop() }()
	if w.pg, err = pgx.Connect(ctx, w.db.URL(pgtest.Superuser, pgtest.Database, "")); err != nil {
		return err
	}
	defer func() { _ = w.pg.Close(context.WithoutCancel(ctx)) }()
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if err := topology.Ensure(ctx, js, streams(w.durability)); err != nil {
		return err
	}
	services := map[string]*process{}
	for _, name := range []string{"ingress", "enricher", "sink"} {
		p, err := w.startService(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer p.stop()
		services[name] = p
	}
	if err := w.listen(ctx); err != nil {
		return err
	}
	fmt.Printf("way: %s; a sync of 4 KiB takes %s; %.0f webhooks a second for %s\n\n", w.durability, sync, w.rate, wayTime)
	return w.measure(ctx, js, services)
}

func (w *way) startService(name string) (*process, error) {
	listen, err := freeAddr()
	if err != nil {
		return nil, err
	}
	telemetry, err := freeAddr()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(w.dir, name+".yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, wayFile, w.api, w.durability, listen, telemetry), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(w.programs[name], "-c", file, "--nats", w.url)
	cmd.Env = append(os.Environ(), "BENCH_SECRET="+secret, "BENCH_DSN="+w.db.URL(pgtest.Superuser, pgtest.Database, ""))
	if name != "ingress" {
		listen = telemetry
	}
	return start(cmd, listen)
}

// listen has the database tell of every event when it is committed.
func (w *way) listen(ctx context.Context) error {
	const tell = `CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN PERFORM pg_notify('written', NEW.event_id); RETURN NEW; END$$;
		CREATE TRIGGER tell AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION tell();
		LISTEN written`
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if _, err = w.pg.Exec(ctx, tell); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the sink has made no table of events: %w", err)
}

func (w *way) measure(ctx context.Context, js jetstream.JetStream, services map[string]*process) error {
	spent := map[string]time.Duration{}
	for name, p := range services {
		spent[name] = p.cpu()
	}
	sent := make(chan outcome, 1)
	failed := make(chan error, 1)
	go func() {
		o, err := w.send(ctx, services["ingress"].addr)
		if err != nil {
			failed <- err
		}
		sent <- o
	}()
	arrived, err := w.receive(ctx, sent)
	if err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
	}
	if err := w.verify(ctx, js, len(arrived)); err != nil {
		return err
	}
	slices.Sort(arrived)
	o := outcome{latencies: arrived}
	fmt.Printf("%d events, each in one row, none lost or doubled\nfrom due to committed: p50 %s, p99 %s, at most %s\n", len(arrived),
		o.latency(50).Round(100*time.Microsecond), o.latency(99).Round(100*time.Microsecond), o.latency(100).Round(100*time.Microsecond))
	for _, name := range []string{"ingress", "enricher", "sink"} {
		p := services[name]
		fmt.Printf("%s: %.0f µs of CPU an event, peak RSS %.0f MiB\n", name,
			float64((p.cpu()-spent[name]).Microseconds())/float64(len(arrived)), p.peakMiB())
	}
	return nil
}

// send sends webhooks at random times that don't depend on the answers. Their
// ids tell when they were due.
func (w *way) send(ctx context.Context, addr string) (outcome, error) {
	var mu sync.Mutex
	began := time.Now()
	next := began
	return overConnections(ctx, addr, offeredOver, func(s *sender, o *outcome) bool {
		mu.Lock()
		next = next.Add(time.Duration(rand.ExpFloat64() / w.rate * float64(time.Second)))
		due := next
		mu.Unlock()
		if due.Sub(began) >= wayTime {
			return false
		}
		time.Sleep(time.Until(due))
		s.id, s.hub = uint64(due.UnixNano()), true //nolint:gosec // it is after 1970; and it is the other provider's turn
		return s.turn(o)
	})
}

// receive returns how long each event took, until all have come that were sent.
func (w *way) receive(ctx context.Context, sent <-chan outcome) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, wayTime+time.Minute)
	defer cancel()
	seen, want := map[string]bool{}, -1
	var took []time.Duration
	for want < 0 || len(took) < want {
		select {
		case o := <-sent:
			if want = o.firsts; o.crowded+o.refused > 0 {
				return nil, fmt.Errorf("%d webhooks found no room, %d were refused", o.crowded, o.refused)
			}
			continue
		default:
		}
		wait, stop := context.WithTimeout(ctx, 100*time.Millisecond)
		n, err := w.pg.WaitForNotification(wait)
		stop()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%d events have come of %d", len(took), want)
		case errors.Is(err, context.DeadlineExceeded):
			continue
		default:
			return nil, err
		}
		if seen[n.Payload] {
			return nil, fmt.Errorf("%s was written twice", n.Payload)
		}
		seen[n.Payload] = true
		due, _, _ := strings.Cut(strings.TrimPrefix(n.Payload, "evt_"), "_")
		nanos, err := strconv.ParseInt(due, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("row of an event that nobody sent: %q", n.Payload)
		}
		took = append(took, time.Since(time.Unix(0, nanos)))
	}
	return took, nil
}

// verify counts once more, where no message could have been missed.
func (w *way) verify(ctx context.Context, js jetstream.JetStream, want int) error {
	var events, records int
	if err := w.pg.QueryRow(ctx, "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM records)").Scan(&events, &records); err != nil {
		return err
	}
	stream, err := js.Stream(ctx, topology.StreamEnriched)
	if err != nil {
		return err
	}
	if stored := int(stream.CachedInfo().State.Msgs); events != want || records != want || stored != want {
		return fmt.Errorf("%d events, %d records and %d messages are there, want %d", events, records, stored, want)
	}
	return nil
}
