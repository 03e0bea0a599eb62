package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/mapping"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/report"
)

// maxPublishing bounds the repairs of one page that are on their way at once.
const maxPublishing = 64

// record is one listed record.
type record struct {
	body    []byte
	id      string
	version event.Version
	changed time.Time // zero if the record doesn't say
}

// comparison compares the pages of one run with the ledger.
type comparison struct {
	*Run
	book *ledger.Ledger
	// last and this are the records of the last page and of the one in hand: a
	// list that moves while it is read shows some of them on both.
	last, this map[string]struct{}
	// full is the most records that a page had.
	full int
}

// page compares one page, has its gaps stored, and moves the window's position
// behind it.
func (c *comparison) page(ctx context.Context, p page) error {
	c.last, c.this = c.this, make(map[string]struct{}, len(p.records))
	next := c.w
	next.Position, next.Pages, next.Done = p.next, next.Pages+1, p.next == ""
	next.Records = next.Records[:len(next.Records):len(next.Records)]
	next.Tail, c.full = nil, max(c.full, len(p.records))
	var gaps []record
	fresh := 0
	tally := map[ledger.Verdict]int64{}
	for i, body := range p.records {
		rec, err := c.read(body, p.requestedAt)
		if err != nil {
			return fault.Permanent(fmt.Errorf("record %d: %w", i+1, err))
		}
		if c.list.Next.Offset != "" && len(p.records)-i <= maxTail && overlap(len(p.records)) > 0 {
			next.Tail = append(next.Tail, rec.mark())
		}
		if slices.Contains(c.w.Tail, rec.mark()) {
			continue // compared with the last page
		}
		fresh++
		if c.older(rec) {
			next.Done = true
			break
		}
		next.Counts.Listed++
		if c.young(rec) {
			next.Counts.SkippedYoung++
			if c.list.Order == provider.Ascending {
				next.Done = true // all that follow are younger
				break
			}
			continue
		}
		if c.repeated(rec) {
			next.Counts.Duplicates++
			continue
		}
		verdict := c.book.Lookup(rec.id, rec.version)
		if (verdict == ledger.Missed || verdict == ledger.Stale) && c.dropped(ctx, rec, p.requestedAt) {
			next.Counts.Dropped++
			continue
		}
		tally[verdict]++
		if verdict == ledger.Missed || verdict == ledger.Stale {
			gaps = append(gaps, rec)
			if len(next.Records) < report.MaxRecords {
				next.Records = append(next.Records, report.Record{ID: rec.id, Version: string(rec.version), Verdict: string(verdict)})
			}
		}
	}
	if c.list.Next.Offset != "" && fresh == 0 && len(p.records) < c.full {
		next.Done = true // nothing follows what was there already
	}
	next.Counts.Matched += int(tally[ledger.Matched])
	next.Counts.Missed += int(tally[ledger.Missed])
	next.Counts.Stale += int(tally[ledger.Stale])
	next.Counts.Ahead += int(tally[ledger.Ahead])
	if !c.opts.DryRun {
		if err := c.repair(ctx, gaps, p.requestedAt); err != nil {
			return err
		}
		next.Counts.Repaired += len(gaps)
	}
	c.deps.Metrics.comparedAll(c.cfg.Key, tally)
	c.w = next
	return nil
}

func (c *comparison) read(body []byte, at time.Time) (record, error) {
	rec := record{body: body}
	var err error
	if rec.id, err = c.cfg.Resource.RecordID.In(body); err != nil {
		return record{}, err
	}
	if rec.version, err = c.cfg.Resource.VersionOf(provider.Sight{Record: body, At: at}); err != nil {
		return record{}, fmt.Errorf("%s: %w", rec.id, err)
	}
	if c.list.Time.IsZero() {
		rec.changed, _ = rec.version.Time()
		return rec, nil
	}
	text, err := c.list.Time.In(body)
	if errors.Is(err, field.ErrMissing) {
		return rec, nil
	}
	if err == nil {
		rec.changed, err = parseTime(text)
	}
	if err != nil {
		return record{}, fmt.Errorf("%s: time: %w", rec.id, err)
	}
	return rec, nil
}

// parseTime reads RFC 3339, or a Unix time in seconds or, from 1e11 on, which
// is the year 5138 in seconds, in milliseconds.
func parseTime(text string) (time.Time, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n >= 1e11 {
			return time.UnixMilli(n), nil
		}
		return time.Unix(n, 0), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, errors.New("want RFC 3339 or a Unix time")
	}
	return t, nil
}

// young reports whether a record changed after the window's end: its webhook
// may still be on the way, and the next window has it.
func (c *comparison) young(rec record) bool { return rec.changed.After(c.w.To) }

// older reports whether a list that began with the youngest has come to what
// lies before the window.
func (c *comparison) older(rec record) bool {
	return c.list.Order == provider.Descending && !rec.changed.IsZero() && rec.changed.Before(c.w.From)
}

func (c *comparison) repeated(rec record) bool {
	key := rec.id + "\x00" + rec.version.Mark()
	_, onLast := c.last[key]
	_, onThis := c.this[key]
	c.this[key] = struct{}{}
	return onLast || onThis
}

// repair stores gaps in TERCEL_RAW and returns once all of them are
// acknowledged. Within a run, a record that is sent again has no effect.
func (c *comparison) repair(ctx context.Context, gaps []record, observedAt time.Time) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxPublishing)
	for _, rec := range gaps {
		if err := c.deps.Repairs.Wait(ctx); err != nil {
			return errors.Join(g.Wait(), err)
		}
		g.Go(func() error {
			_, err := c.deps.Publisher.Publish(ctx, c.trigger(ctx, rec, observedAt))
			if errors.Is(err, nats.ErrMaxPayload) {
				return fault.Permanent(fmt.Errorf("send %s again: its %d bytes are more than the server's max_payload", rec.id, len(rec.body)))
			}
			if err != nil {
				return fmt.Errorf("send %s again: %w", rec.id, err)
			}
			return nil
		})
	}
	return g.Wait()
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

// event are the attributes of a record that is sent again.
func (c *comparison) event(rec record, observedAt time.Time) event.Event {
	k := c.cfg.Key
	e := event.Event{
		ID:     "reconcile:" + k.Resource + ":" + rec.id + ":" + rec.version.Mark(),
		Source: k.Source, Account: k.Account, Type: k.Resource + ".reconciled", Origin: event.Reconcile,
		ContentType: "application/json", Time: rec.changed, ReceivedAt: c.deps.Now(),
		Resource: k.Resource, RecordID: rec.id, Version: rec.version, ObservedAt: observedAt,
	}
	if c.w.From.IsZero() {
		e.Origin = event.Backfill
	}
	return e
}

// trigger carries the record, so that nobody has to get it again.
func (c *comparison) trigger(ctx context.Context, rec record, observedAt time.Time) *nats.Msg {
	e := c.event(rec, observedAt)
	m := nats.NewMsg(e.RawSubject())
	m.Header = e.Header()
	m.Header.Set(jetstream.MsgIDHeader, e.MsgID()+":"+c.id)
	event.InjectTrace(ctx, m.Header)
	m.Data = rec.body
	return m
}
