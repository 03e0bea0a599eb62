package alarm

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/report"
)

// Learned is a usual rate.
type Learned struct{ u usual }

// Learn finds the usual rate in the times of events.
func Learn(known time.Time, events []time.Time, patience float64) (Learned, bool) {
	var minutes []minute
	for _, t := range events {
		if m := minuteOf(t); len(minutes) == 0 || minutes[len(minutes)-1] != m {
			minutes = append(minutes, m)
		}
	}
	u, ok := learn(minuteOf(known), minutes, patience)
	return Learned{u}, ok
}

// Silent reports whether it is unusual that nothing came in between.
func (l Learned) Silent(from, to time.Time) bool { return l.u.silent(minuteOf(from), minuteOf(to)) }

// Sight is what is seen of one source at one time.
type Sight struct {
	Now, Last     time.Time
	Known, Silent bool
	Missed        int
}

// Judge says what a silence is after it was something before, and what is to be
// done: probe, raised or cleared.
func Judge(was *cursor.Silence, s Sight, probeEvery time.Duration) (*cursor.Silence, string) {
	next, d := judge(was, sight{now: s.Now, last: s.Last, known: s.Known, silent: s.Silent, missed: &missed{records: s.Missed}}, probeEvery)
	return next, d.text()
}

func (d deed) text() string {
	var words []string
	for word, set := range map[string]bool{"cleared": d.cleared, "raised": d.raised, "probe": d.probe} {
		if set {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// MissedSince counts the records that reports say have changed, and says what to
// do.
func MissedSince(reports []report.Report, since time.Time) (int, string) {
	m := newMissed()
	for _, r := range reports {
		m.add([]report.Report{r}, since)
	}
	return m.records, m.advice()
}

// Refusals says whether too many of all requests are refused.
func Refusals(was *cursor.Refused, now time.Time, all int64, reasons map[string]int64, c pipeline.Refused) (*cursor.Refused, string) {
	next, d := refusals(was, now, all, reasons, c)
	return next, d.text()
}

// Looks returns what looks at the sources once, as the replica that has the lease
// does.
func (a *Alarms) Looks(ctx context.Context) (func() error, error) {
	l, err := a.newLook(ctx)
	if err != nil {
		return nil, err
	}
	return func() error { return l.look(ctx) }, nil
}
