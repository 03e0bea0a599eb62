package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

// timelines measures how long it takes to find what became of an event among ever
// more that are stored, what the index of them costs, and how long it isn't
// complete after its first start and after another.
type timelines struct{}

// Every event has a trigger and an enriched event of its own, and every record so
// many events.
const versions = 5

// questions is how many timelines are asked for by each kind of id.
const questions = 300

func (b timelines) run(ctx context.Context, l *lab) error {
	for _, n := range []int{10_000, l.size(1_000_000, 20_000)} {
		if err := l.with(ctx, relaxed, func(s *stand) error { return b.measure(ctx, s, n) }); err != nil {
			return err
		}
	}
	return nil
}

func (b timelines) measure(ctx context.Context, s *stand, n int) error {
	if err := b.fill(ctx, s, n); err != nil {
		return err
	}
	cfg := timeline.Config{Dir: filepath.Join(s.dir, "index")}
	first, err := indexed(ctx, s.js, cfg, func(*timeline.Index) error { return nil })
	if err != nil {
		return err
	}
	_, err = indexed(ctx, s.js, cfg, func(x *timeline.Index) error {
		memory, disk := x.Size()
		cost := figures{Rate: float64(n) / first.Seconds(), Peak: mib(memory), Disk: float64(disk) / float64(n)}
		for _, by := range []struct {
			name   string
			kind   timeline.By
			prefix string
			of     int
		}{{"event", timeline.ByEvent, "evt-", n}, {"delivery", timeline.ByDelivery, "delivery-", n}, {"record", timeline.ByRecord, "order-", n / versions}} {
			_, err := s.measure(ctx, fmt.Sprintf("%d events, a timeline by %s", n, by.name), 1, subject{"timeline index", func(ctx context.Context) (figures, error) {
				times, err := ask(ctx, x, by.kind, by.prefix, by.of)
				f := cost
				f.latencies(times)
				return f, err
			}})
			if err != nil {
				return err
			}
			cost = figures{}
		}
		return nil
	})
	return err
}

// fill stores the messages of n events.
func (timelines) fill(ctx context.Context, s *stand, n int) error {
	trigger := func(i int) event.Event {
		at := time.Unix(1760000000+int64(i), 0)
		return event.Event{
			ID: fmt.Sprint("evt-", i), DeliveryID: fmt.Sprint("delivery-", i), Source: "orders", Account: event.NoAccount,
			Type: "order.paid", Origin: event.Webhook, Time: at, ReceivedAt: at, ContentType: "application/json",
		}
	}
	filler := strings.Repeat("x", 256)
	// No ids for the server to keep: they would be what takes the time.
	err := s.fill(ctx, n, func(i int) *nats.Msg {
		e := trigger(i)
		m := nats.NewMsg(e.RawSubject())
		m.Header, m.Data = e.Header(), fmt.Appendf(nil, `{"id":%q,"filler":%q}`, e.ID, filler)
		return m
	})
	if err != nil {
		return err
	}
	return s.fill(ctx, n, func(i int) *nats.Msg {
		e := trigger(i)
		e.Resource, e.RecordID, e.Version = "order", fmt.Sprint("order-", i%(n/versions)), event.TimeVersion(e.Time)
		e.ObservedAt, e.TriggerSequence = e.Time, uint64(i)+1
		m := nats.NewMsg(e.EnrichedSubject())
		m.Header = e.Header()
		m.Data = event.Body{Trigger: []byte(`{"id":"` + e.ID + `"}`), Record: fmt.Appendf(nil, `{"filler":%q}`, filler)}.Encode()
		return m
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
func ask(ctx context.Context, x *timeline.Index, by timeline.By, prefix string, of int) ([]time.Duration, error) {
	r := rand.New(rand.NewPCG(1, uint64(of)))
	times := make([]time.Duration, questions)
	for i := range times {
		id := fmt.Sprint(prefix, r.IntN(of))
		began := time.Now()
		t, err := x.Trace(ctx, timeline.Query{ID: id, By: by})
		if err != nil {
			return nil, err
		}
		want := 1
		if by == timeline.ByRecord {
			want = versions
		}
		if times[i] = time.Since(began); len(t.Events) != want || t.Behind() {
			return nil, fmt.Errorf("timeline of %s: %d events, want %d", id, len(t.Events), want)
		}
	}
	return times, nil
}
