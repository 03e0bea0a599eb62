package enricher

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/provider"
)

// Explanation is what a [Service] would do with a trigger.
type Explanation struct {
	// Dropped says that the source's drop leaves the trigger out.
	Dropped bool
	// Events are the messages that it would publish to TERCEL_ENRICHED, in the
	// order of their Nats-Msg-Id.
	Events []*nats.Msg
}

// Explain tells what a [Service] whose source of that name is src would do with
// the message of a trigger if its API answered as api does. Nothing is stored.
// A record that is older than its trigger says is taken as it is. The error is
// that of the trigger; there may be events of its other records beside it.
func Explain(ctx context.Context, name string, src provider.Source, trigger *nats.Msg, api Caller) (Explanation, error) {
	var mu sync.Mutex // guards ex
	var ex Explanation
	s := &source{
		name: name, cfg: src, api: api, dropped: noop.Int64Counter{},
		store: func(_ context.Context, msg *nats.Msg) error {
			mu.Lock()
			defer mu.Unlock()
			ex.Events = append(ex.Events, msg)
			return nil
		},
		note: func(context.Context, *nats.Msg) error { ex.Dropped = true; return nil },
	}
	t, err := s.read(consume.Message{Subject: trigger.Subject, Header: trigger.Header, Data: trigger.Data, Attempt: 1})
	if err == nil {
		err = s.work(ctx, t)
	}
	slices.SortFunc(ex.Events, func(a, b *nats.Msg) int {
		return cmp.Compare(a.Header.Get(jetstream.MsgIDHeader), b.Header.Get(jetstream.MsgIDHeader))
	})
	return ex, err
}
