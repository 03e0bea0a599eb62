package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// bareEnricher is a yardstick of the enricher.
type bareEnricher struct {
	part

	js       jetstream.JetStream
	consumer jetstream.Consumer
}

// fetchMany is how many messages the yardsticks ask for.
const fetchMany = 256

// enrichBare runs one of the loops until ctx ends.
func enrichBare(ctx context.Context, p part, loop func(*bareEnricher, context.Context) error) error {
	b := &bareEnricher{part: p}
	nc, err := nats.Connect(b.NATS)
	if err != nil {
		return err
	}
	defer nc.Close()
	if b.js, err = jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096)); err != nil {
		return err
	}
	if b.consumer, err = b.js.Consumer(ctx, topology.StreamRaw, topology.EnrichDurable(b.Source)); err != nil {
		return err
	}
	l, err := net.Listen("tcp", b.Listen)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	return loop(b, ctx)
}

// enriched is a message of TERCEL_ENRICHED made of a trigger. The server keeps of
// a message that it was in a batch, which this one isn't.
func enriched(m jetstream.Msg, data []byte) *nats.Msg {
	header := maps.Clone(m.Headers())
	maps.DeleteFunc(header, func(name string, _ []string) bool { return strings.HasPrefix(name, "Nats-Batch-") })
	return &nats.Msg{Subject: "tercel.enriched" + strings.TrimPrefix(m.Subject(), "tercel.raw"), Header: header, Data: data}
}

// fetch passes triggers on, 256 at a time.
func (b *bareEnricher) fetch(ctx context.Context) error {
	for ctx.Err() == nil {
		batch, err := b.consumer.Fetch(fetchMany, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return err
		}
		var msgs []jetstream.Msg
		var acks []jetstream.PubAckFuture
		for m := range batch.Messages() {
			f, err := b.js.PublishMsgAsync(enriched(m, m.Data()))
			if err != nil {
				return err
			}
			msgs, acks = append(msgs, m), append(acks, f)
		}
		for i, f := range acks {
			if err := settle(msgs[i], f); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle acknowledges a trigger once its event is stored.
func settle(m jetstream.Msg, f jetstream.PubAckFuture) error {
	select {
	case <-f.Ok():
		return m.Ack()
	case err := <-f.Err():
		return err
	}
}

// pipe passes triggers on without ever waiting for a whole batch.
func (b *bareEnricher) pipe(ctx context.Context) error {
	type sent struct {
		jetstream.Msg
		jetstream.PubAckFuture
	}
	flying := make(chan sent, 4096)
	c, err := b.consumer.Consume(func(m jetstream.Msg) {
		if f, err := b.js.PublishMsgAsync(enriched(m, m.Data()), jetstream.WithStallWait(time.Minute)); err == nil {
			flying <- sent{m, f}
		}
	}, jetstream.PullMaxMessages(2*fetchMany), jetstream.PullExpiry(time.Second))
	if err != nil {
		return err
	}
	defer c.Stop()
	for {
		select {
		case s := <-flying:
			if err := settle(s.Msg, s.PubAckFuture); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// get has workers get a record each, put it beside the trigger, publish and
// acknowledge.
func (b *bareEnricher) get(ctx context.Context) error {
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one unless somebody has replaced it
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = b.Workers, b.Workers
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	feed, failed := make(chan jetstream.Msg, fetchMany), make(chan error, b.Workers)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(feed)
	for range b.Workers {
		workers.Go(func() {
			for m := range feed {
				if err := b.getOne(ctx, client, m); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	for ctx.Err() == nil {
		batch, err := b.consumer.Fetch(fetchMany, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return err
		}
		for m := range batch.Messages() {
			select {
			case feed <- m:
			case err := <-failed:
				return err
			}
		}
	}
	return nil
}

func (b *bareEnricher) getOne(ctx context.Context, client *http.Client, m jetstream.Msg) error {
	var trigger struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(m.Data(), &trigger); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.API+"/orders/"+trigger.ID, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	record, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !json.Valid(record) {
		return fmt.Errorf("record %s: status %d", trigger.ID, resp.StatusCode)
	}
	data := make([]byte, 0, len(m.Data())+len(record)+32)
	data = append(append(append(append(append(data, `{"trigger":`...), m.Data()...), `,"record":`...), record...), '}')
	f, err := b.js.PublishMsgAsync(enriched(m, data))
	if err != nil {
		return err
	}
	return settle(m, f)
}
