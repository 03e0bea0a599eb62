package alarm_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/reconciler/internal/alarm"
)

// monday is where histories begin.
var monday = time.Date(2026, 10, 5, 0, 0, 0, 0, time.UTC)

const (
	day  = 24 * time.Hour
	week = 7 * day

	patience = 1.5 // the default
)

// history is the times of events of a source that sends with the given odds in
// each minute.
func history(span time.Duration, odds func(r *rand.Rand, t time.Time) float64) (events []time.Time) {
	r := rand.New(rand.NewPCG(1, 2))
	for t := monday; t.Before(monday.Add(span)); t = t.Add(time.Minute) {
		if r.Float64() < odds(r, t) {
			events = append(events, t)
		}
	}
	return events
}

func working(t time.Time) bool {
	return t.Weekday() != time.Saturday && t.Weekday() != time.Sunday && t.Hour() >= 7 && t.Hour() < 18
}

// Four weeks are learned, two more are lived through as usual, and then the
// source falls silent at the given time of the last Wednesday.
func TestSilenceIsWhatIsNotUsual(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		odds   func(r *rand.Rand, t time.Time) float64
		at     time.Duration // of the day
		within time.Duration // it must be found out
		notIn  time.Duration // and not so soon
	}{
		"every minute":           {func(*rand.Rand, time.Time) float64 { return 1 }, 10 * time.Hour, 7 * time.Minute, 4 * time.Minute},
		"ten times an hour":      {func(*rand.Rand, time.Time) float64 { return 1. / 6 }, 10 * time.Hour, 3 * time.Hour, 40 * time.Minute},
		"twice a day":            {func(*rand.Rand, time.Time) float64 { return 2. / 1440 }, 10 * time.Hour, 10 * day, 2 * day},
		"working hours":          {workingHours, 10 * time.Hour, 2 * time.Hour, 10 * time.Minute},
		"working hours, evening": {workingHours, 20 * time.Hour, 15 * time.Hour, 11 * time.Hour}, // not before they begin again
		"a batch every night":    {nightly, 3 * time.Hour, 2 * day, 22 * time.Hour},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events := history(6*week, tt.odds)
			learned, wrongly := 0, 0
			for i, e := range events {
				if e.Before(monday.Add(4 * week)) {
					learned = i + 1
				}
			}
			usual, ok := alarm.Learn(monday, events[:learned], patience)
			if !ok {
				t.Fatal("four weeks are not enough")
			}
			for i := learned; i < len(events); i++ {
				if usual.Silent(events[i-1], events[i]) {
					wrongly++
				}
			}
			if wrongly > 1 {
				t.Errorf("silent %d times in two weeks as usual, want at most once", wrongly)
			}
			last := monday.Add(5*week + 2*day + tt.at)
			if usual.Silent(last, last.Add(tt.notIn)) {
				t.Errorf("silent after %s", tt.notIn)
			}
			if !usual.Silent(last, last.Add(tt.within)) {
				t.Errorf("not silent after %s", tt.within)
			}
		})
	}
}

func workingHours(_ *rand.Rand, t time.Time) float64 {
	if working(t) {
		return 0.3
	}
	return 0
}

// nightly sends for ten minutes from some time between 2:00 and 2:20 on.
func nightly(_ *rand.Rand, t time.Time) float64 {
	r := rand.New(rand.NewPCG(uint64(t.YearDay()), 7))
	if begin := 120 + r.IntN(20); t.Hour()*60+t.Minute() >= begin && t.Hour()*60+t.Minute() < begin+10 {
		return 1
	}
	return 0
}

// An outage in what was learned doesn't make the next one usual.
func TestAnOutageIsNotLearned(t *testing.T) {
	t.Parallel()
	events := history(4*week, func(_ *rand.Rand, t time.Time) float64 {
		if out := t.Sub(monday); out > 10*day && out < 11*day || out > 20*day && out < 20*day+5*time.Hour {
			return 0
		}
		return 0.5
	})
	usual, ok := alarm.Learn(monday, events, patience)
	last := events[len(events)-1]
	if !ok || !usual.Silent(last, last.Add(time.Hour)) {
		t.Errorf("an hour is not silent for a source of 30 events an hour (learned: %t)", ok)
	}
}

func TestTooLittleIsNotLearnedFrom(t *testing.T) {
	t.Parallel()
	always := func(*rand.Rand, time.Time) float64 { return 1 }
	tests := map[string]struct {
		events []time.Time
		want   bool
	}{
		"nothing":            {nil, false},
		"two days":           {history(2*day, always), false},
		"three days":         {history(3*day+time.Hour, always), true},
		"49 minutes":         {append(history(48*time.Minute, always), monday.Add(10*day)), false},
		"50 minutes":         {append(history(49*time.Minute, always), monday.Add(10*day)), true},
		"50 events, at once": {append(make([]time.Time, 0), repeat(monday, 50)...), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, ok := alarm.Learn(monday, tt.events, patience); ok != tt.want {
				t.Errorf("Learn() of %d events = %t, want %t", len(tt.events), ok, tt.want)
			}
		})
	}
}

func repeat(t time.Time, n int) (all []time.Time) {
	for range n {
		all = append(all, t)
	}
	return all
}
