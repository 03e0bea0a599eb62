package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

// timelines measures how long it takes to find what became of an event among many
// that are stored, what the index of them costs, and how long it isn't complete
// after its first start and after another.
type timelines struct {
	*bench
	counts []int // of events that are stored
}

// Every event has a trigger and an enriched event of its own, and every record so
// many events.
const versions = 5

// questions is how many timelines are asked for by each kind of id.
const questions = 300

func (b *timelines) run(ctx context.Context) error {
	var err error
	if b.dir, err = os.MkdirTemp("", "tercel-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "events\tfilled in\tindexed in\tagain after a restart\tindex's memory\tfolder\tby event p50/p99/max\tby delivery\tby record")
	for _, n := range b.counts {
		if err := b.measure(ctx, n, out); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	fmt.Printf("\nEach event is two messages, and a record has %d events. %d timelines of each kind of id.\n", versions, questions)
	return nil
}

func (b *timelines) measure(ctx context.Context, n int, out io.Writer) error {
	server, url, _, err := b.startServer(scenario{name: fmt.Sprint("timeline-", n), durability: topology.Relaxed})
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
	if err := fillWays(ctx, js, n); err != nil {
		return err
	}
	filled := time.Since(began).Round(time.Second)
	cfg := timeline.Config{Dir: filepath.Join(b.dir, fmt.Sprint("index-", n))}
	first, err := indexed(ctx, js, cfg, func(*timeline.Index) error { return nil })
	if err != nil {
		return err
	}
	var columns []string
	again, err := indexed(ctx, js, cfg, func(x *timeline.Index) error {
		memory, disk := x.Size()
		columns = append(columns, fmt.Sprintf("%.1f MiB\t%.1f MiB", float64(memory)/(1<<20), float64(disk)/(1<<20)))
		for _, by := range []struct {
			kind   timeline.By
			prefix string
			of     int
		}{{timeline.ByEvent, "evt-", n}, {timeline.ByDelivery, "delivery-", n}, {timeline.ByRecord, "order-", n / versions}} {
			times, err := ask(ctx, x, by.kind, by.prefix, by.of)
			if err != nil {
				return err
			}
			columns = append(columns, times)
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d\t%s\t%s\t%s\t%s\n", n, filled, first, again, strings.Join(columns, "\t"))
	return nil
}

// fillWays stores the messages of n events.
func fillWays(ctx context.Context, js jetstream.JetStream, n int) error {
	trigger := func(i int) event.Event {
		at := time.Unix(1760000000+int64(i), 0)
		return event.Event{
			ID: fmt.Sprint("evt-", i), DeliveryID: fmt.Sprint("delivery-", i), Source: "orders", Account: event.NoAccount,
			Type: "order.paid", Origin: event.Webhook, Time: at, ReceivedAt: at, ContentType: "application/json",
		}
	}
	filler := strings.Repeat("x", 256)
	// No ids for the server to keep: they would be what takes the time.
	err := fill(ctx, js, n, func(i int) *nats.Msg {
		e := trigger(i)
		return &nats.Msg{Subject: e.RawSubject(), Header: e.Header(), Data: fmt.Appendf(nil, `{"id":%q,"filler":%q}`, e.ID, filler)}
	})
	if err != nil {
		return err
	}
	return fill(ctx, js, n, func(i int) *nats.Msg {
		e := trigger(i)
		e.Resource, e.RecordID, e.Version = "order", fmt.Sprint("order-", i%(n/versions)), event.TimeVersion(e.Time)
		e.ObservedAt, e.TriggerSequence = e.Time, uint64(i)+1
		return &nats.Msg{Subject: e.EnrichedSubject(), Header: e.Header(), Data: event.Body{
			Trigger: []byte(`{"id":"` + e.ID + `"}`), Record: fmt.Appendf(nil, `{"filler":%q}`, filler),
		}.Encode()}
	})
}

// indexed has an index follow the streams, and returns how long it took until it
// knew all of them.
func indexed(ctx context.Context, js jetstream.JetStream, cfg timeline.Config, then func(*timeline.Index) error) (took time.Duration, err error) {
	began := time.Now()
	x, err := timeline.New(cfg, timeline.Deps{JetStream: js, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- x.Run(ctx) }()
	defer func() {
		cancel()
		if stopped := <-ended; err == nil {
			err = stopped
		}
	}()
	for behind := true; behind; {
		all, err := x.Coverage(ctx)
		if err != nil {
			return 0, err
		}
		behind = slices.ContainsFunc(all, timeline.Coverage.Behind)
	}
	took = time.Since(began).Round(10 * time.Millisecond)
	return took, then(x)
}

// ask asks for timelines of ids by chance, and returns how long that took.
func ask(ctx context.Context, x *timeline.Index, by timeline.By, prefix string, of int) (string, error) {
	r := rand.New(rand.NewPCG(1, uint64(of)))
	times := make([]time.Duration, questions)
	for i := range times {
		id := fmt.Sprint(prefix, r.IntN(of))
		began := time.Now()
		t, err := x.Trace(ctx, timeline.Query{ID: id, By: by})
		if err != nil {
			return "", err
		}
		want := 1
		if by == timeline.ByRecord {
			want = versions
		}
		if times[i] = time.Since(began); len(t.Events) != want || t.Behind() {
			return "", fmt.Errorf("timeline of %s: %d events, want %d", id, len(t.Events), want)
		}
	}
	slices.Sort(times)
	at := func(percent int) time.Duration { return times[(questions-1)*percent/100].Round(100 * time.Microsecond) }
	return fmt.Sprintf("%s/%s/%s", at(50), at(99), at(100)), nil
}
