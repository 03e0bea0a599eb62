package main

import (
	"fmt"
	"io"
	"math"
	"time"

	"github.com/tercelhq/tercel/services/internal/proof"
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
	// P50 and P99 are from when a webhook was due to its event in the destination,
	// in milliseconds, but for those that were replayed.
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Seconds float64 `json:"seconds"`
	Seed    uint64  `json:"seed"`
	// Failures say why the demo failed.
	Failures []string `json:"failures,omitempty"`
}

func newResult(book simulator.Book, v proof.Verdict, far proof.FarEnd) demoResult {
	c := book.Counts()
	r := demoResult{
		Sent: c.Sent, Dropped: c.Dropped, Accepted: c.Accepted, DuplicatesSent: c.DuplicatesSent, DuplicatesAbsorbed: v.Absorbed,
		Forged: c.Forged, ForgedRefused: c.ForgedRefused, ForgedAccepted: len(v.Refused),
		Undelivered: len(v.Undelivered), Lost: len(v.Lost), MissedRepaired: v.Repaired,
	}
	r.Delivered, r.Enriched = far.Delivered()
	r.P50, r.P99 = milliseconds(percentile(v.Took, 0.5)), milliseconds(percentile(v.Took, 0.99))
	r.fail(len(v.Lost), "lost", v.Lost)
	r.fail(len(v.Undelivered), "accepted, but not delivered", v.Undelivered)
	r.fail(len(v.Doubled), "delivered more than once", v.Doubled)
	r.fail(len(v.Refused), "forged, but accepted", v.Refused)
	return r
}

// maxExamples bounds what a failure lists.
const maxExamples = 5

func (r *demoResult) fail(n int, what string, all []string) {
	if n > 0 {
		r.Failures = append(r.Failures, fmt.Sprintf("%d %s, such as %q", n, what, all[:min(n, maxExamples)]))
	}
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
