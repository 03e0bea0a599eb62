package lobby

import (
	"container/list"
	"net/netip"
)

// crowd are those that wait, by the neighbourhoods that they come from. It says who of
// them makes room for others. The zero crowd is empty. It is for one goroutine at a
// time.
type crowd struct {
	from  map[netip.Prefix]*list.List // of *place, the one that has waited longest first
	waits uint64                      // that have begun
}

// place is where one of a crowd waits.
type place struct {
	one     *guest
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

// add lets one wait that comes from there, until remove.
func (c *crowd) add(one *guest, from netip.Prefix) *place {
	all := c.from[from]
	if all == nil {
		if all = list.New(); c.from == nil {
			c.from = map[netip.Prefix]*list.List{}
		}
		c.from[from] = all
	}
	c.waits++
	p := &place{one: one, from: from, since: c.waits}
	p.element = all.PushBack(p)
	return p
}

// remove ends the wait of who has a place, which must be of this crowd, and there.
func (c *crowd) remove(p *place) {
	all := c.from[p.from]
	if all.Remove(p.element); all.Len() == 0 {
		delete(c.from, p.from)
	}
}

// most returns one of the neighbourhood that has most of them: so a flood displaces
// itself. It is the one that has waited longest, there and of the neighbourhoods that
// have as many. Of an empty crowd it is nil.
func (c *crowd) most() *guest {
	var one *guest
	var of int
	var since uint64
	for _, all := range c.from {
		first := all.Front().Value.(*place) //nolint:forcetypeassert // nothing else is put in
		if n := all.Len(); n > of || n == of && first.since < since {
			one, of, since = first.one, n, first.since
		}
	}
	return one
}
