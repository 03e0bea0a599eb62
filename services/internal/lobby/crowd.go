package lobby

import (
	"container/list"
	"net/netip"
)

// Crowd are those that wait, by the neighbourhoods that they come from. It says who of
// them makes room for others. The zero Crowd is empty. It is for one goroutine at a
// time.
type Crowd[T any] struct {
	from  map[netip.Prefix]*list.List // of *Place[T], the one that has waited longest first
	waits uint64                      // that have begun
}

// Place is where one of a [Crowd] waits.
type Place[T any] struct {
	one     T
	from    netip.Prefix
	since   uint64 // the number of its wait
	element *list.Element
}

// Neighbourhood is what one stranger may have of addresses: one of IPv4, or of IPv6 the
// most that a site is given. Behind a proxy it is the proxy's, which has limits of its
// own.
func Neighbourhood(a netip.Addr) netip.Prefix {
	if a = a.Unmap().WithZone(""); a.Is6() {
		return netip.PrefixFrom(a, 48).Masked()
	}
	return netip.PrefixFrom(a, 32)
}

// Add lets one wait that comes from there, until Remove.
func (c *Crowd[T]) Add(one T, from netip.Prefix) *Place[T] {
	all := c.from[from]
	if all == nil {
		if all = list.New(); c.from == nil {
			c.from = map[netip.Prefix]*list.List{}
		}
		c.from[from] = all
	}
	c.waits++
	p := &Place[T]{one: one, from: from, since: c.waits}
	p.element = all.PushBack(p)
	return p
}

// Remove ends the wait of who has a place, which must be of this crowd, and there.
func (c *Crowd[T]) Remove(p *Place[T]) {
	all := c.from[p.from]
	if all.Remove(p.element); all.Len() == 0 {
		delete(c.from, p.from)
	}
}

// Most returns one of the neighbourhood that has most of them, and how many that has:
// so a flood displaces itself. It is the one that has waited longest, there and of the
// neighbourhoods that have as many. Of an empty crowd there is none, and 0.
func (c *Crowd[T]) Most() (one T, of int) {
	var since uint64
	for _, all := range c.from {
		first := all.Front().Value.(*Place[T]) //nolint:forcetypeassert // nothing else is put in
		if n := all.Len(); n > of || n == of && first.since < since {
			one, of, since = first.one, n, first.since
		}
	}
	return one, of
}

// Count is how many wait that come from there.
func (c *Crowd[T]) Count(from netip.Prefix) int {
	if all := c.from[from]; all != nil {
		return all.Len()
	}
	return 0
}
