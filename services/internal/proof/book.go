package proof

import (
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

// fate is what became of a webhook at its receiver, repeats included.
type fate struct {
	attempts, refusals int
	taken              bool
	dueAt              time.Time // of one that was taken
	events             int       // in the destination
}

// refused tells whether every attempt was answered 4xx: then it must be nowhere.
// An attempt without an answer, or with another one, may have been stored. What
// isn't known wasn't refused.
func (f *fate) refused() bool { return f != nil && f.attempts == f.refusals }

// fatesOf tells what became of each webhook, by its id.
func fatesOf(book simulator.Book) map[string]*fate {
	all := make([]fate, 0, len(book.Deliveries)) // in one piece, for there may be a million
	fates := make(map[string]*fate, len(book.Changes))
	for _, d := range book.Deliveries {
		f := fates[d.ID]
		if f == nil {
			all = append(all, fate{})
			f = &all[len(all)-1]
			fates[d.ID] = f
		}
		f.attempts++
		if d.Status >= 400 && d.Status < 500 {
			f.refusals++
		}
		if d.Kind == simulator.Genuine && d.Taken() {
			f.taken, f.dueAt = true, d.DueAt
		}
	}
	return fates
}

// waitingOf are the records that wait for an operator: those that the source
// refuses to show, and those whose webhook, or what a list told of them, is a dead
// letter.
func waitingOf(book simulator.Book, dead map[string]bool) map[string]bool {
	waiting := map[string]bool{}
	for _, c := range book.Changes {
		if c.Poisoned || dead[c.DeliveryID] || dead[c.RecordID] {
			waiting[c.RecordID] = true
		}
	}
	return waiting
}

// versions are the times of each record's changes, in order.
type versions map[string][]time.Time

func versionsOf(book simulator.Book) versions {
	had := versions{}
	for _, c := range book.Changes {
		had[c.RecordID] = append(had[c.RecordID], c.At)
	}
	return had
}

// includes reports whether a record had a version.
func (v versions) includes(record, version string) bool {
	_, found := slices.BinarySearchFunc(v[record], version, func(at time.Time, version string) int {
		return strings.Compare(string(event.TimeVersion(at)), version)
	})
	return found
}
