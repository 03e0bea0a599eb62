package run

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"

	"github.com/tercelhq/tercel/pkg/fault"
)

// A list that is read by offset moves while it is read: a record that changes
// leaves its place, and all behind it move up. What was the first of the next
// page is then the last of one that was compared, and would be passed over
// (promise 6). So a page begins in front of the end of the last one, and must
// have some record of that end; else the list is read from further in front.

// maxTail is how many records of a page's end are recognised, and how many
// may leave the list between two pages before that costs a further request.
const maxTail = 8

// overlap is how many records of a page of n are listed again with the next.
// Pages of one record have no room for it: nothing is known of their list.
func overlap(n int) int { return min(maxTail, n/2) }

// mark recognises a record in a version.
func (r record) mark() uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(r.id + "\x00" + r.version.Mark()))
	return h.Sum64()
}

// follows reports whether no record can lie between the last page and p.
func (c *comparison) follows(p page) (bool, error) {
	if c.list.Next.Offset == "" || len(c.w.Tail) == 0 || offset(c.w) == 0 {
		return true, nil
	}
	for i, body := range p.records {
		rec, err := c.read(body, p.requestedAt)
		if err != nil {
			return false, fault.Permanent(fmt.Errorf("record %d: %w", i+1, err))
		}
		if slices.Contains(c.w.Tail, rec.mark()) {
			return true, nil
		}
	}
	return false, nil
}

// back is the position of the page in front of p, which doesn't follow.
func (c *comparison) back(p page) string {
	at := offset(c.w) - max(len(p.records), c.full, 1)
	if at <= 0 {
		return ""
	}
	return strconv.Itoa(at)
}
