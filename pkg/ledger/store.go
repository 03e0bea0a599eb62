package ledger

import (
	"context"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

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
	if l.tail.revision, err = topology.Put(ctx, l.kv, l.key(l.tail.number), data, l.tail.revision); err != nil {
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
	b := block{created: l.created, through: l.through, at: l.at, entries: l.buf[:0]}
	for _, id := range ids {
		s, _ := l.index.get(id)
		b.entries = append(b.entries, entry{id, s})
	}
	l.buf = b.entries
	return b.encode()
}

// slack is how many blocks more than needed the ledger keeps before it is
// written anew.
const slack = 8

// compact writes the index into new blocks once more than half of the entries
// are superseded, then deletes the old. Whoever opens the ledger in between
// joins both, which comes to the same.
func (l *Ledger) compact(ctx context.Context) error {
	needed := (l.index.len() + maxEntries - 1) / maxEntries
	if len(l.full) <= 2*needed+slack {
		return nil
	}
	old := l.full
	if l.tail.revision != 0 {
		old = append(old, l.tail)
	}
	l.full = nil
	l.beginTail(l.tail.number + 1)
	for id := range l.index.all() {
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
	if topology.Conflict(err) {
		err = ErrConflict
	}
	return fmt.Errorf("write ledger %s: %w", l.prefix, err)
}
