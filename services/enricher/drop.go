package enricher

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/mapping"
	"github.com/tercelhq/tercel/pkg/metrics"
)

// drop tells whether nobody wants a trigger. That is its outcome, which is
// stored like any other before the trigger is acknowledged (promises 3 and 5):
// who looks for the trigger finds what became of it, and the audit doesn't take
// it for lost.
func (s *source) drop(ctx context.Context, t trigger) (dropped bool, err error) {
	// Of a tombstone there is nothing to look at, and what it deletes is held: it
	// was not dropped.
	if s.cfg.Drop.IsZero() || t.Resource != "" && t.Deleted {
		return false, nil
	}
	doc := &mapping.Document{Event: t.Event, Trigger: t.value}
	if t.Resource != "" {
		doc.Record = t.raw
	}
	if dropped, err = s.cfg.Drop.Bool(ctx, doc); err != nil || !dropped {
		return false, err
	}
	msg := nats.NewMsg(t.DroppedSubject())
	msg.Header = t.Header()
	// The stream knows the trigger's own id already.
	msg.Header.Set(jetstream.MsgIDHeader, t.msgID+":dropped")
	event.InjectTrace(ctx, msg.Header)
	if err := s.note(ctx, msg); err != nil {
		return false, fmt.Errorf("note that the trigger is dropped: %w", err)
	}
	s.dropped.Add(ctx, 1, metrics.TriggersDropped.With(s.name))
	return true, nil
}
