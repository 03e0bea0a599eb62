package console_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
)

// clients of the API, as the operator over gRPC.
type clients struct {
	events   adminv1connect.EventServiceClient
	letters  adminv1connect.DeadLetterServiceClient
	runs     adminv1connect.ReconciliationServiceClient
	sources  adminv1connect.SourceServiceClient
	pipeline adminv1connect.PipelineServiceClient

	backfills    adminv1connect.BackfillServiceClient
	destinations adminv1connect.DestinationServiceClient
}

// pipe is a console over an enricher and two destinations, which are stage loops
// as in the services and fail when they are told to.
type pipe struct {
	*fixture
	clients
	sick sync.Map // stages and destinations that fail for good
}

func setupPipe(f *fixture) *pipe {
	f.Helper()
	p := &pipe{fixture: f}
	options := adminClientOptions(operatorToken)
	client := h2c(f)
	p.clients = clients{
		adminv1connect.NewEventServiceClient(client, f.url, options...), adminv1connect.NewDeadLetterServiceClient(client, f.url, options...),
		adminv1connect.NewReconciliationServiceClient(client, f.url, options...), adminv1connect.NewSourceServiceClient(client, f.url, options...),
		adminv1connect.NewPipelineServiceClient(client, f.url, options...), adminv1connect.NewBackfillServiceClient(client, f.url, options...),
		adminv1connect.NewDestinationServiceClient(client, f.url, options...),
	}
	cfg := consume.DefaultConfig()
	cfg.MaxAttempts, cfg.RetryMin, cfg.RetryMax = 2, time.Millisecond, time.Millisecond
	p.stage(cfg, topology.StreamRaw, topology.EnrichConsumer("orders", cfg.Delivery()), p.enrich)
	for name, subject := range map[string]string{"warehouse": "tercel.enriched.>", "archive": "tercel.enriched.orders.>"} {
		p.stage(cfg, topology.StreamEnriched, topology.DeliverConsumer(name, []string{subject}, cfg.Delivery()), func(_ context.Context, m consume.Message) error {
			if why, sick := p.sick.Load(name); sick {
				return fault.Permanent(fmt.Errorf("%s: %s", m.Header.Get(event.HeaderID), why))
			}
			return nil
		})
	}
	return p
}

func (p *pipe) stage(cfg consume.Config, stream string, c jetstream.ConsumerConfig, do func(context.Context, consume.Message) error) {
	p.Helper()
	loop, err := consume.New(cfg, stream, c, consume.Each(do), consume.Deps{
		JetStream: p.js, Log: slog.New(slog.DiscardHandler), Keep: deadletter.Keep(p.js, c.Durable),
	})
	if err != nil {
		p.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = loop.Run(ctx) })
	p.Cleanup(func() { stop(); running.Wait() })
}

// enrich makes the event of a trigger: its body is the record.
func (p *pipe) enrich(ctx context.Context, m consume.Message) error {
	e, err := event.FromHeader(m.Header)
	if err != nil {
		return fault.Permanent(err)
	}
	if why, sick := p.sick.Load("enrich"); sick {
		return fault.Permanent(fmt.Errorf("get %s: %s", e.ID, why))
	}
	e.Resource, e.RecordID, e.Version, e.ObservedAt = "order", strings.TrimPrefix(e.ID, "evt-"), "1", time.Now()
	if e.TriggerSequence == 0 {
		e.TriggerSequence = m.Sequence
	}
	out := nats.NewMsg(e.EnrichedSubject())
	out.Header = e.Header()
	out.Header.Set(jetstream.MsgIDHeader, m.Header.Get(jetstream.MsgIDHeader))
	out.Data = fmt.Appendf(nil, `{"trigger":%s,"record":%s}`, m.Data, m.Data)
	_, err = p.js.PublishMsg(ctx, out)
	return err
}

// trigger is a webhook of orders.
func trigger(id, typ string) event.Event {
	return event.Event{
		ID: id, DeliveryID: "delivery-" + id, Source: "orders", Account: event.NoAccount, Type: typ, Origin: event.Webhook,
		ContentType: "application/json", ReceivedAt: time.Now(),
	}
}

// message is a trigger as the ingress publishes it.
func message(e event.Event, body string) *nats.Msg {
	m := nats.NewMsg(e.RawSubject())
	m.Header = e.Header()
	m.Header.Set(event.HeaderTraceParent, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	m.Header.Set(jetstream.MsgIDHeader, e.MsgID())
	m.Data = []byte(body)
	return m
}

// store stores a trigger and returns its sequence.
func (f *fixture) store(e event.Event, body string) uint64 {
	f.Helper()
	ack, err := f.js.PublishMsg(f.Context(), message(e, body))
	if err != nil {
		f.Fatal(err)
	}
	return ack.Sequence
}

// messages is how many a stream holds.
func (f *fixture) messages(stream string) uint64 {
	f.Helper()
	s, err := f.js.Stream(f.Context(), stream)
	if err != nil {
		f.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// audit is what operators did, the newest first.
func (p *pipe) audit() []*adminv1.AuditRecord {
	p.Helper()
	resp, err := p.pipeline.ListAuditRecords(p.Context(), connect.NewRequest(&adminv1.ListAuditRecordsRequest{}))
	if err != nil {
		p.Fatal(err)
	}
	return resp.Msg.GetRecords()
}

// clock is one that a test moves.
type clock struct{ ahead atomic.Int64 }

func newClock() *clock { return &clock{} }

func (c *clock) read() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) add(d time.Duration) { c.ahead.Add(int64(d)) }
