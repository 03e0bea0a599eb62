package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/pkg/topology"
)

const (
	// maxUnlisted bounds the records that one scan asks for, each of which takes
	// about 200 bytes.
	maxUnlisted = 100_000
	// askedAtOnce is how many of them are asked for before what was found is saved.
	askedAtOnce = 64
	// maxUnclear is how many answers in a row may be no answers.
	maxUnclear = 8
)

// unlisted is a record that is held since before the scan and was not listed.
type unlisted struct {
	hash    uint64
	id      string // "" while it isn't known
	version event.Version
	inside  bool     // the pipeline holds it
	at      []string // the destinations that do
}

// holding is what the pipeline or a destination has.
type holding struct {
	name           string
	held, unlisted int
}

// orphans asks for every record that is held and was not listed, and buries those
// that are gone. What was held for less time than the scan took is left to the
// next: it may have come or moved behind the page that was read.
func (c *comparison) orphans(ctx context.Context) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	all, holdings, err := c.gather(ctx)
	if err != nil {
		return err
	}
	found := &c.w.Scan.Found
	if c.w.Scan.Checked == 0 { // else some of it has been dealt with
		found.Held, found.Unlisted = holdings[0].held, len(all)
		for _, h := range holdings { // there may be more than were gathered
			found.Unlisted = max(found.Unlisted, h.unlisted)
		}
	}
	if found.Stopped, err = c.stopped(ctx, holdings, len(all)); err != nil {
		return err
	}
	if found.Stopped == "" {
		if err := c.askAll(ctx, all); err != nil {
			return err
		}
	}
	c.w.Scan.Over = true
	return c.save(ctx, func(*cursor.Cursor) {})
}

// gather returns what is held and was not listed, in the order of hashes.
func (c *comparison) gather(ctx context.Context) ([]*unlisted, []holding, error) {
	before := c.w.To
	all := map[uint64]*unlisted{}
	inside := holding{name: "the pipeline"}
	missing := func(hash uint64, seen time.Time, h *holding) *unlisted {
		h.held++
		if !seen.Before(before) || c.listed.has(hash) {
			return nil
		}
		h.unlisted++
		u := all[hash]
		if u == nil && len(all) <= maxUnlisted { // one too many is as good as all
			u = &unlisted{hash: hash}
			all[hash] = u
		}
		return u
	}
	for hash, seen := range c.held {
		if u := missing(hash, seen, &inside); u != nil {
			u.inside = true
		}
	}
	holdings := []holding{inside}
	for _, name := range c.list.Destinations() {
		far := holding{name: "destination " + name}
		for h, err := range c.deps.Destinations[name].All(ctx, c.destinationKey()) {
			if err != nil {
				return nil, nil, fmt.Errorf("destination %s: %w", name, err)
			}
			if h.Deleted || h.Version == "" {
				continue
			}
			if u := missing(ledger.Hash(h.ID), h.ObservedAt, &far); u != nil {
				u.id, u.version, u.at = h.ID, h.Version, append(u.at, name)
			}
		}
		holdings = append(holdings, far)
	}
	if err := c.nameAll(ctx, all); err != nil {
		return nil, nil, err
	}
	return slices.SortedFunc(maps.Values(all), func(a, b *unlisted) int { return cmp.Compare(a.hash, b.hash) }), holdings, nil
}

// nameAll finds the ids of records that only the ledger has, by their hashes, in
// the events that are still there.
func (c *comparison) nameAll(ctx context.Context, all map[uint64]*unlisted) error {
	open := 0
	for _, u := range all {
		if u.id == "" {
			open++
		}
	}
	if open == 0 || len(all) > maxUnlisted {
		return nil
	}
	k := c.cfg.Key
	for m, err := range consume.Scan(ctx, c.deps.JetStream, consume.ScanOptions{
		Stream: topology.StreamEnriched, HeadersOnly: true,
		Subjects: []string{event.PrefixEnriched + "." + k.Source + "." + event.AccountToken(k.Account) + ".>"},
	}) {
		if err != nil {
			return fmt.Errorf("ids of unlisted records: %w", err)
		}
		if m.Header.Get(event.HeaderResource) != k.Resource {
			continue
		}
		e, err := event.FromHeader(m.Header)
		if err != nil || e.RecordID == "" || e.Deleted {
			continue
		}
		u := all[ledger.Hash(e.RecordID)]
		if u == nil || len(u.at) > 0 {
			continue
		}
		if u.id == "" {
			open--
		}
		u.id, u.version = e.RecordID, max(u.version, e.Version)
	}
	return nil
}

// stopped returns why nothing may be asked for nor deleted, or "".
func (c *comparison) stopped(ctx context.Context, holdings []holding, unlisted int) (string, error) {
	if unlisted == 0 {
		return "", nil
	}
	if n := c.w.Scan.Nameless; n > 0 {
		return fmt.Sprintf("the ids of %d listed records could not be read", n), nil
	}
	if len(c.listed.hashes) == 0 {
		return "the source listed nothing at all", nil
	}
	for _, h := range holdings {
		if limit := c.deletes.Limit(h.held); h.unlisted > limit {
			return fmt.Sprintf("%d of the %d records that %s holds were not listed, and at most %d may be (max_share, allow)",
				h.unlisted, h.held, h.name, limit), nil
		}
	}
	if unlisted > maxUnlisted {
		return fmt.Sprintf("more than %d records were not listed", maxUnlisted), nil
	}
	// A credential that sees less, or a path that is wrong, makes a record look as
	// if it were gone. One that was listed just now can't be.
	var last error
	for _, id := range slices.Backward(c.w.Scan.Shown) {
		a := c.ask(ctx, id)
		if a.record != nil {
			return "", nil
		}
		last = errors.Join(last, a.err)
	}
	if last != nil {
		return "", fmt.Errorf("get %s: of a listed record: %w", c.cfg.Key.Resource, last)
	}
	return "get finds none of the records that were listed last", nil
}

// answer is what the source says to the question for one record: a record, that
// it is gone, or nothing clear.
type answer struct {
	at     time.Time
	record []byte
	gone   bool
	err    error
}

// ask asks for one record.
func (c *comparison) ask(ctx context.Context, id string) answer {
	s := scope(c.cfg.Key.Account)
	s.Values["id"] = id
	res := c.cfg.Resource
	ask, err := res.Get.Ask(s)
	if err != nil {
		return answer{err: fault.Permanent(err)}
	}
	r := sourceapi.Request{Path: ask.Path, Account: c.cfg.Key.Account}
	if ask.Body != nil {
		r.Method, r.Body, r.GraphQL = http.MethodPost, ask.Body, true
	}
	shown, err := c.deps.API.Do(ctx, r)
	a := answer{at: shown.RequestedAt}
	if errors.Is(err, sourceapi.ErrNotFound) {
		a.gone = true
		return a
	}
	if a.err = err; err == nil {
		a.record, a.err = res.Find(id, shown.Body)
		a.gone = a.err == nil && a.record == nil
	}
	return a
}

// askAll asks for what was not listed, part by part, and does what the answers
// call for. What a scan before this one has done is passed over.
func (c *comparison) askAll(ctx context.Context, all []*unlisted) error {
	all = slices.DeleteFunc(all, func(u *unlisted) bool { return c.w.Scan.Checked > 0 && u.hash <= c.w.Scan.Checked })
	unclear := 0
	for part := range slices.Chunk(all, askedAtOnce) {
		answers := make([]answer, len(part))
		var wg sync.WaitGroup
		for i, u := range part {
			if u.id != "" {
				wg.Go(func() { answers[i] = c.ask(ctx, u.id) })
			}
		}
		wg.Wait()
		for i, a := range answers {
			switch {
			case part[i].id == "" || fault.IsPermanent(a.err):
			case a.err == nil:
				unclear = 0
			default:
				if unclear++; unclear >= maxUnclear || ctx.Err() != nil || fault.IsPostponed(a.err) {
					return fmt.Errorf("get %s %s: %w", c.cfg.Key.Resource, part[i].id, a.err)
				}
			}
		}
		if err := c.take(ctx, part, answers); err != nil {
			return err
		}
	}
	return nil
}

// take deals with the answers of one part, and notes that it has.
func (c *comparison) take(ctx context.Context, part []*unlisted, answers []answer) error {
	next := c.w
	s := *c.w.Scan
	next.Scan = &s
	next.Records = next.Records[:len(next.Records):len(next.Records)]
	next.Destinations = maps.Clone(next.Destinations)
	f := found{tally: map[ledger.Verdict]int64{}}
	var gone []grave
	for i, u := range part {
		a := answers[i]
		switch {
		case a.gone:
			gone = append(gone, grave{u.id, a.at})
			c.orphaned(u, a.at, &next)
		case a.record != nil:
			rec, err := c.read(a.record, a.at)
			if err != nil {
				s.Found.Unchecked++
				continue
			}
			s.Found.Present++
			f.listed = append(f.listed, rec)
			if f.at.IsZero() || a.at.Before(f.at) {
				f.at = a.at // none of them was seen later
			}
		default:
			s.Found.Unchecked++
		}
	}
	if err := c.bury(ctx, gone, &s); err != nil {
		return err
	}
	if err := c.records(ctx, &f, &next); err != nil {
		return err
	}
	f.tally[report.Orphaned] = int64(len(gone))
	c.deps.Metrics.comparedAll(c.cfg.Key, f.tally)
	s.Checked = part[len(part)-1].hash
	c.w = next
	c.explainLater(ctx, f.open)
	return c.save(ctx, func(*cursor.Cursor) {})
}

// orphaned counts and names one that is gone.
func (c *comparison) orphaned(u *unlisted, at time.Time, next *cursor.Window) {
	next.Counts.Orphaned++
	rec := report.Record{ID: u.id, Version: string(u.version), Verdict: report.Orphaned, FirstSeen: at, Repaired: c.buries()}
	for _, name := range u.at {
		if next.Destinations == nil {
			next.Destinations = map[string]report.Destination{}
		}
		d := next.Destinations[name]
		d.Orphaned++
		next.Destinations[name] = d
	}
	if !u.inside {
		rec.Destination = strings.Join(u.at, ", ")
	}
	note(next, rec)
}

// grave is a record that is gone, and when the source said so.
type grave struct {
	id string
	at time.Time
}

// bury stores tombstones in TERCEL_RAW. One that was seen alive since then stays
// so wherever it gets (promise 7).
func (c *comparison) bury(ctx context.Context, gone []grave, s *cursor.Scan) error {
	if !c.buries() || len(gone) == 0 {
		return nil
	}
	if err := c.send(ctx, len(gone), func(i int) (string, *nats.Msg) {
		return gone[i].id, c.tombstone(ctx, gone[i])
	}); err != nil {
		return err
	}
	s.Found.Tombstones += len(gone)
	return nil
}

// tombstone is a trigger that says that a record is gone. Within a run it is
// always the same.
func (c *comparison) tombstone(ctx context.Context, g grave) *nats.Msg {
	e := c.event(record{id: g.id}, g.at)
	e.ID = "reconcile:" + e.Resource + ":" + g.id + ":deleted:" + c.id
	e.Deleted = true
	m := nats.NewMsg(e.RawSubject())
	m.Header = e.Header()
	m.Header.Set(jetstream.MsgIDHeader, e.MsgID()+":"+c.id)
	event.InjectTrace(ctx, m.Header)
	m.Data = []byte("null")
	return m
}
