package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

// demoResult is what a demo counts. What was sent is counted from the
// provider's book, what arrived from the destination; what was dead-lettered
// and replayed is what an operator was shown and did.
type demoResult struct {
	// Sent counts genuine webhooks, Dropped changes whose webhook never was.
	Sent    int `json:"sent"`
	Dropped int `json:"dropped"`
	// ForgedAccepted counts forgeries that were answered 2xx or are in the
	// destination.
	Forged         int `json:"forged"`
	ForgedRefused  int `json:"forged_refused"`
	ForgedAccepted int `json:"forged_accepted"`
	// Accepted counts genuine webhooks that were answered 2xx.
	Accepted int `json:"accepted"`
	// DuplicatesAbsorbed counts repeats that were answered 2xx and whose event
	// is in the destination exactly once.
	DuplicatesSent     int `json:"duplicates_sent"`
	DuplicatesAbsorbed int `json:"duplicates_absorbed"`
	// Enriched counts events in the destination that have their record and its
	// related one, Delivered all events there: tombstones have no record.
	Enriched  int `json:"enriched"`
	Delivered int `json:"delivered"`
	// MissedRepaired counts dropped changes whose version came to the
	// destination by reconciliation.
	MissedRepaired int `json:"missed_repaired"`
	DeadLettered   int `json:"dead_lettered"`
	Replayed       int `json:"replayed"`
	// Undelivered counts webhooks that were answered 2xx without an event in
	// the destination.
	Undelivered int `json:"undelivered"`
	// Lost counts records at the source whose newest version is not in the
	// destination.
	Lost int `json:"lost"`
	// P50 and P99 are from sending a webhook to its event in the destination,
	// in milliseconds.
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Seconds float64 `json:"seconds"`
	Seed    uint64  `json:"seed"`
	// Failures say why the demo failed.
	Failures []string `json:"failures,omitempty"`
}

// verdict is what a comparison of both ends found.
type verdict struct {
	lost        []string        // per record, what is wrong with it
	undelivered []string        // delivery ids
	doubled     []string        // delivery ids with several events
	forged      map[string]bool // by delivery id
	byDelivery  map[string][]farEvent
}

// compare holds the destination against the provider's book and records.
// Without healed, records that the source refuses to show are left out.
func compare(book simulator.Book, newest map[string]simulator.Record, far farEnd, healed bool) verdict {
	v := verdict{forged: map[string]bool{}, byDelivery: map[string][]farEvent{}}
	for _, e := range far.events {
		if e.forged {
			v.forged[cmp.Or(e.deliveryID, e.id)] = true
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
			v.lost = append(v.lost, id+" is not in the destination")
		} else if fault := differs(want, got); fault != "" {
			v.lost = append(v.lost, id+" "+fault)
		}
	}
	v.checkWebhooks(book, healed)
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

func (v *verdict) checkWebhooks(book simulator.Book, healed bool) {
	waits := map[string]bool{}
	if !healed {
		for _, id := range poisonedWebhooks(book) {
			waits[id] = true
		}
	}
	for _, d := range book.Deliveries {
		switch n := len(v.byDelivery[d.ID]); {
		case !d.Taken():
		case d.Kind == simulator.Forged:
			v.forged[d.ID] = true
		case d.Kind != simulator.Genuine || waits[d.ID]:
		case n == 0:
			v.undelivered = append(v.undelivered, d.ID)
		case n > 1:
			v.doubled = append(v.doubled, d.ID)
		}
	}
}

// poisonedWebhooks are the ids of webhooks that were taken and speak of records
// that can't be fetched.
func poisonedWebhooks(book simulator.Book) (ids []string) {
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

func newResult(book simulator.Book, v verdict, far farEnd) demoResult {
	c := book.Counts()
	r := demoResult{
		Sent: c.Sent, Dropped: c.Dropped, Accepted: c.Accepted, DuplicatesSent: c.DuplicatesSent,
		Forged: c.Forged, ForgedRefused: c.ForgedRefused, ForgedAccepted: len(v.forged),
		Delivered: len(far.events), Undelivered: len(v.undelivered), Lost: len(v.lost),
		MissedRepaired: repaired(book, far),
	}
	for _, e := range far.events {
		if e.enriched {
			r.Enriched++
		}
	}
	for _, d := range book.Deliveries {
		if d.Kind == simulator.Duplicate && d.Taken() && len(v.byDelivery[d.ID]) == 1 {
			r.DuplicatesAbsorbed++
		}
	}
	took := latencies(book, v)
	r.P50, r.P99 = milliseconds(percentile(took, 0.5)), milliseconds(percentile(took, 0.99))
	r.fail(len(v.lost), "lost", v.lost)
	r.fail(len(v.undelivered), "accepted, but not delivered", v.undelivered)
	r.fail(len(v.doubled), "delivered more than once", v.doubled)
	r.fail(len(v.forged), "forged, but accepted", slices.Sorted(maps.Keys(v.forged)))
	return r
}

// maxExamples bounds what a failure lists.
const maxExamples = 5

func (r *demoResult) fail(n int, what string, all []string) {
	if n > 0 {
		r.Failures = append(r.Failures, fmt.Sprintf("%d %s, such as %q", n, what, all[:min(n, maxExamples)]))
	}
}

// repaired counts the dropped changes that only a list can have told of.
func repaired(book simulator.Book, far farEnd) (n int) {
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
func latencies(book simulator.Book, v verdict) (took []time.Duration) {
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

// percentile is the nearest-rank percentile of sorted durations, 0 of none.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(int(math.Ceil(p*float64(len(sorted))))-1, 0)]
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond)) / float64(time.Millisecond)
}

// print writes the result as a table.
func (r demoResult) print(w io.Writer) error {
	const book, far, operator = "the provider's book", "the destination", "the dead letters"
	t := newTable(w, "figure", "count", "counted from")
	t.row("webhooks sent", r.Sent, book)
	t.row("  dropped, never sent", r.Dropped, book)
	t.row("  accepted", r.Accepted, book)
	t.row("forged webhooks", r.Forged, book)
	t.row("  refused", r.ForgedRefused, book)
	t.row("  accepted", r.ForgedAccepted, book+" and "+far)
	t.row("repeats sent", r.DuplicatesSent, book)
	t.row("  absorbed", r.DuplicatesAbsorbed, book+" and "+far)
	t.row("events delivered", r.Delivered, far)
	t.row("  enriched", r.Enriched, far)
	t.row("missed, found and repaired", r.MissedRepaired, book+" and "+far)
	t.row("dead-lettered", r.DeadLettered, operator)
	t.row("  replayed", r.Replayed, operator)
	t.row("accepted, not delivered", r.Undelivered, book+" and "+far)
	t.row("LOST", r.Lost, book+" and "+far)
	t.row("webhook to destination, p50", fmt.Sprintf("%.1f ms", r.P50), book+" and "+far)
	t.row("webhook to destination, p99", fmt.Sprintf("%.1f ms", r.P99), book+" and "+far)
	t.row("took", fmt.Sprintf("%.1f s", r.Seconds), "")
	t.row("seed", r.Seed, "")
	return t.flush()
}
