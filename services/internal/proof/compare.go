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

// Verdict is what a comparison of both ends found.
type Verdict struct {
	// Lost says of each record whose newest version is not in the destination
	// what is wrong with it.
	Lost []string
	// Undelivered are the ids of webhooks that were answered 2xx without an
	// event in the destination, Doubled of those with several.
	Undelivered, Doubled []string
	// Forged are the delivery ids of forgeries that were answered 2xx or are in
	// the destination.
	Forged map[string]bool
	// Repaired counts the dropped changes whose version came to the destination
	// by reconciliation.
	Repaired int
	// Absorbed counts repeats that were answered 2xx and whose event is in the
	// destination exactly once.
	Absorbed int
	// Took are the times from sending a webhook that was taken at once to its
	// event in the destination, sorted. Replayed ones waited for an operator.
	Took []time.Duration

	byDelivery map[string][]farEvent
}

// Compare holds the destination against the provider's book and records.
// Without healed, records that the source refuses to show are left out.
func Compare(book simulator.Book, newest map[string]simulator.Record, far FarEnd, healed bool) Verdict {
	v := Verdict{Forged: map[string]bool{}, byDelivery: map[string][]farEvent{}}
	for _, e := range far.events {
		if e.forged {
			v.Forged[cmp.Or(e.deliveryID, e.id)] = true
		}
		if e.deliveryID != "" {
			v.byDelivery[e.deliveryID] = append(v.byDelivery[e.deliveryID], e)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(newest)) {
		want := newest[id]
		if want.Poisoned && !healed {
			continue
		}
		if got, ok := far.records[id]; !ok {
			v.Lost = append(v.Lost, id+" is not in the destination")
		} else if fault := differs(want, got); fault != "" {
			v.Lost = append(v.Lost, id+" "+fault)
		}
	}
	v.checkWebhooks(book, healed)
	v.Repaired, v.Took = repaired(book, far), v.latencies(book)
	return v
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

func (v *Verdict) checkWebhooks(book simulator.Book, healed bool) {
	waits := map[string]bool{}
	if !healed {
		for _, id := range Poisoned(book) {
			waits[id] = true
		}
	}
	for _, d := range book.Deliveries {
		switch n := len(v.byDelivery[d.ID]); {
		case !d.Taken():
		case d.Kind == simulator.Forged:
			v.Forged[d.ID] = true
		case d.Kind == simulator.Duplicate && n == 1:
			v.Absorbed++
		case d.Kind != simulator.Genuine || waits[d.ID]:
		case n == 0:
			v.Undelivered = append(v.Undelivered, d.ID)
		case n > 1:
			v.Doubled = append(v.Doubled, d.ID)
		}
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
		if e.origin == string(event.Reconcile) || e.origin == string(event.Backfill) {
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

// latencies are the times from sending a webhook that was taken at once to its
// event in the destination, sorted. Replayed ones waited for an operator.
func (v Verdict) latencies(book simulator.Book) (took []time.Duration) {
	for _, d := range book.Deliveries {
		if d.Kind != simulator.Genuine || !d.Taken() || d.Attempt != 1 {
			continue
		}
		for _, e := range v.byDelivery[d.ID] {
			if e.origin == string(event.Webhook) {
				took = append(took, e.writtenAt.Sub(d.SentAt))
			}
		}
	}
	slices.Sort(took)
	return took
}
