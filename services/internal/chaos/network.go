package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tercelhq/tercel/services/internal/chaos/link"
	"github.com/tercelhq/tercel/services/internal/process"
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

// ends picks the links that fail.
type ends func(ctx context.Context, w *world, r *rand.Rand) ([]*link.Link, error)

// networkFaults break connections between services and servers, between servers,
// and to what is beside the pipeline.
func networkFaults() (all []fault) {
	for _, b := range ruptures {
		for _, kind := range kinds {
			all = append(all,
				b.between("one "+kind+" and all nodes", "a service and all nodes", serviceAnd(kind, isNode)),
				b.between("one "+kind+" and its node", "a service and its node", serviceAndItsNode(kind)))
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
		broken, err := pick(ctx, w, r)
		if err != nil {
			return err
		}
		if len(broken) == 0 {
			return errors.New("no way leads there")
		}
		for _, l := range broken {
			b.of(l, r)
		}
		err = between(ctx, r, time.Second, 15*time.Second)
		for _, l := range broken {
			l.Mend()
		}
		return err
	}}
}

// serviceAnd picks the ways of one service of a kind.
func serviceAnd(kind string, to func(name string) bool) ends {
	return func(_ context.Context, w *world, r *rand.Rand) ([]*link.Link, error) {
		name := anyOf(kind, r)
		return w.links(func(k way) bool { return k.from == name && to(k.to) }), nil
	}
}

// serviceAndItsNode picks the way of one service of a kind to the node that it is
// connected to: the ways to others carry nothing.
func serviceAndItsNode(kind string) ends {
	all := serviceAnd(kind, isNode)
	return func(ctx context.Context, w *world, r *rand.Rand) (used []*link.Link, err error) {
		links, err := all(ctx, w, r)
		if err != nil {
			return nil, err
		}
		err = process.Await(ctx, func(context.Context) error { // it may be about to connect
			used = slices.DeleteFunc(slices.Clone(links), func(l *link.Link) bool { return !l.InUse() })
			if len(used) == 0 {
				return errors.New("it is connected to no node")
			}
			return nil
		})
		return used, err
	}
}

// anyOf is the name of one service of a kind, or of one node.
func anyOf(kind string, r *rand.Rand) string {
	if kind == server {
		return nodeName(r.IntN(nodes))
	}
	return fmt.Sprint(kind, "-", r.IntN(howMany[kind])+1)
}

func named(want string) func(string) bool {
	return func(name string) bool { return name == want }
}

func isNode(name string) bool { return slices.Contains(nodeNames(), name) }

// nodeAndOthers parts a node from the other nodes, while services reach it.
func nodeAndOthers(_ context.Context, w *world, r *rand.Rand) ([]*link.Link, error) {
	name := anyOf(server, r)
	return w.links(func(k way) bool { return k.from == name || k.to == name && isNode(k.from) }), nil
}

// nodeAndAll parts a node from all that go over links.
func nodeAndAll(_ context.Context, w *world, r *rand.Rand) ([]*link.Link, error) {
	name := anyOf(server, r)
	return w.links(func(k way) bool { return k.from == name || k.to == name }), nil
}
