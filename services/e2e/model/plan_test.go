package model_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
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
	crash     verb = "crash"     // kills a service at one of its next messages
	down      verb = "down"      // kills a service until the step up, or the end
	up        verb = "up"
	setClock  verb = "clock" // sets the reconciler's clock
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
	for_    time.Duration // to pass, or by which the clock is off
	part    string
	at      string // the subjects of the messages to die at begin so
	after   int    // so many of them
	page    int    // of a run, at which within is done
	early   bool   // the page is as it was before that
	within  []step
}

func (s step) String() string {
	switch s.do {
	case change, late, remove:
		return fmt.Sprintf("%s %q, webhook %s", s.do, s.id, s.webhook)
	case pass, setClock:
		return fmt.Sprintf("%s %s", s.do, s.for_)
	case crash:
		return fmt.Sprintf("crash %s after %d messages to %q", s.part, s.after, s.at+">")
	case down, up:
		return fmt.Sprintf("%s %s", s.do, s.part)
	case reconcile:
		if len(s.within) == 0 {
			return "reconcile"
		}
		when := "before"
		if s.early {
			when = "while"
		}
		return fmt.Sprintf("reconcile, and %s page %d is answered:\n  %s", when, s.page, strings.ReplaceAll(text(s.within), "\n", "\n  "))
	}
	return string(s.do)
}

func text(steps []step) string {
	lines := make([]string, len(steps))
	for i, s := range steps {
		lines[i] = s.String()
	}
	return strings.Join(lines, "\n")
}

// messages are what each service sends that it is worth dying at, beside any.
var messages = map[string][]string{
	"ingress":    {"tercel.raw."},
	"enricher":   {"tercel.enriched.", "$JS.ACK."},
	"sink":       {"$JS.ACK."},
	"reconciler": {"tercel.raw.", "tercel.raw.", "$KV.tercel_cursors.", "$KV.tercel_ledger.", "tercel.reports."},
}

var services = []string{"ingress", "enricher", "sink", "reconciler", "reconciler"}

var spans = []time.Duration{time.Second, 20 * time.Second, time.Minute, 3 * time.Minute, 8 * time.Minute, 30 * time.Minute}

var skews = []time.Duration{0, 0, -time.Hour, -3 * time.Minute, 90 * time.Second, 7 * time.Minute, 26 * time.Hour}

// generate makes a history of a seed.
func generate(seed uint64) []step {
	r := rand.New(rand.NewPCG(seed, 0x7e5ce1))
	// A few records, of which each sees something happen.
	all := slices.Clone(ids)
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	g := generator{r, all[:2+r.IntN(6)]}
	steps := make([]step, 5+g.IntN(14))
	for i := range steps {
		steps[i] = g.step()
	}
	return steps
}

type generator struct {
	*rand.Rand
	ids []string
}

func pick[T any](g generator, from []T) T { return from[g.IntN(len(from))] }

func (g generator) step() step {
	switch n := g.IntN(100); {
	case n < 50:
		return g.eventful()
	case n < 62:
		return step{do: pass, for_: pick(g, spans)}
	case n < 77:
		s := step{do: reconcile}
		if g.IntN(2) == 0 {
			s.page, s.early = g.IntN(3), g.IntN(2) == 0
			for range 1 + g.IntN(3) {
				s.within = append(s.within, g.brief())
			}
		}
		return s
	case n < 87:
		part := pick(g, services)
		s := step{do: crash, part: part, after: g.IntN(30)}
		if g.IntN(4) > 0 {
			s.at, s.after = pick(g, messages[part]), g.IntN(3)
		}
		return s
	case n < 90:
		return step{do: down, part: pick(g, services)}
	case n < 92:
		return step{do: up, part: pick(g, services)}
	case n < 98:
		return step{do: setClock, for_: pick(g, skews)}
	default:
		return step{do: drain}
	}
}

// eventful is something that happens at the provider.
func (g generator) eventful() step {
	switch n := g.IntN(20); {
	case n < 12:
		return step{do: change, id: pick(g, g.ids), webhook: pick(g, []fate{sent, sent, twice, held, lost, lost})}
	case n < 14:
		return step{do: late, id: pick(g, g.ids), webhook: pick(g, []fate{sent, lost, lost, lost})}
	case n < 18:
		return step{do: remove, id: pick(g, g.ids), webhook: pick(g, []fate{sent, sent, twice, held})}
	default:
		return step{do: release}
	}
}

// brief is what may happen while a page is answered: much less time passes than
// windows leave to settle.
func (g generator) brief() step {
	switch n := g.IntN(20); {
	case n < 14:
		return g.eventful()
	case n < 17:
		return step{do: drain}
	default:
		return step{do: pass, for_: 5 * time.Second}
	}
}
