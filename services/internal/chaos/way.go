package main

import (
	"slices"
	"strings"

	"github.com/tercelhq/tercel/services/internal/chaos/link"
)

// way is a direction in which connections are made: from a member to another, to
// "postgres" or to "api".
type way struct{ from, to string }

// via makes the way from one to the other, and returns the address that stands
// for target on it. Every address that a member is told goes through here.
func (w *world) via(from, to, target string) (string, error) {
	l, err := link.Listen(target)
	if err != nil {
		return "", err
	}
	w.ways[way{from, to}] = l
	w.ends = append(w.ends, func() { _ = l.Close() })
	return l.Addr(), nil
}

// links are those whose ways suit, in a fixed order.
func (w *world) links(suits func(way) bool) (all []*link.Link) {
	var ways []way
	for k := range w.ways {
		if suits(k) {
			ways = append(ways, k)
		}
	}
	slices.SortFunc(ways, func(a, b way) int { return strings.Compare(a.from+" "+a.to, b.from+" "+b.to) })
	for _, k := range ways {
		all = append(all, w.ways[k])
	}
	return all
}
