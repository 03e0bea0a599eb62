// Package ledger knows which version of which record was seen: a projection
// of TERCEL_ENRICHED that reconciliation compares a source's lists with.
//
// It reads the headers of enriched events only, and keeps 32 bytes for each
// record in blocks of the bucket tercel_ledger. Nothing in it is precious: what
// is deleted, unreadable, or was read from a stream that exists no longer or
// has lost its tail is read again from the stream. It outlives the stream's own
// retention.
//
// State is a join of events: of a record's live versions the newest counts,
// and it counts as deleted if that was observed later (promise 7). Reading the
// same event, or two blocks that overlap, again changes nothing.
package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// ErrConflict is returned by [Ledger.CatchUp] when somebody else has written
// the ledger since it was opened. Open it again.
var ErrConflict = errors.New("ledger was written by another runner")

// Verdict is what the ledger says to a listed record, a closed set.
type Verdict string

// The verdicts.
const (
	// Matched records were seen in the listed version.
	Matched Verdict = "matched"
	// Missed records were never seen alive.
	Missed Verdict = "missed"
	// Stale records were seen in an older version only, or were seen to be
	// deleted although the source lists them.
	Stale Verdict = "stale"
	// Ahead records were seen in a newer version than the list's.
	Ahead Verdict = "ahead"
)

// Ledger is the ledger of one resource in one account, loaded into memory
// (24 bytes a record and 5 to 8 for finding it). It is not safe for concurrent
// use, and one runner at a time may have it open: hold a lease. Should two have
// it open all the same, the second to write gets [ErrConflict].
type Ledger struct {
	js       jetstream.JetStream
	kv       jetstream.KeyValue
	prefix   string // of the blocks' keys
	filter   string // of enriched subjects
	resource string
	created  int64 // when the stream was created, which tells it from its successor
	view     bool  // nothing is written

	index   index
	through uint64 // the last sequence in index
	at      int64  // when its message was stored
	stored  uint64 // the last sequence in the blocks

	full   []ref // blocks that are not written again
	tail   ref   // the block that takes new entries
	ids    []uint64
	inTail map[uint64]struct{} // the same as ids
	buf    []entry             // used again and again
}

// ref is a block's place; revision is 0 before it is first written.
type ref struct{ number, revision uint64 }

// Open loads the ledger of a resource. Blocks that can't be used are deleted,
// with all others of the ledger, and it begins anew.
func Open(ctx context.Context, js jetstream.JetStream, source, account, resource string) (*Ledger, error) {
	return open(ctx, js, source, account, resource, false)
}

// OpenView is like [Open] for somebody who writes nothing, and may do so while
// another runner has the ledger open. What it catches up with it keeps to
// itself.
func OpenView(ctx context.Context, js jetstream.JetStream, source, account, resource string) (*Ledger, error) {
	return open(ctx, js, source, account, resource, true)
}

func open(ctx context.Context, js jetstream.JetStream, source, account, resource string, view bool) (*Ledger, error) {
	token := event.AccountToken(account)
	l := &Ledger{
		js: js, resource: resource, view: view,
		// No bucket takes a percent sign, and no escape contains "=".
		prefix: source + "." + strings.ReplaceAll(token, "%", "=") + "." + resource,
		filter: event.PrefixEnriched + "." + source + "." + token + ".>",
	}
	var err error
	if l.kv, err = js.KeyValue(ctx, topology.BucketLedger); err != nil {
		return nil, fmt.Errorf("bucket %s: %w", topology.BucketLedger, err)
	}
	if err := l.load(ctx); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", l.prefix, err)
	}
	return l, nil
}

// CatchUp reads the enriched events that the stream has gained, up to its
// last at the time of the call, stores what they tell, and returns the
// sequence of the last that it knows of.
func (l *Ledger) CatchUp(ctx context.Context) (through uint64, err error) {
	for m, err := range consume.Scan(ctx, l.js, consume.ScanOptions{
		Stream: topology.StreamEnriched, Subjects: []string{l.filter}, HeadersOnly: true, FromSequence: l.through + 1,
	}) {
		if err != nil {
			return l.through, fmt.Errorf("ledger %s: %w", l.prefix, err)
		}
		l.observe(m)
		l.through, l.at = m.Sequence, m.StoredAt.UnixNano()
		if len(l.ids) == maxEntries && !l.view {
			if err := l.store(ctx); err != nil {
				return l.through, err
			}
		}
	}
	if l.view {
		return l.through, nil
	}
	if l.through > l.stored {
		if err := l.store(ctx); err != nil {
			return l.through, err
		}
	}
	return l.through, l.compact(ctx)
}

// observe joins one enriched event into the index. What is no enriched event
// of the resource, or tells nothing new, leaves it as it is.
func (l *Ledger) observe(m consume.Message) {
	if m.Header.Get(event.HeaderResource) != l.resource {
		return
	}
	e, err := event.FromHeader(m.Header)
	if err != nil || e.RecordID == "" {
		return // written by something else
	}
	at := e.ObservedAt
	if at.IsZero() {
		at = m.StoredAt
	}
	ns := max(at.UnixNano(), 1) // 0 is never, and no clock of a pipeline is before 1970
	seen := state{version: ordinal(e.Version), observed: ns}
	if e.Deleted {
		seen = state{deleted: ns}
	}
	id := Hash(e.RecordID)
	if l.index.join(id, seen) && !l.view {
		l.addToTail(id)
	}
}

// Lookup compares a listed record with what was seen of it.
func (l *Ledger) Lookup(id string, v event.Version) Verdict {
	s, known := l.index.get(Hash(id))
	listed := ordinal(v)
	switch {
	case !known || s.observed == 0:
		return Missed
	case s.deleted > s.observed:
		return Stale
	case s.version == listed:
		return Matched
	case s.version > listed && !unordered(s.version) && !unordered(listed):
		return Ahead
	default:
		return Stale
	}
}

// Outlasts reports whether what was seen of a record after a time is not to be judged
// by a list that may lag behind: that it is gone, or in a state that no version
// orders against the listed one.
func (l *Ledger) Outlasts(id string, listed event.Version, after time.Time) bool {
	s, _ := l.index.get(Hash(id))
	if s.deleted > s.observed {
		return s.deleted > after.UnixNano()
	}
	return (unordered(s.version) || unordered(ordinal(listed))) && s.observed > after.UnixNano()
}

// Held returns the low 63 bits of the ordinal of the version in which a record
// was seen alive, as [event.Version.Ordinal] gives it, and whether it was and has
// not been deleted since.
func (l *Ledger) Held(id string) (version uint64, held bool) {
	s, _ := l.index.get(Hash(id))
	return s.version &^ unorderedBit, s.held()
}

// All yields the [Hash] of every record that is held, in no order, and when the
// version that is held was seen last.
func (l *Ledger) All() iter.Seq2[uint64, time.Time] {
	return func(yield func(uint64, time.Time) bool) {
		for id, s := range l.index.all() {
			if s.held() && !yield(id, time.Unix(0, s.observed)) {
				return
			}
		}
	}
}

// Hash is a record's id in the ledger. Of a million records, two share one
// with odds of 1 to 37 million.
func Hash(id string) uint64 {
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint64(sum[:])
}
