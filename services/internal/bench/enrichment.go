package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// enrichments measures the enricher against the least that does its job on the
// same consumer: a loop that passes on 256 triggers at a time, or workers that
// each get a record, put it beside the trigger, publish and acknowledge.
type enrichments struct {
	*bench
	enricher string
	events   int // in a turn, instead of an errand's own number, or 0

	js     jetstream.JetStream
	server *process
	url    string
	api    string // where the records are
}

// errand is what becomes of the triggers of one source.
type errand struct {
	source  string
	events  int // in a turn
	workers int
	latency time.Duration // of the API
	get     bool
	bare    []string // roles of the yardsticks, the one that counts first
}

var errands = []errand{
	{source: "relay", events: 10_000, workers: 256, bare: []string{"fetch", "pipe"}},
	{source: "get0", events: 3000, workers: 64, get: true, bare: []string{"get"}},
	{source: "get20", events: 3000, workers: 64, latency: 20 * time.Millisecond, get: true, bare: []string{"get"}},
	{source: "get100", events: 2000, workers: 256, latency: 100 * time.Millisecond, get: true, bare: []string{"get"}},
}

func (e *enrichments) run(ctx context.Context) error {
	var err error
	if e.dir, err = os.MkdirTemp("", "tercel-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(e.dir) }()
	var sync string
	if e.server, e.url, sync, err = e.startServer(scenario{name: "enrich", durability: topology.Relaxed}); err != nil {
		return err
	}
	defer e.server.stop()
	api, err := e.startAPI()
	if err != nil {
		return err
	}
	defer api.stop()
	e.api = "http://" + api.addr
	nc, err := nats.Connect(e.url)
	if err != nil {
		return err
	}
	defer nc.Close()
	if e.js, err = jetstream.New(nc); err != nil {
		return err
	}
	if err := topology.Ensure(ctx, e.js, streams(topology.Relaxed)); err != nil {
		return err
	}
	fmt.Printf("enrich: relaxed; a sync of 4 KiB takes %s\n\n", sync)
	for _, job := range errands {
		if !strings.HasPrefix(job.source, e.only) {
			continue
		}
		job.events = cmp.Or(e.events, job.events)
		if err := fillTriggers(ctx, e.js, job.source, job.events, 0); err != nil {
			return err
		}
		if err := e.measure(ctx, job); err != nil {
			return fmt.Errorf("%s: %w", job.source, err)
		}
	}
	fmt.Printf("Medians of %d turns, ratios those of the turns beside each other. CPU in µs an event: the program's own + nats-server's.\n", e.rounds)
	return nil
}

// streams are how streams are kept here.
func streams(d topology.Durability) topology.Config {
	cfg := topology.DefaultConfig()
	cfg.Durability = d
	return cfg
}

func (b *bench) startAPI() (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	cmd, err := b.self("-role", "api", "-listen", addr)
	if err != nil {
		return nil, err
	}
	return start(cmd, addr)
}

// fillTriggers publishes n triggers of a source, whose bodies are of 1.5 to 3
// KiB or of so many bytes.
func fillTriggers(ctx context.Context, js jetstream.JetStream, source string, n, size int) error {
	s := newSender(nil)
	return fill(ctx, js, n, func(i int) *nats.Msg {
		at := time.Unix(1760000000+int64(i), 0)
		ev := event.Event{
			ID: fmt.Sprint("evt-", i), Source: source, Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook,
			Time: at, ReceivedAt: at, ContentType: "application/json",
		}
		m := &nats.Msg{Subject: ev.RawSubject(), Header: ev.Header()}
		m.Header.Set(jetstream.MsgIDHeader, ev.MsgID())
		if size > 0 {
			m.Data = fmt.Appendf(nil, `{"id":%q,"filler":%q}`, ev.ID, strings.Repeat("x", size))
		} else {
			s.writeBody(ev.ID)
			m.Data = append(m.Data, s.body.Bytes()...)
		}
		return m
	})
}

// fill stores n messages.
func fill(ctx context.Context, js jetstream.JetStream, n int, message func(i int) *nats.Msg) error {
	for i := range n {
		if _, err := js.PublishMsgAsync(message(i), jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
		return nil
	case <-time.After(5 * time.Minute):
		return errors.New("the messages are not stored within five minutes")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *enrichments) measure(ctx context.Context, job errand) error {
	turns, names := map[string][]turn{}, append([]string{"enricher"}, job.bare...)
	for round := range e.rounds + 1 { // the first warms up
		for _, name := range names {
			t, err := e.turn(ctx, job, name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if round > 0 {
				turns[name] = append(turns[name], t)
			}
		}
	}
	fmt.Printf("%s: %d events a turn, %d workers, latency %s\n", job.source, job.events, job.workers, job.latency)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "\tevents/s\tCPU\tpeak RSS\tenricher's rate to this\tenricher's CPU to this")
	for _, name := range names {
		mine, its := turns[name], turns["enricher"]
		fmt.Fprintf(out, "%s\t%.0f\t%s\t%.0f MiB\t%.2f\t%.2f\n", name, median(mine, perSecond), cpus(mine),
			median(mine, func(t turn) float64 { return t.peak }), ratio(mine, its, perSecond), ratio(mine, its, turn.cpu))
	}
	fmt.Fprintln(out)
	return out.Flush()
}

// turn has one of them enrich all triggers of a source and proves that it did.
// The clock runs from the first delivery after its consumer is resumed: who
// waits in vain until then may come again up to a second later.
func (e *enrichments) turn(ctx context.Context, job errand, name string) (turn, error) {
	if err := e.reset(ctx, job.source); err != nil {
		return turn{}, err
	}
	p, err := e.start(job, name)
	if err != nil {
		return turn{}, err
	}
	defer p.stop()
	durable := topology.EnrichDurable(job.source)
	if err := await(ctx, e.js, topology.StreamRaw, durable, func(i *jetstream.ConsumerInfo) bool { return i.NumWaiting > 0 }); err != nil {
		return turn{}, err
	}
	app, server := p.cpu(), e.server.cpu()
	if _, err := e.js.ResumeConsumer(ctx, topology.StreamRaw, durable); err != nil {
		return turn{}, err
	}
	if err := await(ctx, e.js, topology.StreamRaw, durable, func(i *jetstream.ConsumerInfo) bool { return i.Delivered.Consumer > 0 }); err != nil {
		return turn{}, err
	}
	began := time.Now()
	err = await(ctx, e.js, topology.StreamRaw, durable, func(i *jetstream.ConsumerInfo) bool {
		return i.NumPending == 0 && i.NumAckPending == 0
	})
	if err != nil {
		return turn{}, err
	}
	took := time.Since(began)
	app, server = p.cpu()-app, e.server.cpu()-server
	stream, err := e.js.Stream(ctx, topology.StreamEnriched)
	if err != nil {
		return turn{}, err
	}
	if stored := int(stream.CachedInfo().State.Msgs); stored != job.events {
		return turn{}, fmt.Errorf("%d events are there, want %d", stored, job.events)
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(job.events) }
	return turn{rate: float64(job.events) / took.Seconds(), app: each(app), server: each(server), peak: p.peakMiB()}, nil
}

// reset makes the source's consumer anew, paused, and the stream of enriched
// events with it: emptied, it would still know the ids.
func (e *enrichments) reset(ctx context.Context, source string) error {
	if err := e.js.DeleteStream(ctx, topology.StreamEnriched); err != nil {
		return err
	}
	if err := topology.Ensure(ctx, e.js, streams(topology.Relaxed)); err != nil {
		return err
	}
	// The process of the turn before counts among those that share the API's
	// limits for some seconds more.
	leases, err := e.js.KeyValue(ctx, topology.BucketLeases)
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
	return pausedAnew(ctx, e.js, topology.StreamRaw, topology.EnrichConsumer(source, topology.Delivery{AckWait: 30 * time.Second, MaxAttempts: 12}))
}

const enrichFile = `
sources:
  %[1]s: {preset: standard-webhooks, secrets: [env:BENCH_SECRET], %[2]s}
enricher: {workers: %[3]d}
streams: {durability: relaxed}
telemetry: {listen: %[4]q, sample: 0.01, log_level: error}
`

func (e *enrichments) start(job errand, name string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	base := e.api + "/" + job.latency.String()
	if name != "enricher" {
		cmd, err := e.self("-role", name, "-nats", e.url, "-listen", addr, "-source", job.source, "-api", base, "-workers", fmt.Sprint(job.workers))
		if err != nil {
			return nil, err
		}
		return start(cmd, addr)
	}
	extra := "resources: {}"
	if job.get {
		extra = fmt.Sprintf(`api: {base: %q, allow_private: true, concurrency: %d},
    resources: {order: {triggers: [order.*], id: body.id, get: "/orders/{id}", version: record.updated_at}}`, base, job.workers)
	}
	file := filepath.Join(e.dir, job.source+".yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, enrichFile, job.source, extra, job.workers, addr), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(e.enricher, "-c", file, "--nats", e.url)
	cmd.Env = append(os.Environ(), "BENCH_SECRET=whsec_YSBzZWNyZXQgb2YgdGhlIGJlbmNobWFyaw==")
	return start(cmd, addr)
}
