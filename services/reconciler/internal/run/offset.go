package run

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/provider"
)

// A list that is read by numbers, of records or of pages, moves while it is
// read: a record that changes leaves its place, and all behind it move up. What
// was the first of the next page is then the last of one that was compared, and
// would be passed over (promise 6). So a page begins in front of the end of the
// last one, and must have some record of that end; else the list is read from
// further in front.
//
// Behind a link there may be such a number too. Its page can't be made to
// overlap; instead the page before it is asked for again, and must still end as
// it did.

// maxLost bounds how often a list is begun again because its second page doesn't
// follow the first, or because more than a page has moved behind a link, and how
// often in a row a page may be the one before it.
const maxLost = 8

// mark recognises a record in a version, or one that can't be read by its bytes.
func (r record) mark() uint64 {
	h := fnv.New64a()
	if r.version == "" {
		_, _ = h.Write(r.body)
	} else {
		_, _ = h.Write([]byte(r.key()))
	}
	return h.Sum64()
}

// moves reports whether records may move over the border between two pages.
func (r *Runner) moves() bool {
	return r.list.Next.Counted() || r.list.Next.Shape() == provider.ByLink && !r.list.Next.Stable
}

// tail are the marks of a page's last records, if the next one has some of them
// too.
func (c *comparison) tail(p page) []uint64 {
	n := len(p.Records)
	if !c.moves() || c.list.Next.Shape() == provider.ByOffset && provider.Overlap(n) == 0 {
		return nil
	}
	return c.marks(p, max(0, n-provider.MaxOverlap))
}

func (c *comparison) marks(p page, from int) []uint64 {
	var marks []uint64
	for _, body := range p.Records[from:] {
		rec, _ := c.read(body, p.requestedAt) // one that can't be read has a mark too
		marks = append(marks, rec.mark())
	}
	return marks
}

// turn returns the page to compare next: p, if nothing can lie between it and
// the last page. Else it moves the window's position back and returns false, or
// the page in front of p with what is on it now.
func (c *comparison) turn(ctx context.Context, p page) (page, bool, error) {
	switch {
	case len(c.w.Tail) == 0:
		return p, true, nil
	case !c.list.Next.Counted():
		return c.recheck(ctx, p)
	case p.ask.Front == 0 || c.shows(p):
		return p, true, nil
	}
	if c.first {
		if c.lost++; c.lost >= maxLost {
			return page{}, false, fault.Permanent(fmt.Errorf("list %s: the second page doesn't follow the first: does the API keep to the size of limit.param?", c.cfg.Key))
		}
	}
	at := max(0, p.ask.Front-max(len(p.Records), c.w.Full, 1))
	c.w.Position = strconv.Itoa(at)
	return page{}, false, nil
}

// shows reports whether p has some record of the last page's end.
func (c *comparison) shows(p page) bool {
	return slices.ContainsFunc(c.marks(p, 0), func(mark uint64) bool { return slices.Contains(c.w.Tail, mark) })
}

// recheck asks for the page in front of p again. If that ends as it did, p
// follows.
func (c *comparison) recheck(ctx context.Context, p page) (page, bool, error) {
	again, err := c.fetch(ctx, c.w, c.w.Before)
	if err != nil {
		return page{}, false, fmt.Errorf("list %s: page %d again: %w", c.cfg.Key, c.w.Pages, err)
	}
	if n := len(again.Records); n > 0 && c.marks(again, n-1)[0] == c.w.Tail[len(c.w.Tail)-1] {
		return p, true, nil
	}
	if !c.shows(again) { // more than a page has moved
		if c.lost++; c.lost >= maxLost {
			return page{}, false, fault.Permanent(fmt.Errorf("list %s: it moves faster than it can be read, or is in no order; set next.stable if its links name a place", c.cfg.Key))
		}
		begin(&c.w)
		return page{}, false, nil
	}
	c.w.Position, c.w.Steps, c.w.Met = c.w.Before, 0, 0
	return again, true, nil
}

// stands reports an API that answers with the same page whatever it is asked
// for. A list that grows in front can do so too, but not for long.
func (c *comparison) stands(p page, fresh int) error {
	if fresh > 0 || len(p.Records) == 0 || len(c.this) != len(c.last) || p.ask.Front == 0 {
		c.same = 0
		return nil
	}
	if c.same++; c.same >= maxLost {
		return fault.Permanent(errors.New("the same page again and again: does next name the right parameter?"))
	}
	return nil
}
