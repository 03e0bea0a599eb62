// Package cursor remembers how far each resource has been reconciled, and lets
// one runner at a time work on it.
//
// A [Cursor] is one key of the bucket tercel_cursors. It is only ever written
// by compare-and-set on its revision, so a runner that was paused and comes
// back after another took over can't write it any more, lease or not. A
// [Lease] is one key of tercel_leases; it saves two runners the work of which
// only one could be kept.
package cursor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

// ErrConflict is returned by [Store.Save] when somebody else has written the
// cursor since it was loaded. Stop working on it.
var ErrConflict = errors.New("cursor was written by another runner")

// ErrBackwards is returned by [Store.Save] for a cursor that would go back in
// time, or past a page that was not compared.
var ErrBackwards = errors.New("cursor must only advance to the end of a finished window")

// Key names what a cursor follows: some work on the records of one kind in one
// account.
type Key struct {
	Source, Account, Resource string
	// Work is "" for reconciliation.
	Work Work
}

// Work is what is done with the records of a resource beside reconciliation,
// with a cursor and a lease of its own; a closed set.
type Work string

// Deletes is looking for records that are held and are gone at the source.
const Deletes Work = "deletes"

// String gives the key as the buckets spell it: SOURCE.ACCOUNT.RESOURCE, behind
// _WORK where it isn't reconciliation's. The percent sign of an escaped account,
// which no bucket takes, becomes "=", which no escape contains.
func (k Key) String() string {
	name := k.Source + "." + strings.ReplaceAll(event.AccountToken(k.Account), "%", "=") + "." + k.Resource
	if k.Work != "" {
		return "_" + string(k.Work) + "." + name
	}
	return name
}

// Lease is the name of the lease that whoever works on the resource has.
func (k Key) Lease() string { return "reconcile." + k.String() }

// Cursor is how far one resource has been reconciled.
type Cursor struct {
	// Through is the time up to which the record set is complete, or zero.
	Through time.Time `json:"through,omitzero"`
	// Window is what is being worked on, or nil.
	Window *Window `json:"window,omitempty"`
	// StartedAt is when the last run began, EndedAt when one last ended in any
	// way, OKAt when one last finished its window.
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	OKAt      time.Time `json:"ok_at,omitzero"`
	// RetryAt is when to try again after a failure, or zero.
	RetryAt time.Time `json:"retry_at,omitzero"`
	// NextAt is when the next run is due, as the runners last saw their schedule.
	NextAt time.Time `json:"next_at,omitzero"`
	// LedgerAt is when the ledger was last known to have all events that were stored.
	LedgerAt time.Time `json:"ledger_at,omitzero"`
	// Failures counts the runs in a row that failed.
	Failures int `json:"failures,omitzero"`
	// Late is what is waited for to know why records were missed, or nil.
	Late *Late `json:"late,omitempty"`
	// Last is what the last run that ended has found.
	Last Last `json:"last,omitzero"`
	// Report is that run's report until it is published: whoever has written the
	// cursor may publish it, and nobody else.
	Report *report.Report `json:"report,omitempty"`
}

// InHand reports whether a run works on the resource, or died before it had
// published what it found.
func (c Cursor) InHand() bool { return c.Report != nil || c.Window != nil && c.Window.Run != "" }

// Last sums up a report.
type Last struct {
	Run string `json:"run"`
	// Complete says that every record of the window was compared, and every gap
	// sent again.
	Complete   bool `json:"complete"`
	Listed     int  `json:"listed"`
	Missed     int  `json:"missed"`
	Stale      int  `json:"stale"`
	Unreadable int  `json:"unreadable"`
	// Error is why the run failed, or "".
	Error string `json:"error,omitzero"`
}

// Late are gaps whose triggers may still come.
type Late struct {
	// Looked is the last sequence of TERCEL_RAW up to which they were looked for.
	Looked uint64      `json:"looked"`
	Gaps   []Unsettled `json:"gaps"`
}

// Unsettled is a gap that the report of a run names.
type Unsettled struct {
	Run    string        `json:"run"`
	Record report.Record `json:"record"`
}

// Window is a window that has not been finished.
type Window struct {
	// Run is the run that works on it. It stays when its runner dies: whoever
	// goes on does so in its name.
	Run string `json:"run,omitzero"`
	// Continues is the run before it, which ended without finishing the window
	// and said so in a report of its own.
	Continues string `json:"continues,omitzero"`
	// From and To are its ends; a zero From is the beginning of time.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to"`
	// Position is the next page to compare in the API's own terms; "" is the
	// first.
	Position string `json:"position,omitzero"`
	// State and Slice are the part of the window that Position belongs to: the
	// index of the state that is listed, where there are several, and the time.
	State int   `json:"state,omitzero"`
	Slice *Span `json:"slice,omitempty"`
	// Tail are hashes of the last records in front of Position, where that counts
	// for nothing in a list that has moved. Before is the page that has them.
	Tail   []uint64 `json:"tail,omitempty"`
	Before string   `json:"before,omitzero"`
	// Full is the most records that a page of the part had.
	Full int `json:"full,omitzero"`
	// Steps counts the pages from the part's beginning to Position, and Met is
	// the hash of a position on that way: one that comes back runs in a circle.
	Steps int    `json:"steps,omitzero"`
	Met   uint64 `json:"met,omitzero"`
	// Unread counts the runs that began it anew because of a page of which nothing
	// could be read.
	Unread int `json:"unread,omitzero"`
	// Done says that the last page has been compared.
	Done bool `json:"done,omitzero"`
	// Behind says that some run compared before everything stored had been
	// enriched.
	Behind bool `json:"behind,omitzero"`
	// Border are hashes of the records at the window's ends that it has compared
	// for the windows beside it too.
	Border []uint64 `json:"border,omitempty"`
	// Share is about how much of the window is done, 0 to 1; 0 also while that
	// can't be told. Only backfills have a border, and tell a share.
	Share float64 `json:"share,omitzero"`
	// The rest is what was found up to Position.
	Pages        int                           `json:"pages"`
	Counts       report.Counts                 `json:"counts"`
	Sets         report.Sets                   `json:"sets"`
	Destinations map[string]report.Destination `json:"destinations,omitempty"`
	Records      []report.Record               `json:"records,omitempty"`
	// Causes counts why records were missed or stale, of those for which that was
	// looked for.
	Causes map[report.Cause]int `json:"causes,omitempty"`
	// Scan is what a scan for orphans has found beside it, else nil.
	Scan *Scan `json:"scan,omitempty"`
}

// Scan is how far a scan for orphans has come.
type Scan struct {
	// Began is when it began.
	Began time.Time `json:"began,omitzero"`
	// Tombstone says that records which are found to be gone are deleted at the
	// destinations, as whoever began it wanted, whoever goes on with it.
	Tombstone bool `json:"tombstone,omitzero"`
	// Listing names the hashes of the ids that were listed up to Position, which
	// are kept in Blocks blocks. Hashes counts them and Sum is their sum: it tells
	// when some were lost.
	Listing string `json:"listing,omitzero"`
	Blocks  int    `json:"blocks,omitzero"`
	Hashes  int    `json:"hashes,omitzero"`
	Sum     uint64 `json:"sum,omitzero"`
	// Shown are some of the last records that were listed: a get finds them.
	Shown []string `json:"shown,omitempty"`
	// Nameless counts listed records whose id could not be read.
	Nameless int `json:"nameless,omitzero"`
	// Checked is the greatest hash of an unlisted record that was asked for,
	// once all was listed.
	Checked uint64 `json:"checked,omitzero"`
	// Over says that all of them were asked for, or none will be.
	Over bool `json:"over,omitzero"`
	// Found is what is known of the orphans.
	Found report.Deletes `json:"found,omitzero"`
}

// Span is a part of a window's time.
type Span struct {
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to"`
}

// Entry is a cursor as it is stored.
type Entry struct {
	Key Key
	Cursor
	revision uint64 // 0 for one that was never stored
}

// Store reads and writes cursors. It is safe for concurrent use.
type Store struct{ bucket }

// Open returns the store of a server.
func Open(ctx context.Context, js jetstream.JetStream) (*Store, error) {
	kv, err := js.KeyValue(ctx, topology.BucketCursors)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", topology.BucketCursors, err)
	}
	return &Store{bucket{js, kv}}, nil
}

// Load returns a cursor; one that was never saved is zero. What it returns may
// be a moment old, which [Store.Save] then finds out.
func (s *Store) Load(ctx context.Context, key Key) (Entry, error) {
	e := Entry{Key: key}
	stored, err := s.kv.Get(ctx, key.String())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return e, nil
	}
	if err != nil {
		return Entry{}, fmt.Errorf("load cursor %s: %w", key, err)
	}
	return decodeCursor(key, stored)
}

func decodeCursor(key Key, stored jetstream.KeyValueEntry) (Entry, error) {
	e := Entry{Key: key, revision: stored.Revision()}
	if err := json.Unmarshal(stored.Value(), &e.Cursor); err != nil {
		return Entry{}, fmt.Errorf("load cursor %s: it was not written by a reconciler; delete it to begin anew", key)
	}
	return e, nil
}

// Save replaces the cursor that was loaded or saved as old, and returns it as
// it is stored now. It returns [ErrConflict] if the stored one is no longer
// old, and [ErrBackwards] if next breaks promise 6: Through may only move to
// the end of a window whose last page was saved as compared.
func (s *Store) Save(ctx context.Context, old Entry, next Cursor) (Entry, error) {
	if !next.Through.Equal(old.Through) {
		w := old.Window
		finished := w != nil && w.Done && next.Window == nil && next.Through.Equal(w.To)
		if !finished || next.Through.Before(old.Through) {
			return Entry{}, fmt.Errorf("save cursor %s: %w", old.Key, ErrBackwards)
		}
	}
	revision, err := s.put(ctx, old.Key.String(), next, old.revision)
	if err != nil {
		return Entry{}, fmt.Errorf("save cursor %s: %w", old.Key, err)
	}
	return Entry{Key: old.Key, Cursor: next, revision: revision}, nil
}
