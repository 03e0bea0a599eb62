package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/topology"
)

// maxUnlisted bounds the records that one scan asks for, each of which takes about
// 200 bytes.
const maxUnlisted = 100_000

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
	if err := c.ready(ctx, &c.w); err != nil {
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
		if err := c.nameAll(ctx, all); err != nil {
			return err
		}
		if over, err := c.askAll(ctx, all); err != nil || !over {
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
	return slices.SortedFunc(maps.Values(all), func(a, b *unlisted) int { return cmp.Compare(a.hash, b.hash) }), holdings, nil
}

// nameAll finds the ids of records that only the ledger has, by their hashes, in
// the events that are still there.
func (c *comparison) nameAll(ctx context.Context, all []*unlisted) error {
	nameless := map[uint64]*unlisted{}
	for _, u := range all {
		if u.id == "" {
			nameless[u.hash] = u
		}
	}
	if len(nameless) == 0 {
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
		if u := nameless[ledger.Hash(e.RecordID)]; u != nil {
			u.id, u.version = e.RecordID, max(u.version, e.Version)
		}
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
