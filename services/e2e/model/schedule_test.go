package model_test

import (
	"context"
	"fmt"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/services/internal/control"
)

// farAway is a run that no history waits for: the clock was set back since the
// last one began.
const farAway = 2 * scanEvery

// due lets time pass until the schedule wants a run, or a scan for orphans, and
// waits until it has ended. The reconciler is started anew, since it looks at
// the clock only now and then: every 30 seconds of its own.
func (p *play) due(work cursor.Work) error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	e, err := p.cursor(work)
	if err != nil || p.parts["reconciler"].isDown() {
		return err
	}
	wait := every
	if work != "" {
		wait = scanEvery
	}
	left := e.StartedAt.Add(wait + wait/10).Sub(p.watch.now())
	if left > farAway {
		return nil
	}
	p.clock.pass(max(0, left))
	begins := p.watch.now()
	p.restart()
	var again pauses
	stuck := nudge{play: p}
	for {
		died, _, err := p.parts["reconciler"].up(ctx)
		if err != nil || died == nil {
			return err
		}
		if e, err = p.cursor(work); err != nil {
			return err
		}
		if !e.StartedAt.Before(begins) && !e.InHand() {
			return nil
		}
		stuck.maybe()
		if err := again.wait(ctx); err != nil {
			return fmt.Errorf("no run by schedule: %w", err)
		}
	}
}

// scan looks for orphans, by schedule or by hand.
func (p *play) scan(byHand bool) error {
	if !byHand {
		return p.due(cursor.Deletes)
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	died, id, err := p.begin(ctx, control.Request{Deletes: true, Tombstone: true})
	if err != nil || id == "" {
		return err
	}
	_, err = p.reported(ctx, died, id, cursor.Deletes)
	return err
}

// maxScans is how many scans may be needed until one finds the list whole.
const maxScans = 10

// bury has scheduled scans look for orphans until one has read the whole list,
// and asked for all that was held until now and not in it. One may be under way
// already that began before.
func (p *play) bury() error {
	now := p.clock.now()
	p.clock.pass(max(0, -p.watch.skew()) + settle + exact)
	for range maxScans {
		before, err := p.cursor(cursor.Deletes)
		if err != nil {
			return err
		}
		if left := before.StartedAt.Sub(p.watch.now()); left > 0 { // the clock was set back
			p.clock.pass(left)
		}
		if err := p.due(cursor.Deletes); err != nil {
			return err
		}
		if err := p.readReports(); err != nil {
			return err
		}
		after, err := p.cursor(cursor.Deletes)
		if err != nil {
			return err
		}
		if r := p.reports[after.Last.Run]; r.Complete && r.Run != before.Last.Run && !r.To.Before(now) {
			return p.drained()
		}
	}
	return fmt.Errorf("no scan is complete, of %d", maxScans)
}
