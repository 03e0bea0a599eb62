package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/pgtest"
)

// deliveries measures the sink with PostgreSQL against what it is held to: a
// bare loop that takes 500 messages of the same consumer, writes the same two
// rows for each in one pgx.Batch, and acknowledges; and the same row by row.
type deliveries struct {
	*bench
	sink   string
	events int // waiting in the stream

	js  jetstream.JetStream
	url string
	db  *pgtest.Server
	pg  *pgx.Conn
}

// contender is one of those who deliver, and how many events it gets in a turn.
type contender struct {
	name  string
	of    int // of a hundred events
	start func(d *deliveries, addr string) (*exec.Cmd, error)
}

var contenders = []contender{
	{"pgx.Batch", 100, yardstickOf("batch")},
	{"sink", 100, (*deliveries).sinkCommand},
	{"row by row", 10, yardstickOf("rows")},
}

func yardstickOf(how string) func(d *deliveries, addr string) (*exec.Cmd, error) {
	return func(d *deliveries, addr string) (*exec.Cmd, error) {
		return d.self("-role", how, "-nats", d.url, "-listen", addr, "-dsn", d.dsn())
	}
}

const deliveryFile = `
sources: {stripe: {preset: stripe, secrets: [env:BENCH_SECRET]}}
destinations: {out: {postgres: {dsn: env:BENCH_DSN}}}
telemetry: {listen: %q, sample: 0.01, log_level: error}
`

func (d *deliveries) sinkCommand(addr string) (*exec.Cmd, error) {
	file := filepath.Join(d.dir, "deliver.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, deliveryFile, addr), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(d.sink, "-c", file, "--nats", d.url)
	cmd.Env = append(os.Environ(), "BENCH_SECRET="+secret, "BENCH_DSN="+d.dsn())
	return cmd, nil
}

func (d *deliveries) dsn() string { return d.db.URL(pgtest.Superuser, pgtest.Database, "") }

func (d *deliveries) run(ctx context.Context) error {
	var err error
	if d.dir, err = os.MkdirTemp("", "tercel-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(d.dir) }()
	server, url, sync, err := d.startServer(scenario{name: "deliver", durability: topology.Relaxed})
	if err != nil {
		return err
	}
	defer server.stop()
	d.url = url
	if d.db, err = pgtest.Launch(); err != nil { // which syncs every commit
		return err
	}
	defer func() { _ = d.db.Stop() }()
	if d.pg, err = pgx.Connect(ctx, d.dsn()); err != nil {
		return err
	}
	defer func() { _ = d.pg.Close(context.WithoutCancel(ctx)) }()
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	if d.js, err = jetstream.New(nc); err != nil {
		return err
	}
	if err := d.fill(ctx); err != nil {
		return err
	}
	fmt.Printf("deliver: %d events of 1.5 to 3 KiB wait; a sync of 4 KiB takes %s\n\n", d.events, sync)
	return d.measure(ctx)
}

// fill publishes the events that all turns deliver.
func (d *deliveries) fill(ctx context.Context) error {
	if err := topology.Ensure(ctx, d.js, topology.DefaultConfig()); err != nil {
		return err
	}
	s := newSender(nil)
	for i := range d.events {
		at := time.Unix(1760000000+int64(i), 0)
		e := event.Event{
			ID: fmt.Sprint("evt-", i), Source: "stripe", Account: event.NoAccount, Type: "invoice.paid", Origin: event.Webhook,
			Time: at, ReceivedAt: at, Resource: "invoice", RecordID: strconv.Itoa(i), Version: event.TimeVersion(at), ObservedAt: at,
			ContentType: "application/json", TriggerSequence: 1,
		}
		s.writeBody(e.ID)
		m := &nats.Msg{Subject: e.EnrichedSubject(), Header: e.Header(), Data: event.Body{
			Trigger: []byte(`{"id":"` + e.ID + `"}`), Record: s.body.Bytes(),
		}.Encode()}
		if _, err := d.js.PublishMsgAsync(m); err != nil {
			return err
		}
	}
	select {
	case <-d.js.PublishAsyncComplete():
		return nil
	case <-time.After(time.Minute):
		return errors.New("the events are not stored within a minute")
	}
}

func (d *deliveries) measure(ctx context.Context) error {
	turns := map[string][]turn{}
	for round := range d.rounds + 1 { // the first warms up
		for _, c := range contenders {
			t, err := d.turn(ctx, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 {
				turns[c.name] = append(turns[c.name], t)
			}
		}
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "\tevents/s\tCPU\tpeak RSS\tsink's rate to this\tsink's CPU to this")
	for _, c := range contenders {
		mine, sink := turns[c.name], turns["sink"]
		fmt.Fprintf(out, "%s\t%.0f\t%s\t%.0f MiB\t%.2f\t%.2f\n", c.name, median(mine, perSecond), cpus(mine),
			median(mine, func(t turn) float64 { return t.peak }), ratio(mine, sink, perSecond), ratio(mine, sink, turn.cpu))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	fmt.Printf("\nMedians of %d turns, ratios those of the turns beside each other. CPU in µs an event: the program's own + PostgreSQL's.\n", d.rounds)
	return nil
}

// turn has a contender deliver to empty tables and proves that it did. The
// clock runs from when its consumer is resumed.
func (d *deliveries) turn(ctx context.Context, c contender) (turn, error) {
	n := d.events * c.of / 100
	if err := d.reset(ctx); err != nil {
		return turn{}, err
	}
	addr, err := freeAddr()
	if err != nil {
		return turn{}, err
	}
	cmd, err := c.start(d, addr)
	if err != nil {
		return turn{}, err
	}
	p, err := start(cmd, addr)
	if err != nil {
		return turn{}, err
	}
	defer p.stop()
	if err := await(ctx, d.js, topology.StreamEnriched, topology.DeliverDurable("out"), func(i *jetstream.ConsumerInfo) bool { return i.NumWaiting > 0 }); err != nil {
		return turn{}, err
	}
	app, server, began := p.cpu(), d.serverCPU(), time.Now()
	if _, err := d.js.ResumeConsumer(ctx, topology.StreamEnriched, topology.DeliverDurable("out")); err != nil {
		return turn{}, err
	}
	if err := await(ctx, d.js, topology.StreamEnriched, topology.DeliverDurable("out"), func(i *jetstream.ConsumerInfo) bool { return int(i.AckFloor.Stream) >= n }); err != nil {
		return turn{}, err
	}
	took := time.Since(began)
	app, server = p.cpu()-app, d.serverCPU()-server
	var events, records int
	if err := d.pg.QueryRow(ctx, "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM records)").Scan(&events, &records); err != nil {
		return turn{}, err
	}
	if events < n || records < n {
		return turn{}, fmt.Errorf("%d events and %d records are there, want %d", events, records, n)
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(n) }
	return turn{rate: float64(n) / took.Seconds(), app: each(app), server: each(server), peak: p.peakMiB()}, nil
}

// reset empties the database and makes the consumer anew, paused.
func (d *deliveries) reset(ctx context.Context) error {
	if _, err := d.pg.Exec(ctx, "DROP SCHEMA public CASCADE; CREATE SCHEMA public"); err != nil {
		return err
	}
	if _, err := d.pg.Exec(ctx, "CHECKPOINT"); err != nil { // or it is somebody else's turn that pays
		return err
	}
	return pausedAnew(ctx, d.js, topology.StreamEnriched, topology.DeliverConsumer("out", []string{event.PrefixEnriched + ".>"},
		topology.Delivery{AckWait: 30 * time.Second, MaxAttempts: 12}))
}

// pausedAnew makes a consumer that has seen nothing and hands out nothing yet.
func pausedAnew(ctx context.Context, js jetstream.JetStream, stream string, cfg jetstream.ConsumerConfig) error {
	err := js.DeleteConsumer(ctx, stream, cfg.Durable)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	later := time.Now().Add(time.Hour)
	cfg.PauseUntil = &later
	_, err = js.CreateOrUpdateConsumer(ctx, stream, cfg)
	return err
}

// await waits until a consumer is as wanted.
func await(ctx context.Context, js jetstream.JetStream, stream, durable string, ok func(*jetstream.ConsumerInfo) bool) error {
	c, err := js.Consumer(ctx, stream, durable)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		i, err := c.Info(ctx)
		if err != nil {
			return err
		}
		if ok(i) {
			return nil
		}
	}
	return errors.New("the consumer has not come so far within two minutes")
}

// serverCPU is the processor time of PostgreSQL's processes, those that have
// ended included.
func (d *deliveries) serverCPU() time.Duration {
	first := d.db.PID()
	var ticks int
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range all {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		pid, rest, _ := strings.Cut(string(stat), " ")
		_, rest, _ = strings.Cut(rest, ") ")
		fields := strings.Fields(rest)
		if len(fields) < 15 || pid != strconv.Itoa(first) && fields[1] != strconv.Itoa(first) {
			continue
		}
		last := 13
		if pid == strconv.Itoa(first) {
			last = 15 // of its children that have ended, too
		}
		for _, f := range fields[11:last] {
			n, _ := strconv.Atoi(f)
			ticks += n
		}
	}
	return time.Duration(ticks) * clockTick
}
