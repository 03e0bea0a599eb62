package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// backlogs measures what a service's memory comes to while many events wait, or
// large ones.
type backlogs struct {
	*bench
	enricher, sink string
	most           int // events that wait
}

// backlog is what waits.
type backlog struct {
	events, size int // and bytes of each
}

// backlogTime is how long a service works on a backlog.
const backlogTime = 8 * time.Second

func (b *backlogs) run(ctx context.Context) error {
	var err error
	if b.dir, err = os.MkdirTemp("", "tercel-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "waiting\tfilled in\tenricher's peak RSS\tsink's (SQLite)")
	for _, w := range []backlog{{2000, 256}, {b.most, 256}, {400, 512 << 10}} {
		if err := b.measure(ctx, w, out); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	fmt.Printf("\nEach works on it for %s.\n", backlogTime)
	return nil
}

func (b *backlogs) measure(ctx context.Context, w backlog, out *tabwriter.Writer) error {
	server, url, _, err := b.startServer(scenario{name: fmt.Sprint("backlog-", w.events), durability: topology.Relaxed})
	if err != nil {
		return err
	}
	defer server.stop()
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if err := topology.Ensure(ctx, js, streams(topology.Relaxed)); err != nil {
		return err
	}
	began := time.Now()
	if err := fillTriggers(ctx, js, "relay", w.events, w.size); err != nil {
		return err
	}
	if err := fillEvents(ctx, js, w); err != nil {
		return err
	}
	filled := time.Since(began).Round(time.Second)
	var peaks []float64
	for _, c := range []struct{ program, stream, durable string }{
		{b.enricher, topology.StreamRaw, topology.EnrichDurable("relay")}, {b.sink, topology.StreamEnriched, topology.DeliverDurable("out")},
	} {
		peak, err := b.peakOf(ctx, c.program, url)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(c.program), err)
		}
		peaks = append(peaks, peak)
		err = await(ctx, js, c.stream, c.durable, func(i *jetstream.ConsumerInfo) bool { return i.AckFloor.Stream > 0 })
		if err != nil {
			return fmt.Errorf("%s has done nothing: %w", filepath.Base(c.program), err)
		}
	}
	fmt.Fprintf(out, "%d of %d KiB\t%s\t%.0f MiB\t%.0f MiB\n", w.events, max(w.size>>10, 1), filled, peaks[0], peaks[1])
	return nil
}

// fillEvents publishes the enriched events that the sink finds. They have no ids
// for the server to keep.
func fillEvents(ctx context.Context, js jetstream.JetStream, w backlog) error {
	filler := strings.Repeat("x", w.size)
	return fill(ctx, js, w.events, func(i int) *nats.Msg {
		at := time.Unix(1760000000+int64(i), 0)
		e := event.Event{
			ID: fmt.Sprint("evt-", i), Source: "waiting", Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook,
			Time: at, ReceivedAt: at, Resource: "order", RecordID: strconv.Itoa(i), Version: event.TimeVersion(at), ObservedAt: at,
			ContentType: "application/json", TriggerSequence: 1,
		}
		return &nats.Msg{Subject: e.EnrichedSubject(), Header: e.Header(), Data: event.Body{
			Trigger: []byte(`{"id":"` + e.ID + `"}`), Record: fmt.Appendf(nil, `{"filler":%q}`, filler),
		}.Encode()}
	})
}

const backlogFile = `
sources:
  relay: {preset: standard-webhooks, secrets: [env:BENCH_SECRET], resources: {}}
destinations: {out: {sqlite: {path: %q}}}
streams: {durability: relaxed}
telemetry: {listen: %q, sample: 0.01, log_level: error}
`

// peakOf has a program work for a while.
func (b *backlogs) peakOf(ctx context.Context, program, url string) (float64, error) {
	addr, err := freeAddr()
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp(b.dir, "out")
	if err != nil {
		return 0, err
	}
	file := filepath.Join(dir, "backlog.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, backlogFile, filepath.Join(dir, "out.db"), addr), 0o600); err != nil {
		return 0, err
	}
	cmd := exec.Command(program, "-c", file, "--nats", url)
	cmd.Env = append(os.Environ(), "BENCH_SECRET=whsec_YSBzZWNyZXQgb2YgdGhlIGJlbmNobWFyaw==")
	p, err := start(cmd, addr)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	select {
	case <-time.After(backlogTime):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return p.peakMiB(), nil
}
