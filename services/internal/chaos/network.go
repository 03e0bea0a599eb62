package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tercelhq/tercel/services/internal/chaos/link"
)

// rupture is a way in which a network fails, until its links are mended.
type rupture struct {
	name string // such as "cut", of a fault that is called "cut between ..."
	of   func(*link.Link, *rand.Rand)
}

// ruptures are the ways: connections end; nothing passes and nobody is told; all
// that passes is late, as over a long distance.
var ruptures = []rupture{
	{"cut", func(l *link.Link, _ *rand.Rand) { l.Cut() }},
	{"silence", func(l *link.Link, _ *rand.Rand) { l.Hold() }},
	{"latency", func(l *link.Link, r *rand.Rand) {
		l.Delay(50*time.Millisecond + time.Duration(r.Int64N(int64(250*time.Millisecond))))
	}},
}

// ends picks the ways that fail: all that suit what it returns.
type ends func(r *rand.Rand) (suits func(way) bool)

// networkFaults break connections between services and servers, between servers,
// and to what is beside the pipeline.
func networkFaults() (all []fault) {
	for _, b := range ruptures {
		for _, kind := range kinds {
			all = append(all,
				b.between("one "+kind+" and all nodes", "a service and all nodes", serviceAnd(kind, func(*rand.Rand) func(string) bool { return isNode })),
				b.between("one "+kind+" and one node", "a service and a node", serviceAnd(kind, oneNode)))
		}
		all = append(all,
			b.between("one node and the others", "a node and the others", nodeAndOthers),
			b.between("one node and all else", "a node and all else", nodeAndAll),
			b.between("one sink and the database", "a service and the database", serviceAnd("sink", named(database))),
			b.between("one enricher and the API", "a service and the API", serviceAnd("enricher", named("api"))),
			b.between("one reconciler and the API", "a service and the API", serviceAnd("reconciler", named("api"))))
	}
	return all
}

// between is the fault that lasts for a while and then is mended. It is of a kind with
// others of the rupture.
func (b rupture) between(what, kind string, pick ends) fault {
	return fault{name: b.name + " between " + what, kind: b.name + " between " + kind, harm: func(ctx context.Context, w *world, r *rand.Rand) error {
		broken := w.links(pick(r))
		if len(broken) == 0 {
			return errors.New("no way leads there")
		}
		for _, l := range broken {
			b.of(l, r)
		}
		err := between(ctx, r, time.Second, 15*time.Second)
		for _, l := range broken {
			l.Mend()
		}
		return err
	}}
}

// serviceAnd picks the ways of one service of a kind.
func serviceAnd(kind string, to func(*rand.Rand) func(name string) bool) ends {
	return func(r *rand.Rand) func(way) bool {
		name, suits := anyOf(kind, r), to(r)
		return func(k way) bool { return k.from == name && suits(k.to) }
	}
}

// anyOf is the name of one service of a kind, or of one node.
func anyOf(kind string, r *rand.Rand) string {
	if kind == server {
		return nodeName(r.IntN(nodes))
	}
	return fmt.Sprint(kind, "-", r.IntN(howMany[kind])+1)
}

func named(want string) func(*rand.Rand) func(string) bool {
	return func(*rand.Rand) func(string) bool { return func(name string) bool { return name == want } }
}

func oneNode(r *rand.Rand) func(string) bool { return named(anyOf(server, r))(r) }

func isNode(name string) bool { return slices.Contains(nodeNames(), name) }

// nodeAndOthers parts a node from the other nodes, while services reach it.
func nodeAndOthers(r *rand.Rand) func(way) bool {
	name := anyOf(server, r)
	return func(k way) bool { return k.from == name || k.to == name && isNode(k.from) }
}

// nodeAndAll parts a node from all that go over links.
func nodeAndAll(r *rand.Rand) func(way) bool {
	name := anyOf(server, r)
	return func(k way) bool { return k.from == name || k.to == name }
}
