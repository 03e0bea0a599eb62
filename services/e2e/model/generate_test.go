package model_test

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tercelhq/tercel/services/internal/control"
)

// messages are what each service sends that it is worth dying at, beside any.
var messages = map[string][]string{
	"ingress":  {"tercel.raw."},
	"enricher": {"tercel.enriched.", "$JS.ACK."},
	"sink":     {"$JS.ACK."},
	"reconciler": {
		"tercel.raw.", "tercel.raw.", "$KV.tercel_cursors.", "$KV.tercel_ledger.", "tercel.reports.",
		"$KV.tercel_cursors._backfill.", "$KV.tercel_cursors._deletes.",
	},
}

var services = []string{"ingress", "enricher", "sink", "reconciler", "reconciler"}

var spans = []time.Duration{time.Second, 20 * time.Second, time.Minute, 3 * time.Minute, 8 * time.Minute, 30 * time.Minute}

var skews = []time.Duration{0, 0, -time.Hour, -3 * time.Minute, 90 * time.Second, 7 * time.Minute, 26 * time.Hour}

// generate makes the history of a seed, in the setting of that seed.
func generate(seed uint64) []step {
	r := rand.New(rand.NewPCG(seed, 0x7e5ce1))
	// A few records, of which each sees something happen.
	all := slices.Clone(ids)
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	g := generator{r, settingOf(seed), all[:2+r.IntN(6)]}
	steps := make([]step, 5+g.IntN(14))
	for i := range steps {
		steps[i] = g.step()
	}
	return steps
}

type generator struct {
	*rand.Rand
	setting
	ids []string
}

func pick[T any](g generator, from []T) T { return from[g.IntN(len(from))] }

func (g generator) step() step {
	switch n := g.IntN(100); {
	case n < 45:
		return g.eventful()
	case n < 55:
		return step{do: pass, for_: pick(g, spans)}
	case n < 70:
		return g.busy(g.run())
	case n < 75:
		return g.backfill()
	case n < 85:
		part := pick(g, services)
		s := step{do: crash, part: part, after: g.IntN(30)}
		if g.IntN(4) > 0 {
			s.at, s.after = pick(g, messages[part]), g.IntN(3)
		}
		return s
	case n < 88:
		return step{do: down, part: pick(g, services)}
	case n < 90:
		return step{do: up, part: pick(g, services)}
	case n < 97:
		return step{do: setClock, for_: pick(g, skews)}
	case n < 99:
		return step{do: drain}
	default:
		return step{do: outage, id: pick(g, g.ids)}
	}
}

// run is a run of any kind that there is.
func (g generator) run() step {
	n := g.IntN(8)
	switch {
	case n < 3 && g.scheduled:
		return step{do: schedule}
	case n > 5 && g.deletes:
		return step{do: scan, byHand: n == 7}
	default:
		return step{do: reconcile}
	}
}

// busy has things happen within every other run.
func (g generator) busy(s step) step {
	if g.IntN(2) == 0 {
		s.page, s.early = g.IntN(3), g.IntN(2) == 0
		for range 1 + g.IntN(3) {
			s.within = append(s.within, g.brief())
		}
	}
	return s
}

func (g generator) backfill() step {
	if g.IntN(5) < 2 {
		return g.steer()
	}
	s := step{do: fill, fill: backfill{old: g.IntN(3) > 0, slices: g.IntN(4), dry: g.IntN(8) == 0}}
	if g.events != "" {
		s.fill.slices = min(s.fill.slices, 1)
	}
	s = g.busy(s)
	if len(s.within) > 0 && g.IntN(2) == 0 {
		s.within[0] = g.steer()
	}
	return s
}

func (g generator) steer() step {
	return step{do: steer, action: pick(g, []control.Action{pause, pause, control.Resume, control.Resume, control.Cancel})}
}

// eventful is something that happens at the provider.
func (g generator) eventful() step {
	s := step{do: release}
	n := g.IntN(20)
	if g.deletes && n == 11 {
		n = 14 // more is deleted where that may be lost
	}
	switch {
	case n < 12:
		s = step{do: change, id: pick(g, g.ids), webhook: pick(g, []fate{sent, sent, twice, held, lost, lost})}
	case n < 14:
		s = step{do: late, id: pick(g, g.ids), webhook: pick(g, []fate{sent, lost, lost, lost})}
	case n < 18:
		fates := []fate{sent, sent, twice, held}
		if g.deletes || g.events != "" { // else nothing ever tells
			fates = []fate{sent, twice, held, lost, lost, lost, lost}
		}
		s = step{do: remove, id: pick(g, g.ids), webhook: pick(g, fates)}
	}
	if g.redelivers && s.do != release {
		s.again = pick(g, []fate{sent, sent, sent, lost, held})
	}
	return s
}

// brief is what may happen while a page is answered: much less time passes than
// windows leave to settle.
func (g generator) brief() step {
	switch n := g.IntN(40); {
	case n < 27:
		return g.eventful()
	case n < 32:
		return step{do: drain}
	case n < 37:
		return step{do: pass, for_: 5 * time.Second}
	case n < 39:
		return g.steer()
	default:
		return step{do: outage, id: pick(g, g.ids)}
	}
}
