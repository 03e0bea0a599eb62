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
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
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
// (about 50 bytes a record). It is not safe for concurrent use, and one runner
// at a time may have it open: hold a lease. Should two have it open all the
// same, the second to write gets [ErrConflict].
type Ledger struct {
	js       jetstream.JetStream
	kv       jetstream.KeyValue
	prefix   string // of the blocks' keys
	filter   string // of enriched subjects
	resource string
	created  int64 // when the stream was created, which tells it from its successor
	view     bool  // nothing is written

	index   map[uint64]state
	through uint64 // the last sequence in index
	at      int64  // when its message was stored
	stored  uint64 // the last sequence in the blocks

	full   []ref // blocks that are not written again
	tail   ref   // the block that takes new entries
	ids    []uint64
	inTail map[uint64]struct{} // the same as ids
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
		js: js, resource: resource, index: map[uint64]state{}, view: view,
		// No bucket takes a percent sign, and no escape contains "=".
		prefix: source + "." + strings.ReplaceAll(token, "%", "=") + "." + resource,
		filter: event.PrefixEnriched + "." + source + "." + token + ".>",
	}
	stream, err := js.Stream(ctx, topology.StreamEnriched)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", topology.StreamEnriched, err)
	}
	info := stream.CachedInfo()
	l.created = info.Created.UnixNano()
	if l.kv, err = js.KeyValue(ctx, topology.BucketLedger); err != nil {
		return nil, fmt.Errorf("bucket %s: %w", topology.BucketLedger, err)
	}
	if err := l.load(ctx, stream); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", l.prefix, err)
	}
	return l, nil
}

type loaded struct {
	ref
	block block
	err   error
}

// load reads the blocks in the order in which they were begun. A block that is
// unreadable, of another stream, or read from a part of the stream that is no
// longer there means that some of what the ledger would claim is not so.
func (l *Ledger) load(ctx context.Context, stream jetstream.Stream) error {
	blocks, err := l.read(ctx)
	if err != nil {
		return err
	}
	last, intact := stream.CachedInfo().State.LastSeq, true
	if end := newest(blocks); end.through > 0 && end.through <= last {
		if intact, err = holds(ctx, stream, end); err != nil {
			return err
		}
	}
	unusable := func(b loaded) bool {
		return !intact || b.err != nil || b.block.created != l.created || b.block.through > last
	}
	if slices.ContainsFunc(blocks, unusable) {
		// The bad ones go last: while one is there, the ledger is not believed.
		slices.SortStableFunc(blocks, func(a, b loaded) int {
			return cmp.Compare(b2i(unusable(a)), b2i(unusable(b)))
		})
		for _, b := range blocks {
			if l.view {
				break
			}
			if err := l.drop(ctx, b.ref); err != nil {
				return err
			}
		}
		blocks = nil
	}
	for _, b := range blocks {
		for _, e := range b.block.entries {
			l.index[e.id] = l.index[e.id].join(e.state)
		}
		l.full = append(l.full, b.ref)
	}
	end := newest(blocks)
	l.through, l.at = end.through, end.at
	l.stored = l.through
	l.beginTail(1)
	if n := len(blocks); n > 0 {
		if end := blocks[n-1]; len(end.block.entries) < maxEntries {
			l.full, l.tail = l.full[:n-1], end.ref
			for _, e := range end.block.entries {
				l.addToTail(e.id)
			}
		} else {
			l.beginTail(end.number + 1)
		}
	}
	return nil
}

// newest returns the block that was read furthest; all others lie before it.
func newest(blocks []loaded) block {
	var end block
	for _, b := range blocks {
		if b.block.through >= end.through {
			end = b.block
		}
	}
	return end
}

// holds reports whether the stream still has what end was read up to. A stream
// that lost its tail, as in a power cut, and has grown beyond its old end since
// has another message there. One that has none let it go by age, and may have
// all the rest.
func holds(ctx context.Context, stream jetstream.Stream, end block) (bool, error) {
	m, err := stream.GetMsg(ctx, end.through)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("message %s %d: %w", topology.StreamEnriched, end.through, err)
	}
	return m.Time.UnixNano() == end.at, nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (l *Ledger) read(ctx context.Context) ([]loaded, error) {
	watcher, err := l.kv.Watch(ctx, l.prefix+".*", jetstream.IgnoreDeletes())
	if err != nil {
		return nil, err
	}
	defer func() { _ = watcher.Stop() }()
	var blocks []loaded
	for {
		select {
		case e, ok := <-watcher.Updates():
			if !ok {
				return nil, errors.New("reading the bucket was cut off")
			}
			if e == nil { // that was all
				slices.SortFunc(blocks, func(a, b loaded) int { return cmp.Compare(a.number, b.number) })
				return blocks, nil
			}
			number, err := strconv.ParseUint(strings.TrimPrefix(e.Key(), l.prefix+"."), 10, 64)
			if err != nil {
				continue // not a block
			}
			b := loaded{ref: ref{number, e.Revision()}}
			b.block, b.err = decode(e.Value())
			blocks = append(blocks, b)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
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
	joined := l.index[id].join(seen)
	if joined == l.index[id] {
		return
	}
	l.index[id] = joined
	if !l.view {
		l.addToTail(id)
	}
}

// Lookup compares a listed record with what was seen of it.
func (l *Ledger) Lookup(id string, v event.Version) Verdict {
	s, known := l.index[Hash(id)]
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

// Held returns the low 63 bits of the ordinal of the version in which a record was seen
// alive, as [event.Version.Ordinal] gives it, and whether it was and has not
// been deleted since.
func (l *Ledger) Held(id string) (version uint64, held bool) {
	s := l.index[Hash(id)]
	return s.version &^ unorderedBit, s.held()
}

// All yields the [Hash] of every record that is held, in no order, and when the
// version that is held was seen last.
func (l *Ledger) All() iter.Seq2[uint64, time.Time] {
	return func(yield func(uint64, time.Time) bool) {
		for id, s := range l.index {
			if s.held() && !yield(id, time.Unix(0, s.observed)) {
				return
			}
		}
	}
}

// Len is the number of records that the ledger knows of.
func (l *Ledger) Len() int { return len(l.index) }

func (l *Ledger) beginTail(number uint64) {
	l.tail, l.ids, l.inTail = ref{number: number}, nil, map[uint64]struct{}{}
}

func (l *Ledger) addToTail(id uint64) {
	if _, ok := l.inTail[id]; !ok {
		l.ids, l.inTail[id] = append(l.ids, id), struct{}{}
	}
}

// store writes the tail. It is written again and again until it is full: each
// key of a bucket costs the server memory, and a run may see few changes.
func (l *Ledger) store(ctx context.Context) error {
	data := l.encode(l.ids)
	var err error
	if l.tail.revision == 0 {
		l.tail.revision, err = l.kv.Create(ctx, l.key(l.tail.number), data)
	} else {
		l.tail.revision, err = l.kv.Update(ctx, l.key(l.tail.number), data, l.tail.revision)
	}
	if err != nil {
		return l.writeError(err)
	}
	l.stored = l.through
	if len(l.ids) == maxEntries {
		l.full = append(l.full, l.tail)
		l.beginTail(l.tail.number + 1)
	}
	return nil
}

func (l *Ledger) encode(ids []uint64) []byte {
	b := block{created: l.created, through: l.through, at: l.at, entries: make([]entry, len(ids))}
	for i, id := range ids {
		b.entries[i] = entry{id, l.index[id]}
	}
	return b.encode()
}

// slack is how many blocks more than needed the ledger keeps before it is
// written anew.
const slack = 8

// compact writes the index into new blocks once more than half of the entries
// are superseded, then deletes the old. Whoever opens the ledger in between
// joins both, which comes to the same.
func (l *Ledger) compact(ctx context.Context) error {
	needed := (len(l.index) + maxEntries - 1) / maxEntries
	if len(l.full) <= 2*needed+slack {
		return nil
	}
	old := l.full
	if l.tail.revision != 0 {
		old = append(old, l.tail)
	}
	l.full = nil
	l.beginTail(l.tail.number + 1)
	for id := range l.index {
		if l.addToTail(id); len(l.ids) == maxEntries {
			if err := l.store(ctx); err != nil {
				return err
			}
		}
	}
	if len(l.ids) > 0 {
		if err := l.store(ctx); err != nil {
			return err
		}
	}
	for _, r := range old {
		if err := l.drop(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) drop(ctx context.Context, r ref) error {
	if err := l.kv.Delete(ctx, l.key(r.number), jetstream.LastRevision(r.revision)); err != nil {
		return l.writeError(err)
	}
	return nil
}

func (l *Ledger) key(number uint64) string { return l.prefix + "." + strconv.FormatUint(number, 10) }

func (l *Ledger) writeError(err error) error {
	var api *jetstream.APIError
	// Replicated streams have a code of their own while the other write is in flight.
	if errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		err = ErrConflict
	}
	return fmt.Errorf("write ledger %s: %w", l.prefix, err)
}

// Hash is a record's id in the ledger. Of a million records, two share one
// with odds of 1 to 37 million.
func Hash(id string) uint64 {
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint64(sum[:])
}
