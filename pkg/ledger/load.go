package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/topology"
)

// ahead is how many blocks are on their way at once: 2 MiB of them, in the server
// and here, however large the ledger is.
const ahead = 16

// streamLedger is the stream behind the bucket.
const streamLedger = "KV_" + topology.BucketLedger

// operation is a header of keys that were deleted.
const operation = "KV-Operation"

// found is a block that was read, without its entries.
type found struct {
	ref
	block
	err error
}

// load reads the blocks into the index. A block that is unreadable, of another
// stream, or read from a part of the stream that is no longer there means that
// some of what the ledger would claim is not so.
func (l *Ledger) load(ctx context.Context) error {
	l.beginTail(1)
	blocks, err := l.read(ctx)
	if err != nil {
		return err
	}
	// Asked for only now: a writer may have caught up since with what was published
	// while the blocks were read.
	stream, err := l.js.Stream(ctx, topology.StreamEnriched)
	if err != nil {
		return fmt.Errorf("stream %s: %w", topology.StreamEnriched, err)
	}
	l.created = stream.CachedInfo().Created.UnixNano()
	end := newest(blocks)
	last, intact := stream.CachedInfo().State.LastSeq, true
	if end.through > 0 && end.through <= last {
		if intact, err = holds(ctx, stream, end); err != nil {
			return err
		}
	}
	unusable := func(b found) bool {
		return !intact || b.err != nil || b.created != l.created || b.through > last
	}
	if slices.ContainsFunc(blocks, unusable) {
		l.index = index{}
		l.beginTail(1)
		return l.clear(ctx, blocks, unusable)
	}
	l.through, l.at, l.stored = end.through, end.at, end.through
	for _, b := range blocks {
		if b.number != l.tail.number {
			l.full = append(l.full, b.ref)
		}
	}
	return nil
}

// clear deletes all blocks. The bad ones go last: while one is there, the ledger is
// not believed.
func (l *Ledger) clear(ctx context.Context, blocks []found, bad func(found) bool) error {
	if l.view {
		return nil
	}
	slices.SortStableFunc(blocks, func(a, b found) int { return cmp.Compare(b2i(bad(a)), b2i(bad(b))) })
	for _, b := range blocks {
		if err := l.drop(ctx, b.ref); err != nil {
			return err
		}
	}
	return nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// newest returns the block that was read furthest; all others lie before it.
func newest(blocks []found) block {
	var end block
	for _, b := range blocks {
		if b.through >= end.through {
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

// read joins all blocks into the index, makes the last of them the tail, and
// returns them by their numbers. A writer may be at work while a view reads: what it
// writes in place of a block that was still to come is read too.
func (l *Ledger) read(ctx context.Context) ([]found, error) {
	blocks := map[uint64]found{}
	for from, more := uint64(1), true; more; {
		for m, err := range consume.Scan(ctx, l.js, consume.ScanOptions{
			Stream: streamLedger, Subjects: []string{l.subject() + "*"}, FromSequence: from, Ahead: ahead,
		}) {
			if err != nil {
				return nil, err
			}
			from = m.Sequence + 1
			l.take(m, blocks)
		}
		var err error
		if more, err = l.written(ctx, from); err != nil {
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Values(blocks), func(a, b found) int { return cmp.Compare(a.number, b.number) }), nil
}

// written reports whether there are blocks from a sequence on for a view to read. That
// a scan has shown none is no proof: all that was there when it began may have been
// replaced.
func (l *Ledger) written(ctx context.Context, from uint64) (bool, error) {
	if !l.view {
		return false, nil
	}
	stream, err := l.js.Stream(ctx, streamLedger)
	if err != nil {
		return false, fmt.Errorf("stream %s: %w", streamLedger, err)
	}
	last, err := stream.GetLastMsgForSubject(ctx, l.subject()+"*")
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("last block: %w", err)
	}
	return last.Sequence >= from, nil
}

// take joins a block that was read into the index.
func (l *Ledger) take(m consume.Message, blocks map[uint64]found) {
	number, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, l.subject()), 10, 64)
	if err != nil || m.Header.Get(operation) != "" {
		return // not a block, or one that is gone
	}
	b := found{ref: ref{number, m.Sequence}}
	if b.block, b.err = decode(m.Data, l.buf); b.err == nil {
		l.buf = b.entries
	}
	for _, e := range b.entries {
		l.index.join(e.id, e.state)
	}
	if number >= l.tail.number {
		l.beginTail(number + 1)
		if len(b.entries) < maxEntries {
			l.beginTail(number)
			l.tail = b.ref
			for _, e := range b.entries {
				l.addToTail(e.id)
			}
		}
	}
	b.entries = nil
	blocks[number] = b
}

// subject is what the subjects of the blocks begin with.
func (l *Ledger) subject() string { return "$KV." + topology.BucketLedger + "." + l.prefix + "." }
