package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/services/internal/pg"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// Write writes items in one transaction and returns one result for each, in
// their order. If the server refuses it for what may be one item's content, the
// batch is halved until those items are alone, so that their neighbours are
// written all the same. An error that the same item would meet again is
// permanent.
func (d *DB) Write(ctx context.Context, items []delivery.Item) []delivery.Result {
	results := make([]delivery.Result, len(items))
	_ = d.write(ctx, items, results) // the results say it
	for i, r := range results {
		if r.Err != nil {
			results[i].Err = fmt.Errorf("write to %s: %w", d.target, described(r.Err))
		}
		if r.Outage {
			results[i].Err = fault.Postpone(results[i].Err, 0)
		}
	}
	return results
}

// write fills results and returns an error that the rest of the batch would
// meet too.
func (d *DB) write(ctx context.Context, items []delivery.Item, results []delivery.Result) error {
	err := d.transaction(ctx, items, results)
	if err == nil {
		return nil
	}
	switch cause := causeOf(err); {
	case cause == outside:
		copy(results, delivery.Out(len(items), err))
		return err
	case len(items) == 1:
		results[0] = delivery.Result{Err: err}
		return nil
	}
	half := len(items) / 2
	if err := d.write(ctx, items[:half], results[:half]); err != nil {
		copy(results[half:], delivery.Out(len(items)-half, err))
		return err
	}
	return d.write(ctx, items[half:], results[half:])
}

// transaction writes items, all or none: what is sent in one piece outside of
// a transaction is one.
func (d *DB) transaction(ctx context.Context, items []delivery.Item, results []delivery.Result) error {
	if d.own != nil {
		return d.rows(ctx, items, results)
	}
	b := &pgx.Batch{}
	order := byEvent(items)
	for _, i := range order {
		queueEvent(b, items[i])
	}
	if d.records {
		for _, i := range byRecord(items) {
			queueRecord(b, items[i])
		}
	}
	return d.send(ctx, b, order, results)
}

// rows is transaction for a table of the user's own. Who finds a row that is as
// new has a duplicate.
func (d *DB) rows(ctx context.Context, items []delivery.Item, results []delivery.Result) error {
	order := byEvent(items)
	if d.records {
		order = byRecord(items)
	}
	b, queued := &pgx.Batch{}, make([]int, 0, len(items))
	for _, i := range order {
		results[i] = delivery.Result{}
		if d.own.queue(b, items[i]) {
			queued = append(queued, i)
		}
	}
	return d.send(ctx, b, queued, results)
}

// send runs a batch whose first statements are those of the items at the given
// places, and fills in their results.
func (d *DB) send(ctx context.Context, b *pgx.Batch, order []int, results []delivery.Result) error {
	sent := d.pool.SendBatch(ctx, b)
	for _, i := range order {
		done, err := sent.Exec()
		if err != nil {
			_ = sent.Close() // with the same error
			return err
		}
		results[i] = delivery.Result{Duplicate: done.RowsAffected() == 0}
	}
	// The transaction is committed when, and only when, this is no error.
	return sent.Close()
}

func byEvent(items []delivery.Item) []int {
	return lockOrder(items, func(a, b delivery.Item) int {
		return cmp.Or(cmp.Compare(a.Event.Source, b.Event.Source), cmp.Compare(a.Event.Account, b.Event.Account),
			cmp.Compare(a.Event.ID, b.Event.ID))
	})
}

func byRecord(items []delivery.Item) []int {
	return lockOrder(items, func(a, b delivery.Item) int {
		return cmp.Or(cmp.Compare(a.Event.Source, b.Event.Source), cmp.Compare(a.Event.Account, b.Event.Account),
			cmp.Compare(a.Event.Resource, b.Event.Resource), cmp.Compare(a.Event.RecordID, b.Event.RecordID))
	})
}

// lockOrder are the places of items in an order that is the same for everyone
// who writes the same rows, or two sinks could wait for each other. Equal ones
// keep their order.
func lockOrder(items []delivery.Item, compare func(a, b delivery.Item) int) []int {
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return compare(items[i], items[j]) })
	return order
}

func queueEvent(b *pgx.Batch, it delivery.Item) {
	e := it.Event
	b.Queue(insertEvent, pg.Text(e.Source), pg.Text(e.Account), pg.Text(e.ID), pg.Text(e.Type), orNull(e.Resource), orNull(e.RecordID),
		orNull(string(e.Version)), pg.Text(string(e.Origin)), e.Deleted, orNull(e.DeliveryID), moment(e.Time), moment(e.ReceivedAt),
		moment(e.ObservedAt), int64(it.Sequence), orNull(it.TraceID), document(it.Body))
}

// queueRecord adds the record's statement, for an event that is known too: sent
// again, it may carry a fresher one.
func queueRecord(b *pgx.Batch, it delivery.Item) {
	e := it.Event
	switch {
	case e.Resource == "":
	case e.Deleted:
		b.Queue(upsertTombstone, pg.Text(e.Source), pg.Text(e.Account), pg.Text(e.Resource), pg.Text(e.RecordID),
			moment(e.ObservedAt), nanos(e.ObservedAt), pg.Text(e.ID))
	default:
		b.Queue(upsertLive, pg.Text(e.Source), pg.Text(e.Account), pg.Text(e.Resource), pg.Text(e.RecordID), pg.Text(string(e.Version)),
			moment(e.ObservedAt), nanos(e.ObservedAt), document(it.Record), document(it.Related), pg.Text(e.ID))
	}
}
