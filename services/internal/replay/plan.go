// Package replay sends many dead letters or stored triggers again: by a plan that
// says beforehand what it would do, at a bounded rate, with an eye on what becomes of each
// message, and no further once they fail again.
package replay

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/topology"
)

// MaxPlanned bounds the letters of one plan.
const MaxPlanned = 100_000

// Choice is which letters to replay, and how.
type Choice struct {
	Filter deadletter.Filter
	deadletter.ReplayOptions
}

// Plan is what a replay would do.
type Plan struct {
	// Sequences are the letters', in the order in which they are sent.
	Sequences []uint64
	// Before of them were replayed before, and are only sent by force.
	Before int
	// Missing are letters that can't be sent, since their payload is gone. They
	// are not among the others.
	Missing int
	// Oldest and Newest are when the first and last of them were given up.
	Oldest, Newest time.Time
	// Destinations would get something, the one that gets most first.
	Destinations []Destination
	// Truncated says that there are more letters than [MaxPlanned].
	Truncated bool
}

// Destination is what one destination would get, as far as subjects tell: its
// own when may leave some out.
type Destination struct {
	Name  string
	Count int
}

// Make plans, and changes nothing. Letters are sent in the order in which they
// were given up.
func Make(ctx context.Context, js jetstream.JetStream, c Choice) (Plan, error) {
	var p Plan
	to, err := destinations(ctx, js)
	if err != nil {
		return p, fmt.Errorf("plan a replay: %w", err)
	}
	counts := map[string]int{}
	for l, err := range deadletter.List(ctx, js, c.Filter) {
		if err != nil {
			return p, fmt.Errorf("plan a replay: %w", err)
		}
		if l.Replayed != nil {
			p.Before++
			if !c.Force {
				continue
			}
		}
		if l.PayloadMissing && (c.Stage == "" || c.Stage == l.Stage) {
			p.Missing++
			continue
		}
		if len(p.Sequences) == MaxPlanned {
			p.Truncated = true
			break
		}
		p.add(l)
		for _, name := range c.reaches(l, to) {
			counts[name]++
		}
	}
	for name := range maps.Keys(counts) {
		p.Destinations = append(p.Destinations, Destination{name, counts[name]})
	}
	slices.SortFunc(p.Destinations, func(a, b Destination) int {
		return cmp.Or(b.Count-a.Count, cmp.Compare(a.Name, b.Name))
	})
	return p, nil
}

func (p *Plan) add(l deadletter.Letter) {
	p.Sequences = append(p.Sequences, l.Sequence)
	if p.Oldest.IsZero() || l.DeadAt.Before(p.Oldest) {
		p.Oldest = l.DeadAt
	}
	if l.DeadAt.After(p.Newest) {
		p.Newest = l.DeadAt
	}
}

// reaches are the destinations that get what is sent again for a letter.
func (c Choice) reaches(l deadletter.Letter, to map[string]jetstream.ConsumerConfig) []string {
	var names []string
	subject := l.Event.EnrichedSubject()
	for name, consumer := range to {
		chosen := slices.Contains(c.Destinations, name)
		if len(c.Destinations) == 0 { // the one that gave it up, or those that its message is for
			chosen = l.Destination() == name || l.Destination() == "" && l.Event.For(name)
		}
		if chosen && l.Event.Source != "" && topology.Takes(consumer, subject) {
			names = append(names, name)
		}
	}
	return names
}

// destinations are those that are served, by their consumers.
func destinations(ctx context.Context, js jetstream.JetStream) (map[string]jetstream.ConsumerConfig, error) {
	to := map[string]jetstream.ConsumerConfig{}
	infos, err := consumers(ctx, js, topology.StreamEnriched)
	for durable, info := range infos {
		if stage, name, ok := topology.Stage(durable); ok && stage == topology.StageDeliver {
			to[name] = info.Config
		}
	}
	return to, err
}

func consumers(ctx context.Context, js jetstream.JetStream, stream string) (map[string]*jetstream.ConsumerInfo, error) {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	infos := map[string]*jetstream.ConsumerInfo{}
	list := s.ListConsumers(ctx)
	for info := range list.Info() {
		infos[info.Name] = info
	}
	return infos, list.Err()
}
