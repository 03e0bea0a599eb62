package ledger

import (
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// busy is a server at which a writer is at work: once the state of a stream was asked
// for, and before each consumer of it begins.
type busy struct {
	jetstream.JetStream
	name        string
	asked, read func()
}

func (b busy) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := b.JetStream.Stream(ctx, name)
	if err != nil || name != b.name {
		return s, err
	}
	b.asked()
	return busyStream{s, b.read}, nil
}

type busyStream struct {
	jetstream.Stream
	read func()
}

func (s busyStream) OrderedConsumer(ctx context.Context, cfg jetstream.OrderedConsumerConfig) (jetstream.Consumer, error) {
	s.read()
	return s.Stream.OrderedConsumer(ctx, cfg)
}

// seen publishes an enriched event of a record.
func seen(t *testing.T, js jetstream.JetStream, id string) {
	t.Helper()
	e := event.Event{
		ID: id, Source: "orders", Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook,
		Resource: "order", RecordID: id, Version: version(0),
	}
	m := nats.NewMsg(e.EnrichedSubject())
	m.Header = e.Header()
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// A view misses nothing that the ledger knows, whenever a writer stores more or
// compacts while it reads: not even what the stream itself no longer has.
func TestViewReadsOnWhileTheLedgerIsWritten(t *testing.T) {
	t.Parallel()
	catchUp := func(t *testing.T, js jetstream.JetStream) {
		t.Helper()
		l, err := Open(t.Context(), js, "orders", event.NoAccount, "order")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	works := map[string]struct {
		prepare func(*testing.T, jetstream.JetStream)
		// write is done n times.
		write func(t *testing.T, js jetstream.JetStream, n int)
		id    string
		round int
	}{
		"stores more": {
			prepare: func(t *testing.T, js jetstream.JetStream) {
				if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
					t.Fatal(err)
				}
				seen(t, js, "a")
				catchUp(t, js)
				stream, err := js.Stream(t.Context(), topology.StreamEnriched)
				if err != nil {
					t.Fatal(err)
				}
				if err := stream.Purge(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
			write: func(t *testing.T, js jetstream.JetStream, n int) {
				seen(t, js, fmt.Sprint("b", n))
				catchUp(t, js)
			},
			id: "a",
		},
		"compacts": {
			prepare: func(t *testing.T, js jetstream.JetStream) { superseded(t, js) },
			write:   func(t *testing.T, js jetstream.JetStream, _ int) { catchUp(t, js) },
			id:      "id7", round: rounds - 1,
		},
	}
	for name, w := range works {
		for moment, stream := range map[string]string{
			"when it has asked how far the stream is":        topology.StreamEnriched,
			"when it has asked how far the bucket is":        streamLedger,
			"when it knows where the bucket ends, and reads": streamLedger,
		} {
			t.Run(name+" "+moment, func(t *testing.T) {
				t.Parallel()
				js, n := natstest.Run(t), 0
				w.prepare(t, js)
				work := func() {
					if n++; n <= 3 {
						w.write(t, js, n)
					}
				}
				b := busy{js, stream, work, func() {}}
				if moment == "when it knows where the bucket ends, and reads" {
					b.asked, b.read = func() {}, work
				}
				view, err := OpenView(t.Context(), b, "orders", event.NoAccount, "order")
				if err != nil {
					t.Fatal(err)
				}
				if n == 0 {
					t.Fatal("nobody has written")
				}
				if _, err := view.CatchUp(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := view.Lookup(w.id, version(w.round)); got != Matched {
					t.Errorf("the view of %d records says %s, want matched", view.Len(), got)
				}
			})
		}
	}
}
