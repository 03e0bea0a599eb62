package sink_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"

	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// fold is the model: it joins events into records one by one.
func fold(rows []row) map[string]record {
	records := map[string]record{}
	for _, r := range rows {
		had, ok := records[r.RecordID]
		now := had
		switch {
		case r.Deleted && r.ObservedAt >= had.deletedAt:
			if had.version == "" && (!ok || r.ObservedAt > had.deletedAt || r.EventID > had.eventID) {
				now.eventID = r.EventID
			}
			now.deletedAt = r.ObservedAt
		case !r.Deleted && (had.version == "" || cmp.Or(cmp.Compare(r.Version, had.version),
			cmp.Compare(r.ObservedAt, had.observedAt), cmp.Compare(r.EventID, had.eventID)) > 0):
			now = record{r.Version, r.ObservedAt, had.deletedAt, r.EventID, string(r.Record)}
		}
		records[r.RecordID] = now
	}
	return records
}

// history is a random sequence of creates, updates, deletions, revivals and
// repeats over a few records, with many ties.
func history(rng *rand.Rand) []enriched {
	var events []enriched
	for i := range 1 + rng.IntN(24) {
		eventID, id := fmt.Sprint("evt-", i), fmt.Sprint(rng.IntN(3))
		switch rng.IntN(5) {
		case 0:
			events = append(events, tombstone(eventID, id, 10+rng.IntN(6)))
		case 1:
			if len(events) > 0 {
				events = append(events, events[rng.IntN(len(events))])
			}
		default:
			events = append(events, update(eventID, id, rng.IntN(5), 10+rng.IntN(6)))
		}
	}
	return events
}

func rowsOf(events []enriched) []row {
	rows := make([]row, len(events))
	for i, e := range events {
		rows[i] = row{
			EventID: e.Event.ID, RecordID: e.RecordID, Version: string(e.Event.Version), ObservedAt: delivery.Time(e.ObservedAt),
			Deleted: e.Event.Deleted, Record: e.Record,
		}
	}
	return rows
}
