package model_test

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// finish has everything up again, sends what was held back, reconciles to the
// end, and holds what is delivered against the book.
func (p *play) finish() error {
	for _, part := range p.parts {
		part.raise()
	}
	// Some webhooks only come when all is reconciled.
	var after []happened
	waiting := p.held
	p.held = nil
	for i, n := range waiting {
		if n.Kind == "order.removed" || i%2 == 0 {
			if err := p.post(n); err != nil {
				return err
			}
		} else {
			after = append(after, n)
		}
	}
	for _, end := range p.ends() {
		if err := end(); err != nil {
			return err
		}
	}
	if err := p.compare("reconciled"); err != nil {
		return err
	}
	for _, n := range after {
		if err := p.post(n); err != nil {
			return err
		}
	}
	if err := p.drained(); err != nil {
		return err
	}
	if err := p.compare("and the last webhooks have come"); err != nil {
		return err
	}
	if err := p.readReports(); err != nil {
		return err
	}
	p.count()
	return errors.Join(p.honest(), p.heard())
}

// ends are what brings a history to its end, in one order or another.
func (p *play) ends() []func() error {
	all := []func() error{p.toTheEnd}
	if p.deletes {
		all = append(all, p.bury)
	}
	if p.sent%2 == 0 {
		return slices.Insert(all, 0, p.fillUp)
	}
	return append(all, p.fillUp)
}

// toTheEnd lets all changes settle and makes runs until all of them lie in a
// window that is complete.
func (p *play) toTheEnd() error {
	if err := p.drained(); err != nil {
		return err
	}
	last := p.book.changed()
	if p.scheduled {
		if err := p.due(""); err != nil {
			return err
		}
	}
	p.clock.pass(max(0, last.Sub(p.clock.now())) + max(0, -p.watch.skew()) + settle + 2*time.Second)
	for range maxRuns {
		r, err := p.run()
		switch {
		case err != nil:
			return err
		case r.Error != "":
			return fmt.Errorf("run %s failed: %s", r.Run, r.Error)
		case r.Complete && r.CaughtUp && !r.To.Before(last):
			return p.drained()
		}
		if err := p.drained(); err != nil {
			return err
		}
	}
	return fmt.Errorf("not complete up to %s after %d runs", last, maxRuns)
}
