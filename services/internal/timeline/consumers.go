package timeline

import (
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/topology"
)

// stages is where every stage is: what its consumer has handed out and what was
// acknowledged.
type stages struct {
	consumers map[string]*jetstream.ConsumerInfo // by durable name
	givenUp   map[place]bool                     // without a dead letter yet
}

func (x *Index) stages(ctx context.Context) (stages, error) {
	s := stages{consumers: map[string]*jetstream.ConsumerInfo{}, givenUp: map[place]bool{}}
	for _, name := range []string{topology.StreamRaw, topology.StreamEnriched, topology.StreamAdvisories} {
		stream, err := x.handle(ctx, name)
		if err != nil {
			return s, err
		}
		list := stream.ListConsumers(ctx)
		for info := range list.Info() {
			s.consumers[info.Name] = info
		}
		if err := list.Err(); err != nil {
			return s, fmt.Errorf("consumers of %s: %w", name, err)
		}
	}
	return s, s.readGivenUp(ctx, x.deps.JetStream)
}

// readGivenUp reads the advisories that no dead letter has been made of yet:
// their messages are acknowledged, and nevertheless not done.
func (s *stages) readGivenUp(ctx context.Context, js jetstream.JetStream) error {
	from := uint64(1)
	if info := s.consumers[topology.CollectConsumer(topology.Delivery{}).Durable]; info != nil {
		from = info.AckFloor.Stream + 1
	}
	for m, err := range consume.Scan(ctx, js, consume.ScanOptions{Stream: topology.StreamAdvisories, FromSequence: from}) {
		if err != nil {
			return err
		}
		var a struct {
			Stream   string `json:"stream"`
			Consumer string `json:"consumer"`
			Sequence uint64 `json:"stream_seq"`
		}
		if json.Unmarshal(m.Data, &a) == nil { // what is no advisory is the collector's to tell
			s.givenUp[place{a.Stream, a.Consumer, a.Sequence}] = true
		}
	}
	return nil
}

// at tells where a message without a dead letter is at a consumer.
func (s *stages) at(p place) (kind Kind, text string) {
	info := s.consumers[p.consumer]
	switch {
	case s.givenUp[p]:
		return KindGivenUp, "given up; its dead letter is not collected yet, which is the reconciler's work"
	case info == nil:
		return KindWaiting, "nobody works on it: there is no consumer " + p.consumer
	case p.sequence <= info.AckFloor.Stream: // also where it was not sent, since the consumer takes more than it did
		if when := info.Config.Metadata[topology.MetadataWhen]; when != "" {
			return KindDelivered, "delivered, unless its subscribe left it out then, or its when does: " + when
		}
		return KindDelivered, "delivered, says its consumer's ack floor, unless its subscribe left it out then"
	case p.sequence > info.Delivered.Stream:
		return KindWaiting, fmt.Sprintf("waiting, as one of %d", info.NumPending) + paused(info)
	default:
		return KindWaiting, "in hand, or between two attempts, or done behind one that is" + paused(info)
	}
}

// longPause is more than any pause that ends by itself.
const longPause = 10 * 365 * 24 * time.Hour

// paused says until when a consumer gets nothing, if it is paused: the source's
// API has asked for it, or refuses the credentials, or an operator did it.
func paused(info *jetstream.ConsumerInfo) string {
	switch {
	case !info.Paused:
		return ""
	case info.PauseRemaining > longPause:
		return ", paused until it is resumed"
	}
	return ", paused until " + time.Now().Add(info.PauseRemaining).UTC().Format(time.RFC3339)
}
