package alarm

import (
	"slices"
	"time"

	"github.com/tercelhq/tercel/pkg/intake"
)

// slack is how long after a minute what came in it may not be known: replicas
// store once a minute, and clocks differ.
const slack = intake.Every + time.Minute

// book is what replicas of the ingress have told.
type book struct {
	known  minute // the first minute that is
	events map[string][]minute
	last   map[string]time.Time // when the last events came
	recent []intake.Span
}

func newBook() *book {
	return &book{events: map[string][]minute{}, last: map[string]time.Time{}}
}

// add takes in a span, of any replica.
func (b *book) add(s intake.Span, recent time.Time) {
	if from := minuteOf(s.From); b.known == 0 || from < b.known {
		b.known = from
	}
	if s.To.After(recent) {
		b.recent = append(b.recent, s)
	}
	for source, counts := range s.Sources {
		if counts.Accepted() == 0 {
			continue
		}
		m, events := minuteOf(s.To), b.events[source]
		if i, there := slices.BinarySearch(events, m); !there {
			b.events[source] = slices.Insert(events, i, m)
		}
		if s.To.After(b.last[source]) {
			b.last[source] = s.To
		}
	}
}

// prune leaves out what is older than the times that are looked at. What is
// known of a source reaches back from its last event, so that it is not forgotten
// in a long silence.
func (b *book) prune(learn time.Duration, recent time.Time) {
	b.recent = slices.DeleteFunc(b.recent, func(s intake.Span) bool { return !s.To.After(recent) })
	for source, events := range b.events {
		first, _ := slices.BinarySearch(events, minuteOf(b.last[source].Add(-learn)))
		b.events[source] = slices.Delete(events, 0, first)
	}
}

// knownOf is where what is known of a source begins.
func (b *book) knownOf(source string, learn time.Duration) minute {
	return max(b.known, minuteOf(b.last[source].Add(-learn)))
}

// answered sums up what became of the recent requests of a source.
func (b *book) answered(source string) (all int64, refused intake.Counts) {
	sum := intake.Counts{}
	for _, s := range b.recent {
		for outcome, n := range s.Sources[source] {
			sum[outcome] += n
			all += n
		}
	}
	return all, sum.Refused()
}
