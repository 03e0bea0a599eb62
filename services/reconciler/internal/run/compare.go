package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/report"
)

// maxUnread is how many runs fail at a page of which no record can be read, which
// rather speaks of a wrong configuration, before it is passed over like single records
// that can't. Runs in between may end before they come to it.
const maxUnread = 3

// errUnread is in the error of such a run.
var errUnread = errors.New("nothing on the page can be read")

// record is one listed record.
type record struct {
	body    []byte
	id      string
	version event.Version
	changed time.Time // zero if the record doesn't say
	typ     string    // of a listed event that was missed
}

// book knows what was seen of records; a [ledger.Ledger] does.
type book interface {
	Lookup(id string, v event.Version) ledger.Verdict
	Outlasts(id string, v event.Version, after time.Time) bool
	Held(id string) (version uint64, held bool)
}

// comparison compares the pages of one run with the ledger and with
// destinations.
type comparison struct {
	*Run
	book   book
	held   iter.Seq2[uint64, time.Time] // all of it, see [ledger.Ledger.All]
	stored *stored                      // in place of book where events are listed
	waited time.Duration                // for webhooks that the source was asked for again
	// behind are the destinations that haven't taken all events yet.
	behind map[string]bool
	clock  time.Time // the source's, when the page in hand was asked for
	// last and this are the records of the last page and of the one in hand: a
	// list that moves while it is read shows some of them on both.
	last, this map[string]struct{}
	seen       []uint64  // the hashes of the page in hand, for a scan
	first      bool      // nothing was in front of the last page
	lost, same int       // see turn, recheck and stands
	borders    *borders  // to other windows beside this one; nil without any
	reached    time.Time // when the last listed record changed
	total      int       // records that the source says it lists, or 0
}

// found is what a page holds.
type found struct {
	at     time.Time // when it was asked for
	listed []record  // those of the window
	gaps   []gap
	open   []report.Record // gaps whose causes are to be looked for
	tally  map[ledger.Verdict]int64
	fresh  int  // records that were not on the last page
	ended  bool // what follows is outside of the window
}

// page compares one page, has its gaps stored, and moves the window's position
// behind it.
func (c *comparison) page(ctx context.Context, p page) error {
	c.last, c.this, c.clock = c.this, make(map[string]struct{}, len(p.Records)), p.requestedAt
	next := c.w
	next.Pages++
	next.Records = next.Records[:len(next.Records):len(next.Records)]
	next.Destinations = maps.Clone(next.Destinations)
	if c.scans() {
		s := *next.Scan
		next.Scan, c.seen = &s, c.seen[:0]
	}
	records, unread, err := c.readAll(p, &next)
	if err != nil {
		return err
	}
	f := c.sort(records, p.requestedAt, &next)
	switch {
	case c.cfg.Source != nil:
		err = c.events(ctx, &f, &next)
	case c.scans():
		err = c.listed.add(c.seen)
	default:
		err = c.records(ctx, &f, &next)
	}
	if err != nil {
		return err
	}
	if unread > 0 {
		f.tally[report.Unreadable] += int64(unread)
	}
	c.deps.Metrics.comparedAll(c.cfg.Key, f.tally)
	if err := c.advance(p, f, &next); err != nil {
		return err
	}
	c.first, c.total = p.ask.Front == 0, p.Total
	c.w = next
	c.explainLater(ctx, f.open)
	return nil
}

// records compares records with the ledger and with destinations, and sends those
// again that are missing.
func (c *comparison) records(ctx context.Context, f *found, next *cursor.Window) error {
	if len(f.listed) == 0 {
		return nil
	}
	if err := c.ready(ctx, next); err != nil {
		return err
	}
	c.withLedger(ctx, f, next)
	if err := c.withDestinations(ctx, f, next); err != nil || c.opts.DryRun {
		return err
	}
	return c.repair(ctx, f, next)
}

// readAll reads a page's records, and counts and names those that can't be.
func (c *comparison) readAll(p page, next *cursor.Window) ([]record, int, error) {
	records, unread := make([]record, 0, len(p.Records)), 0
	for i, body := range p.Records {
		rec, err := c.read(body, p.requestedAt)
		if c.scans() {
			c.see(rec, next)
		}
		if err == nil {
			records = append(records, rec)
			continue
		}
		if c.moves() && slices.Contains(c.w.Tail, rec.mark()) {
			continue // counted with the last page
		}
		if unread++; i == len(p.Records)-1 && len(records) == 0 && max(c.entry.Failures, c.w.Unread) < maxUnread {
			return nil, 0, fault.Permanent(fmt.Errorf("%w; record %d: %w", errUnread, i+1, err))
		}
		id := rec.id
		if id == "" || len(id) > maxShownID {
			id = fmt.Sprintf("(page %d, record %d)", next.Pages, i+1)
		}
		note(next, report.Record{ID: id, Verdict: report.Unreadable, FirstSeen: p.requestedAt})
	}
	next.Counts.Listed += unread
	next.Counts.Unreadable += unread
	return records, unread, nil
}

// maxShownID bounds the id of an unreadable record in a report, in bytes.
const maxShownID = 256

// sort finds the records of a page that are to be compared, and counts the
// others.
func (c *comparison) sort(records []record, at time.Time, next *cursor.Window) found {
	f := found{at: at, tally: map[ledger.Verdict]int64{}}
	youngs := 0
	for _, rec := range records {
		overlapped := c.moves() && (slices.Contains(c.w.Tail, rec.mark()) || c.onLast(rec))
		twice := c.repeated(rec)
		if overlapped {
			continue // compared with the last page
		}
		f.fresh++
		if c.older(rec) {
			f.ended = true
			break
		}
		young := c.young(rec)
		if young {
			youngs++
		}
		if c.borders.elsewhere(c, rec, next) {
			continue
		}
		next.Counts.Listed++
		c.reached = rec.changed
		if young {
			next.Counts.SkippedYoung++
			continue
		}
		if twice {
			next.Counts.Duplicates++
			continue
		}
		f.listed = append(f.listed, rec)
	}
	// All that follow are younger, where a whole page is. A single one says less: an
	// index has a record in its old place for a while after a change.
	f.ended = f.ended || youngs > 0 && youngs == f.fresh && c.list.Order == provider.Ascending && !c.scans()
	return f
}

// withLedger compares a page's records with the ledger, and leaves those out
// that the pipeline doesn't want.
func (c *comparison) withLedger(ctx context.Context, f *found, next *cursor.Window) {
	wanted := f.listed[:0]
	for _, rec := range f.listed {
		if c.cfg.Resource.IsGone(rec.body) {
			continue // sent again it would be there again
		}
		verdict := c.book.Lookup(rec.id, rec.version)
		if isGap(verdict) && c.book.Outlasts(rec.id, rec.version, f.at.Add(-c.list.Settle)) {
			next.Counts.SkippedYoung++ // the list may not show yet what was seen (promise 7)
			continue
		}
		if isGap(verdict) && c.dropped(ctx, rec, f.at) {
			next.Counts.Dropped++
			continue
		}
		wanted = append(wanted, rec)
		f.tally[verdict]++
		next.Sets.Listed.Add(rec.id, ordinal(rec.version))
		if version, held := c.book.Held(rec.id); held {
			next.Sets.Held.Add(rec.id, version)
		}
		if isGap(verdict) {
			c.gap(rec, verdict, "", f, next)
		}
	}
	f.listed = wanted
	next.Counts.Matched += int(f.tally[ledger.Matched])
	next.Counts.Missed += int(f.tally[ledger.Missed])
	next.Counts.Stale += int(f.tally[ledger.Stale])
	next.Counts.Ahead += int(f.tally[ledger.Ahead])
}

func isGap(v ledger.Verdict) bool { return v == ledger.Missed || v == ledger.Stale }

// ordinal is a version as the sets of a report take it.
func ordinal(v event.Version) uint64 {
	n, _ := v.Ordinal()
	return n &^ (1 << 63) // as the ledger has it
}

// note names a record in the report, if there is room.
func note(w *cursor.Window, r report.Record) (named bool) {
	if named = len(w.Records) < report.MaxRecords; named {
		w.Records = append(w.Records, r)
	}
	return named
}

// advance moves the window's position behind a page that was compared.
func (c *comparison) advance(p page, f found, next *cursor.Window) error {
	next.Full = max(next.Full, len(p.Records))
	if c.list.Next.Counted() {
		if err := c.stands(p, f.fresh); err != nil {
			return err
		}
		// Nothing follows what was there already, if the list doesn't reach as far
		// as the page would. That may be smaller than others: a full one that has
		// nothing new tells of a list that has moved.
		f.ended = f.ended || f.fresh == 0 && len(p.Records) < cmp.Or(p.ask.Want, next.Full)
	}
	if f.ended || p.Next == "" {
		c.lost = 0
		c.nextPart(next)
		return nil
	}
	last := next.Position
	next.Position, next.Before, next.Tail = p.Next, last, c.tail(p)
	if next.Tail == nil {
		next.Before = ""
	}
	if !c.list.Next.Counted() && circles(next, last) {
		return fault.Permanent(fmt.Errorf("list %s: the page after page %d was listed before: its cursor runs in a circle; does next name the right parameter?", c.cfg.Key, next.Pages))
	}
	return nil
}

// read reads a record. With an error it has what came before the fault.
func (c *comparison) read(body []byte, at time.Time) (record, error) {
	if c.cfg.Source != nil {
		return c.readListed(body)
	}
	rec := record{body: body}
	var err error
	if rec.id, err = c.cfg.Resource.RecordID.In(body); err != nil {
		return rec, err
	}
	if rec.version, err = c.cfg.Resource.VersionOf(provider.Sight{Record: body, At: at}); err != nil {
		return rec, fmt.Errorf("%s: %w", rec.id, err)
	}
	if c.list.Time.IsZero() {
		if t, ok := rec.version.Time(); ok && told(t) {
			rec.changed = t
		}
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
		return rec, fmt.Errorf("%s: time: %w", rec.id, err)
	}
	return rec, nil
}

// parseTime reads a time of a change. What isn't between 1970 and 2262 is in another
// unit, or stands for something else than a time; only the year 1 in RFC 3339 is known
// to stand for none.
func parseTime(text string) (time.Time, error) {
	t, ok := event.ParseTime(text)
	if !ok || !t.IsZero() && !told(t) {
		return time.Time{}, errors.New("want a time between 1970 and 2262, in RFC 3339 or as a Unix time in seconds or milliseconds")
	}
	return t, nil
}

// told reports whether a time can be that of a change: what isn't between 1970 and the
// last one that nanoseconds since then can tell stands for something else.
func told(t time.Time) bool { return t.Unix() >= 0 && !t.After(lastTime) }

var lastTime = time.Unix(0, math.MaxInt64)

// young reports whether a record changed after the window's end: its webhook
// may still be on the way, and the next window has it. No window has a record whose
// time is ahead of the source's clock, until that time comes: it is compared like one
// without a time. A listed event isn't, which is looked for around its time.
func (c *comparison) young(rec record) bool {
	ahead := c.cfg.Source == nil && rec.changed.After(c.clock.Add(skew))
	return rec.changed.After(c.w.To) && !ahead
}

// older reports whether a list that began with the youngest has come to what
// lies before the window.
func (c *comparison) older(rec record) bool {
	return c.list.Order == provider.Descending && !rec.changed.IsZero() && rec.changed.Before(c.w.From)
}

func (c *comparison) onLast(rec record) bool {
	_, there := c.last[rec.key()]
	return there
}

// repeated reports whether a record was listed before, and keeps that it is now.
func (c *comparison) repeated(rec record) bool {
	_, onThis := c.this[rec.key()]
	c.this[rec.key()] = struct{}{}
	return onThis || c.onLast(rec)
}

func (r record) key() string { return r.id + "\x00" + r.version.Mark() }
