package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/mapping"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/report"
)

// maxPublishing bounds the repairs of one page that are on their way at once.
const maxPublishing = 64

// gap is a record that the pipeline lacks, or a destination.
type gap struct {
	record
	destination string // "" for the pipeline
	named       int    // its place among the records that the report names, or -1
}

// gap has a record sent again, and names it in the report.
func (c *comparison) gap(rec record, verdict ledger.Verdict, destination string, f *found, next *cursor.Window) {
	named := report.Record{
		ID: rec.id, Version: string(rec.version), Verdict: string(verdict), Destination: destination,
		FirstSeen: f.at, ChangedAt: rec.changed,
	}
	g := gap{rec, destination, -1}
	if note(next, named) {
		g.named = len(next.Records) - 1
	}
	f.gaps = append(f.gaps, g)
	if destination == "" {
		f.open = append(f.open, named)
	}
}

// repair stores gaps in TERCEL_RAW and returns once all of them are
// acknowledged. Within a run, a record that is sent again has no effect. One that is
// too large for that holds up no other: it is left, and the window not complete.
func (c *comparison) repair(ctx context.Context, f *found, next *cursor.Window) error {
	tooLarge, err := c.send(ctx, len(f.gaps), func(i int) (string, *nats.Msg) {
		return f.gaps[i].id, c.trigger(ctx, f.gaps[i].record, f.at)
	})
	if err != nil {
		return err
	}
	for i, g := range f.gaps {
		if tooLarge[i] {
			next.Counts.Unreadable++
			f.tally[report.Unreadable]++
			continue
		}
		next.Counts.Repaired++
		if g.named >= 0 {
			next.Records[g.named].Repaired = true
		}
		if g.destination != "" {
			d := next.Destinations[g.destination]
			d.Repaired++
			next.Destinations[g.destination] = d
		}
	}
	return nil
}

// send stores n triggers, of the record with the id that trigger returns for each, and
// returns which of them are larger than the server takes: those it leaves.
func (c *comparison) send(ctx context.Context, n int, trigger func(i int) (id string, m *nats.Msg)) (tooLarge []bool, err error) {
	tooLarge = make([]bool, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxPublishing)
	for i := range n {
		if err := c.deps.Repairs.Wait(ctx); err != nil {
			return nil, errors.Join(g.Wait(), err)
		}
		g.Go(func() error {
			id, m := trigger(i)
			c.redactStored(m)
			_, err := c.deps.Publisher.Publish(ctx, m)
			if tooLarge[i] = publish.TooLarge(err); tooLarge[i] {
				return nil
			}
			if err != nil {
				return fmt.Errorf("send %s again: %w", id, err)
			}
			return nil
		})
	}
	return tooLarge, g.Wait()
}

// dropped reports whether the enricher would drop a record that is sent again.
// One that can't be told is sent: it becomes a dead letter there, which says why.
func (c *comparison) dropped(ctx context.Context, rec record, observedAt time.Time) bool {
	if c.cfg.Drop.IsZero() {
		return false
	}
	dropped, err := c.cfg.Drop.Bool(ctx, &mapping.Document{Event: c.event(rec, observedAt), Record: rec.body})
	return dropped && err == nil
}

func reconciledID(resource string, rec record) string {
	return "reconcile:" + resource + ":" + rec.id + ":" + rec.version.Mark()
}

// event are the attributes of a record that is sent again.
func (c *comparison) event(rec record, observedAt time.Time) event.Event {
	k := c.cfg.Key
	e := event.Event{
		ID:     reconciledID(k.Resource, rec),
		Source: k.Source, Account: k.Account, Type: k.Resource + ".reconciled", Origin: event.Reconcile,
		ContentType: "application/json", Time: rec.changed, ReceivedAt: c.deps.Now(),
		Resource: k.Resource, RecordID: rec.id, Version: rec.version, ObservedAt: observedAt,
	}
	if c.w.From.IsZero() && !c.scans() || c.opts.Trigger == report.Backfill {
		e.Origin = event.Backfill
	}
	return e
}

// redactStored leaves out of a trigger what its source doesn't want to be stored.
func (c *comparison) redactStored(m *nats.Msg) {
	root := "body"
	if m.Header.Get(event.HeaderResource) != "" {
		root = "record"
	}
	m.Data, _ = c.cfg.Redact.Store(root, m.Data)
}

// trigger carries the record, so that nobody has to get it again.
func (c *comparison) trigger(ctx context.Context, rec record, observedAt time.Time) *nats.Msg {
	e := c.event(rec, observedAt)
	m := nats.NewMsg(e.RawSubject())
	m.Header = e.Header()
	m.Header.Set(jetstream.MsgIDHeader, e.MsgID()+":"+c.id)
	event.BeginTrace(ctx, "repair", m.Header)
	m.Data = rec.body
	return m
}
