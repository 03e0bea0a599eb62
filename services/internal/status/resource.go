package status

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
)

// Resource is how far one resource of one account has been reconciled.
type Resource struct {
	Source   string
	Account  string
	Resource string
	Through  time.Time
	// Lag is the time since then, in seconds, or nil if no window was finished.
	Lag     *float64
	LastRun time.Time
	LastOK  time.Time
	// NextRun is when the next is due. It is in the past for one that nobody makes.
	NextRun    time.Time
	Unfinished bool
	// Runner has the resource in hand.
	Runner   string
	Failures int
	// Last is what the last run that ended has found.
	Last cursor.Last
	// Completeness says in words whether every record of the last window was
	// compared.
	Completeness string
	// Window is the unfinished one, or nil.
	Window *cursor.Window
	// Paused are the pauses that keep it from being reconciled.
	Paused []cursor.Pause
}

// Resources reads the cursors of one source or, with "", of all.
func Resources(ctx context.Context, js jetstream.JetStream, source string) ([]Resource, error) {
	store, err := cursor.Open(ctx, js)
	if err != nil {
		return nil, err
	}
	entries, err := store.List(ctx, source)
	if err != nil {
		return nil, err
	}
	pauses, err := store.Pauses(ctx)
	if err != nil {
		return nil, err
	}
	all := []Resource{}
	for _, e := range entries {
		r := resourceOf(e, pauses)
		if e.InHand() {
			if r.Runner, err = cursor.Holder(ctx, js, e.Key.Lease()); err != nil {
				return nil, err
			}
		}
		all = append(all, r)
	}
	return all, nil
}

func resourceOf(e cursor.Entry, pauses []cursor.Pause) Resource {
	r := Resource{
		Source: e.Key.Source, Account: e.Key.Account, Resource: e.Key.Resource, Through: e.Through,
		LastRun: e.StartedAt, LastOK: e.OKAt, NextRun: e.NextAt, Unfinished: e.Window != nil, Window: e.Window, Failures: e.Failures, Last: e.Last,
	}
	if !e.Through.IsZero() {
		lag := time.Since(e.Through).Seconds()
		r.Lag = &lag
	}
	r.Completeness = r.completeness()
	for _, p := range pauses {
		if p.Has(e.Key) {
			r.Paused = append(r.Paused, p)
		}
	}
	return r
}

func (r Resource) completeness() string {
	switch {
	case r.Last.Error != "":
		return fmt.Sprintf("not complete, failed %d times: %s", max(r.Failures, 1), r.Last.Error)
	case r.Unfinished:
		return "not complete, more pages to compare"
	case r.Last.Unreadable > 0:
		return fmt.Sprintf("not complete, %d unreadable records", r.Last.Unreadable)
	case r.Through.IsZero():
		return "nothing finished"
	case r.Last.Missed+r.Last.Stale > 0:
		return fmt.Sprintf("complete, %d records were sent again", r.Last.Missed+r.Last.Stale)
	default:
		return "complete"
	}
}
