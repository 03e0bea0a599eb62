package simulator

import (
	"math"
	"math/rand/v2"
)

// Streams of random numbers that don't depend on each other.
const (
	seedPlan = 1
	seedAPI  = 2
)

// maxBehind is how many later changes a delayed webhook may be sent behind.
const maxBehind = 50

// plan is what a run will do, decided before it begins.
type plan struct {
	run       string
	steps     []step
	records   int
	customers int
	poisoned  map[int]bool // by index of the record
}

// step is one change and what becomes of its webhook.
type step struct {
	record  int // index
	kind    string
	dropped bool
	twice   bool
	behind  int // how many later changes the webhook is sent behind
	again   int // how many later changes the repeat is sent behind
	forgery forgery
}

// Types of webhooks.
const (
	created = "order.created"
	updated = "order.updated"
	deleted = "order.deleted"
)

// newPlan plans one round of changes, the first of which is 0. No round has a
// record of another.
func newPlan(c Config, round int) plan {
	rng := rand.New(rand.NewPCG(c.Seed, seedPlan+uint64(round)<<32))
	p := plan{run: c.Run, records: c.Records, customers: c.Records/10 + 1, poisoned: map[int]bool{}}
	for _, i := range pick(rng, upTo(c.Records), c.Poison, c.Records) {
		p.poisoned[i] = true
	}
	p.steps = makeSteps(rng, c)
	p.markDeletes(rng, c)
	p.markWebhooks(rng, c)
	return p.from(round * c.Records)
}

// from gives a plan the records from a number on.
func (p plan) from(first int) plan {
	for i := range p.steps {
		p.steps[i].record += first
	}
	poisoned := make(map[int]bool, len(p.poisoned))
	for i := range p.poisoned {
		poisoned[first+i] = true
	}
	p.poisoned = poisoned
	return p
}

// makeSteps spreads the changes over the records, each of which gets one.
func makeSteps(rng *rand.Rand, c Config) []step {
	steps := make([]step, c.Events)
	for i := range steps {
		steps[i] = step{record: i, kind: updated}
		if i >= c.Records {
			steps[i].record = rng.IntN(c.Records)
		}
	}
	rng.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	known := make([]bool, c.Records)
	for i := range steps {
		if s := &steps[i]; !known[s.record] {
			known[s.record], s.kind = true, created
		}
	}
	return steps
}

// markDeletes ends some records with their last change. Poisoned records live
// on: their dead letters are worth a replay.
func (p *plan) markDeletes(rng *rand.Rand, c Config) {
	last := map[int]int{}
	for i, s := range p.steps {
		last[s.record] = i
	}
	var candidates []int
	for record := range p.records {
		if i := last[record]; p.steps[i].kind == updated && !p.poisoned[record] {
			candidates = append(candidates, i)
		}
	}
	for _, i := range pick(rng, candidates, c.Delete, p.records) {
		p.steps[i].kind = deleted
	}
}

// markWebhooks decides which webhooks are dropped, repeated, delayed and
// forged.
func (p *plan) markWebhooks(rng *rand.Rand, c Config) {
	var droppable []int
	for i, s := range p.steps {
		if !p.mustArrive(s) {
			droppable = append(droppable, i)
		}
	}
	for _, i := range pick(rng, droppable, c.Drop, len(p.steps)) {
		p.steps[i].dropped = true
	}
	var sent []int
	for i, s := range p.steps {
		if !s.dropped {
			sent = append(sent, i)
		}
	}
	for _, i := range pick(rng, sent, c.Duplicate, len(p.steps)) {
		p.steps[i].twice, p.steps[i].again = true, rng.IntN(maxBehind)
	}
	for _, i := range pick(rng, sent, c.Reorder, len(p.steps)) {
		p.steps[i].behind = 1 + rng.IntN(maxBehind)
	}
	for n, i := range pick(rng, upTo(len(p.steps)), c.Forge, len(p.steps)) {
		p.steps[i].forgery = forgeries[n%len(forgeries)]
	}
}

// mustArrive tells of webhooks that nothing can stand in for. A list of changes
// doesn't have what is gone, so a deletion whose webhook is lost can't be found
// by it; and a poisoned record is in no list while it is refused, and has an
// old time of change when it comes back. Losing such a webhook is a loss that
// no receiver could repair, and says nothing about the receiver.
func (p *plan) mustArrive(s step) bool { return s.kind == deleted || p.poisoned[s.record] }

// pick chooses share × of among candidates, at least one unless the share is 0.
func pick(rng *rand.Rand, candidates []int, share float64, of int) []int {
	if share == 0 {
		return nil
	}
	n := min(max(int(math.Round(share*float64(of))), 1), len(candidates))
	rng.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] })
	return candidates[:n]
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}
