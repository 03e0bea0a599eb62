package run

import (
	"context"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/topology"
)

// keepUpEvery is how long a ledger may be left without events that are stored.
// That is far less than they are kept.
const keepUpEvery = time.Hour

// ready reads what records are compared with, which may be much, once there are
// some: most windows have none.
func (c *comparison) ready(ctx context.Context, w *cursor.Window) error {
	switch {
	case c.book != nil || c.stored != nil:
		return nil
	case c.cfg.Source != nil:
		var err error
		c.stored, err = c.readStored(ctx)
		return err
	}
	caughtUp, err := c.awaitEnriched(ctx)
	if err != nil {
		return err
	}
	w.Behind = w.Behind || !caughtUp
	if err := c.openLedger(ctx); err != nil {
		return err
	}
	c.behind, err = c.awaitDelivered(ctx)
	return err
}

// openLedger opens the ledger and has it catch up. A scan, which has another lease
// than whoever writes the ledger, only reads that.
func (c *comparison) openLedger(ctx context.Context) error {
	open, k, began := ledger.Open, c.cfg.Key, c.deps.Now()
	if c.scans() {
		open = ledger.OpenView
	}
	l, err := open(ctx, c.deps.JetStream, k.Source, k.Account, k.Resource)
	if err != nil {
		return err
	}
	if _, err := l.CatchUp(ctx); err != nil {
		return err
	}
	c.book, c.held, c.caughtUpAt = l, l.All(), began
	return nil
}

// keepUp has the ledger catch up although there was nothing to compare, if it has
// been without new events for long: one that is only read when it is needed would
// miss those that the stream doesn't keep until then.
func (c *comparison) keepUp(ctx context.Context) error {
	last, now := c.entry.LedgerAt, c.deps.Now()
	if c.book != nil || c.cfg.Source != nil || c.opts.DryRun || now.Sub(last) < keepUpEvery {
		return nil
	}
	m, found, err := c.lastOf(ctx, topology.StreamEnriched, event.PrefixEnriched)
	switch {
	case err != nil:
		return err
	case found && m.Time.After(last.Add(-skew)):
		return c.openLedger(ctx)
	}
	c.caughtUpAt = now
	return nil
}
