package model_test

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/tercelhq/tercel/services/internal/control"
)

// verb is what a step does.
type verb string

const (
	change    verb = "change"    // makes, changes or restores a record
	late      verb = "late"      // does so with a time that has passed, as one that is committed late
	remove    verb = "remove"    // deletes one
	release   verb = "release"   // sends a webhook that was held back
	pass      verb = "pass"      // lets time pass
	drain     verb = "drain"     // waits until all that was stored is delivered
	reconcile verb = "reconcile" // makes a run
	schedule  verb = "schedule"  // lets time pass until the schedule wants a run
	scan      verb = "scan"      // or a scan for orphans
	fill      verb = "backfill"  // starts a backfill
	steer     verb = "steer"     // pauses, resumes or cancels one
	crash     verb = "crash"     // kills a service at one of its next messages
	down      verb = "down"      // kills a service until the step up, or the end
	up        verb = "up"
	outage    verb = "outage" // stops NATS, and starts it again
	setClock  verb = "clock"  // sets the reconciler's clock
)

// fate is what becomes of a change's webhook.
type fate string

const (
	sent  fate = "sent"
	twice fate = "sent twice"
	held  fate = "held"
	lost  fate = "lost"
)

// step is one step of a history. Each can be left out without making the others
// impossible.
type step struct {
	do      verb
	id      string
	webhook fate
	again   fate          // of one that the provider is asked for again; held if it refuses
	for_    time.Duration // to pass, or by which the clock is off
	part    string
	at      string // the subjects of the messages to die at begin so
	after   int    // so many of them
	byHand  bool   // a scan
	fill    backfill
	action  control.Action
	page    int  // of a run, at which within is done
	early   bool // the page is as it was before that
	within  []step
}

// backfill is one to start.
type backfill struct {
	old    bool // of the records from before what is listed by itself, else of the last hours
	slices int
	dry    bool
}

func (s step) String() string {
	switch s.do {
	case change, late, remove:
		text := fmt.Sprintf("%s %q, webhook %s", s.do, s.id, s.webhook)
		if s.again != "" {
			text += ", and " + string(s.again) + " when asked for again"
		}
		return text
	case pass, setClock:
		return fmt.Sprintf("%s %s", s.do, s.for_)
	case crash:
		return fmt.Sprintf("crash %s after %d messages to %q", s.part, s.after, s.at+">")
	case down, up:
		return fmt.Sprintf("%s %s", s.do, s.part)
	case outage:
		return fmt.Sprintf("outage, and meanwhile change %q", s.id)
	case steer:
		return fmt.Sprintf("%s the backfill", s.action)
	case reconcile, schedule:
		return string(s.do) + s.inside()
	case scan:
		return map[bool]string{true: "scan by hand", false: "scan"}[s.byHand] + s.inside()
	case fill:
		return fmt.Sprintf("backfill %+v", s.fill) + s.inside()
	}
	return string(s.do)
}

// inside is what happens within a step.
func (s step) inside() string {
	if len(s.within) == 0 {
		return ""
	}
	when := cmp.Or(map[bool]string{true: "while"}[s.early], "before")
	return fmt.Sprintf(", and %s page %d is answered:\n  %s", when, s.page, strings.ReplaceAll(text(s.within), "\n", "\n  "))
}

func text(steps []step) string {
	lines := make([]string, len(steps))
	for i, s := range steps {
		lines[i] = s.String()
	}
	return strings.Join(lines, "\n")
}
