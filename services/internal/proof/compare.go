package proof

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

// Verdict is what a comparison of both ends found. Each fault is told in a
// sentence that begins with its id.
type Verdict struct {
	// Lost are the records whose newest version is not in the destination.
	Lost []string
	// Undelivered are the webhooks that were answered 2xx and are neither in the
	// destination nor in an open dead letter that says all.
	Undelivered []string
	// Waiting are those that are only in an open dead letter, of a comparison that is
	// made after the source has healed and dead letters were replayed.
	Waiting []string
	// Doubled are the webhooks that were taken and have several events in the
	// destination, and effects that the destination saw again.
	Doubled []string
	// Backward are the records whose version in the destination went back, or that
	// came back there although the source had deleted them.
	Backward []string
	// Undone are the events in the destination that were changed or removed.
	Undone []string
	// Invented are the events in the destination of versions that no record had,
	// and deletions there of records that the source had not deleted.
	Invented []string
	// Refused are the webhooks that were refused, or are forged, and are
	// somewhere all the same. Forgeries that were answered 2xx are among them.
	Refused []string
	// Contextless are the dead letters that don't say all.
	Contextless []string

	// Accepted counts the webhooks that were answered 2xx, Delivered those of
	// them that are in the destination, and DeadLettered those that are only in
	// an open dead letter.
	Accepted, Delivered, DeadLettered int
	// Letters counts the dead letters, open or not.
	Letters int
	// Repaired counts the dropped changes whose version came to the destination
	// by reconciliation.
	Repaired int
	// Absorbed counts repeats that were answered 2xx and whose event is in the
	// destination exactly once.
	Absorbed int
	// Took are the times from when a webhook that was taken was due to be sent to its
	// event in the destination, sorted, however often it had to be sent. Replayed ones
	// are left out: they waited for an operator.
	Took []time.Duration
}

// Compare holds the destination against the provider's book and records.
// Without healed, records that the source refuses to show are left out, and those
// of which an open dead letter says something that nobody may know without it,
// such as that they are gone. A million webhooks take about 15 seconds.
func Compare(book simulator.Book, newest map[string]simulator.Record, far FarEnd, healed bool) Verdict {
	fates := fatesOf(book)
	v := Verdict{
		Doubled: slices.Clone(far.effects.doubled), Backward: slices.Clone(far.effects.backward), Undone: far.effects.undone,
		Refused: slices.Clone(far.Streams.refused), Contextless: far.Streams.contextless, Letters: far.Streams.letters,
	}
	var waiting map[string]bool // records
	if !healed {
		waiting = waitingOf(book, far.Streams.dead)
	}
	v.checkRecords(newest, far, waiting)
	v.checkTurns(book, far.effects.turns)
	v.checkEvents(book, fates, far)
	v.checkWebhooks(book, fates, far.Streams.dead, healed)
	v.Repaired = repaired(book, far)
	return v
}

func (v *Verdict) checkRecords(newest map[string]simulator.Record, far FarEnd, waiting map[string]bool) {
	for _, id := range slices.Sorted(maps.Keys(newest)) {
		want := newest[id]
		if waiting[id] {
			continue
		}
		if got, ok := far.records[id]; !ok {
			v.Lost = append(v.Lost, id+" is not in the destination")
		} else if fault := differs(want, got); fault != "" {
			v.Lost = append(v.Lost, id+" "+fault)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(far.records)) {
		if _, ok := newest[id]; !ok {
			v.Invented = append(v.Invented, id+" is a record in the destination only")
		}
	}
}

// differs says how a record in the destination isn't the one at the source.
func differs(want simulator.Record, got farRecord) string {
	version := string(event.TimeVersion(want.UpdatedAt))
	switch {
	case want.Deleted && !got.deleted:
		return "is not deleted in the destination"
	case want.Deleted: // nobody could have fetched its last version
		return ""
	case got.deleted:
		return "is deleted in the destination only"
	case got.version != version:
		return fmt.Sprintf("has version %s in the destination, %s at the source", got.version, version)
	case !sameJSON(want.JSON, []byte(got.record)):
		return "has other content in the destination"
	}
	return ""
}

// sameJSON compares values and not their spelling.
func sameJSON(a, b []byte) bool {
	x, y := jsontext.Value(slices.Clone(a)), jsontext.Value(slices.Clone(b))
	return x.Canonicalize() == nil && y.Canonicalize() == nil && string(x) == string(y)
}

// checkTurns looks at every moment at which a record became deleted in the
// destination, or was it no longer: did the source have it so?
//
// A record that was deleted without cause may come back, and so may one whose tombstone
// is of a question from before its deletion: somebody who asked later may still have
// been shown the record.
func (v *Verdict) checkTurns(book simulator.Book, turns []turn) {
	ends := map[string][]time.Time{} // of records at the source
	for _, c := range book.Changes {
		if c.Deleted {
			ends[c.RecordID] = append(ends[c.RecordID], c.At)
		}
	}
	for _, t := range turns {
		gone := slices.ContainsFunc(ends[t.record], func(end time.Time) bool {
			return !end.After(t.by) && string(event.TimeVersion(end)) > t.version // or it is another life
		})
		at := t.at.UTC().Format(time.RFC3339Nano)
		switch {
		case t.deleted && !gone:
			v.Invented = append(v.Invented, fmt.Sprintf("%s was deleted at %s, and not at the source", t.record, at))
		case !t.deleted && gone:
			v.Backward = append(v.Backward, fmt.Sprintf("%s was deleted and came back with version %s at %s", t.record, cmp.Or(t.version, "none"), at))
		}
	}
}

// checkEvents looks at what is in the destination: whose event it is, and
// whether the source could have shown it.
func (v *Verdict) checkEvents(book simulator.Book, fates map[string]*fate, far FarEnd) {
	had := versionsOf(book)
	for _, e := range far.events {
		f := fates[e.id]
		switch {
		case e.forged || e.webhook && f.refused():
			v.Refused = append(v.Refused, e.id+" is in the destination")
			continue
		case e.webhook && f == nil:
			v.Invented = append(v.Invented, e.id+" is a webhook in the destination only")
			continue
		case e.version != "" && !had.includes(e.recordID, e.version):
			v.Invented = append(v.Invented, fmt.Sprintf("%s has version %s of %s, which the source never had", e.id, e.version, e.recordID))
		}
		if !e.webhook {
			continue
		}
		f.events++
		if e.origin == event.Webhook && f.taken {
			v.Took = append(v.Took, e.writtenAt.Sub(f.dueAt))
		}
	}
	slices.Sort(v.Took)
}

func (v *Verdict) checkWebhooks(book simulator.Book, fates map[string]*fate, dead map[string]bool, healed bool) {
	waits := map[string]bool{}
	if !healed {
		for _, id := range Poisoned(book) {
			waits[id] = true
		}
	}
	for _, d := range book.Deliveries {
		if !d.Taken() {
			continue
		}
		switch f := fates[d.ID]; {
		case d.Kind == simulator.Forged:
			v.Refused = append(v.Refused, fmt.Sprintf("%s was answered %d", d.ID, d.Status))
		case d.Kind == simulator.Duplicate:
			if f.events == 1 {
				v.Absorbed++
			}
		default:
			v.Accepted++
			v.checkTaken(d.ID, f.events, dead[d.ID], waits[d.ID], healed)
		}
	}
}

// checkTaken looks at a webhook that was answered 2xx.
func (v *Verdict) checkTaken(id string, events int, dead, waits, healed bool) {
	switch {
	case events > 1:
		v.Doubled = append(v.Doubled, fmt.Sprintf("%s has %d events in the destination", id, events))
		fallthrough
	case events == 1:
		v.Delivered++
	case dead:
		v.DeadLettered++
		if healed {
			v.Waiting = append(v.Waiting, id+" is not in the destination, but a dead letter")
		}
	case !waits:
		v.Undelivered = append(v.Undelivered, id+" is neither in the destination nor a dead letter that says all")
	}
}

// Poisoned are the ids of webhooks that were taken and speak of records that
// can't be fetched.
func Poisoned(book simulator.Book) (ids []string) {
	poisoned := map[string]bool{}
	for _, c := range book.Changes {
		if c.Poisoned {
			poisoned[c.DeliveryID] = true
		}
	}
	for _, d := range book.Deliveries {
		if d.Kind == simulator.Genuine && d.Taken() && poisoned[d.ID] {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// repaired counts the dropped changes that only a list can have told of.
func repaired(book simulator.Book, far FarEnd) (n int) {
	type version struct{ record, version string }
	found := map[version]bool{}
	for _, e := range far.events {
		if e.origin == event.Reconcile || e.origin == event.Backfill {
			found[version{e.recordID, e.version}] = true
		}
	}
	for _, c := range book.Changes {
		if c.Dropped && found[version{c.RecordID, string(event.TimeVersion(c.At))}] {
			n++
		}
	}
	return n
}
