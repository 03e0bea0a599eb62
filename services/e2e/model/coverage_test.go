package model_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tercelhq/tercel/pkg/report"
)

// coverage counts what histories reached, so that a kind of step that no longer
// does anything is noticed.
type coverage struct {
	mu sync.Mutex // guards n
	n  map[string]int
}

func (c *coverage) add(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[what] += n
}

func (c *coverage) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lines []string
	for _, what := range slices.Sorted(maps.Keys(c.n)) {
		lines = append(lines, fmt.Sprintf("%7d %s", c.n[what], what))
	}
	return strings.Join(lines, "\n")
}

// atLeast fails the test where too little was reached by so many histories.
func (c *coverage) atLeast(t *testing.T, histories int) {
	t.Helper()
	for what, want := range inAThousand {
		if got := c.n[what]; got*1000 < want*histories {
			t.Errorf("%d histories reached %d %s, want %d", histories, got, what, want*histories/1000)
		}
	}
}

// inAThousand is how much a thousand histories reach, at the least.
var inAThousand = map[string]int{
	scheduledRuns: 200, scheduledGaps: 50, scheduledScans: 100, buried: 5, unheard: 60,
	listedGaps: 400, askedAgain: 200, sentAgain: 150, arrivedAgain: 150,
	backfillsEnded: 150, backfilled: 150, backfillsKilled: 20, "backfills: pause": 5, "backfills: resume": 10, "backfills: cancel": 1,
	outages: 60, outagesWithin: 5,
}

// What is counted.
const (
	scheduledRuns   = "runs by schedule"
	scheduledGaps   = "gaps found by them"
	scheduledScans  = "scans by schedule"
	buried          = "tombstones of scans"
	unheard         = "deletes whose webhooks were lost"
	listedGaps      = "events missed that were listed"
	askedAgain      = "webhooks that the provider was asked for again"
	sentAgain       = "webhooks that it sent again"
	arrivedAgain    = "events that reports call sent again"
	backfillsEnded  = "backfills with a report"
	backfilled      = "records repaired by them"
	backfillsKilled = "backfills whose reconciler died"
	outages         = "outages of NATS"
	outagesWithin   = "outages within a run"
)

// count counts what the reports of a history tell.
func (p *play) count() {
	p.reached.add(unheard, p.unheard)
	for _, r := range p.reports {
		byItself := r.Trigger == report.Schedule
		switch {
		case r.Deletes != nil:
			p.reached.add(buried, r.Deletes.Tombstones)
			if byItself {
				p.reached.add(scheduledScans, 1)
			}
		case r.Trigger == report.Backfill:
			p.reached.add(backfillsEnded, 1)
			p.reached.add(backfilled, r.Repaired)
		case byItself:
			p.reached.add(scheduledRuns, 1)
			p.reached.add(scheduledGaps, r.Missed+r.Stale)
		}
		if p.events != "" {
			p.reached.add(listedGaps, r.Missed)
			p.reached.add(arrivedAgain, r.Redelivered)
		}
	}
}
