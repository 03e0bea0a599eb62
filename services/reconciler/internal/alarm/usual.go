package alarm

import (
	"slices"
	"time"
)

// minute is a minute of time, counted from 1970 on.
type minute int64

func minuteOf(t time.Time) minute { return minute(t.Unix() / 60) }

func (m minute) time() time.Time { return time.Unix(int64(m)*60, 0).UTC() }

const (
	hour minute = 60
	day         = 24 * hour
	week        = 7 * day
)

// What must be known of a source before anything is unusual.
const (
	leastMinutes = 50      // with events
	leastTime    = 3 * day // from the first to the last
)

// overdue is how many events, at the usual rate, must be missing at least.
const overdue = 5

// usual is the usual rate of a source: how many minutes with events it has, on
// average, in each hour of the week, or of the day while less than two weeks are
// known.
//
// A gap is measured in the minutes with events that the rate lets expect in it,
// not in time: so nights and weekends, in which nothing is usual, make no gap
// longer, and bursts count by the minutes that they fill. A gap is unusual when
// it is longer than those that the source makes about once a week by itself,
// times the patience.
//
// Its bounds: a source that changes its hours (with the clocks, in spring) seems
// silent for an hour until the new ones have been learned; one that sends a few
// times a day is missed only after days. Neither is an alarm by itself: that
// takes records that have changed.
type usual struct {
	rates []float64 // minutes with events for each minute of the hour
	limit float64   // a gap longer than it is unusual
}

// learn finds the usual rate in minutes with events, which are in order and
// follow the beginning of what is known. It reports whether they are enough.
func learn(known minute, events []minute, patience float64) (usual, bool) {
	if len(events) < leastMinutes {
		return usual{}, false
	}
	last := events[len(events)-1]
	if last-known < leastTime {
		return usual{}, false
	}
	cycle := day
	if last-known >= 2*week {
		cycle = week
	}
	counts, seen := make([]float64, cycle/hour), make([]float64, cycle/hour)
	for _, m := range events[:len(events)-1] { // the last one ends the time that is known
		counts[slot(m, cycle)]++
	}
	for m := known; m < last; {
		end := min(last, (m/hour+1)*hour)
		seen[slot(m, cycle)] += float64(end - m)
		m = end
	}
	u := usual{rates: counts}
	for i := range u.rates {
		u.rates[i] /= max(1, seen[i])
	}
	gaps := make([]float64, 0, len(events)-1)
	for i, m := range events[1:] {
		gaps = append(gaps, u.expected(events[i], m))
	}
	slices.Sort(gaps)
	weekly := max(0, len(gaps)-1-int((last-known)/week)) // about once a week there is a longer one
	u.limit = max(overdue, patience*gaps[weekly])
	return u, true
}

func slot(m, cycle minute) minute { return m % cycle / hour }

// expected is how many minutes with events the usual rate has from one minute
// to another.
func (u usual) expected(from, to minute) (n float64) {
	cycle := minute(len(u.rates)) * hour
	for m := from; m < to; {
		end := min(to, (m/hour+1)*hour)
		n += u.rates[slot(m, cycle)] * float64(end-m)
		m = end
	}
	return n
}

// silent reports whether it is unusual that nothing came from one minute to
// another.
func (u usual) silent(from, to minute) bool { return u.expected(from, to) > u.limit }
