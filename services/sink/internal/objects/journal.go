package objects

import (
	"context"
	"fmt"
	"slices"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// The journal knows the newest batches, up to these bounds.
const (
	maxEntries = 1000
	maxEvents  = 100_000
)

// journal is which events the newest batches had, as far as it was read.
type journal struct {
	folder  string
	last    uint64   // the newest entry's number
	entries []*entry // oldest first
	events  int
	// known is where an event is, or is to be: what the newest entry says of it.
	known map[delivery.Key]*object
}

// entry is one batch.
type entry struct {
	number uint64
	// Writer is who wrote it, and went on to another entry only once all of its
	// objects were there.
	Writer  string    `json:"writer"`
	Objects []*object `json:"objects"`
}

// object is one object of a batch.
type object struct {
	Name string `json:"name"`
	// Events are the keys of its events, one after another.
	Events []byte `json:"events"`

	mark  string // of its batch
	there bool   // false until it is known to be
}

// mark tells the objects of one batch from those of any other.
func (e *entry) mark() string { return fmt.Sprintf("%d-%s", e.number, e.Writer) }

func (j *journal) name(number uint64) string { return fmt.Sprintf("%s%020d.json", j.folder, number) }

// next is the entry of a batch to be.
func (j *journal) next(writer string) *entry { return &entry{number: j.last + 1, Writer: writer} }

func (j *journal) add(e *entry) {
	for _, before := range slices.Backward(j.entries) {
		if before.Writer == e.Writer {
			for _, o := range before.Objects {
				o.there = true
			}
			break
		}
	}
	j.last, j.entries = e.number, append(j.entries, e)
	for _, o := range e.Objects {
		for k := range o.keys {
			j.known[k] = o
			j.events++
		}
	}
}

// forget makes the events of o unknown, but for those that are elsewhere by now.
func (j *journal) forget(o *object) {
	for k := range o.keys {
		if j.known[k] == o {
			delete(j.known, k)
		}
	}
}

// settle notes that an object is there and bears mark: it has the events of that
// batch, and none of another that was to have the same name.
func (j *journal) settle(name, mark string) {
	var holder *object
	for _, e := range j.entries {
		for _, o := range e.Objects {
			switch {
			case o.Name != name:
			case o.mark == mark:
				holder = o
			default:
				j.forget(o)
			}
		}
	}
	if holder == nil {
		return
	}
	holder.there = true
	for k := range holder.keys {
		j.known[k] = holder
	}
}

// divide returns the results of events that are there, or are there twice, and
// the places of the others.
func (j *journal) divide(keys []delivery.Key) (results []delivery.Result, fresh []int) {
	results = make([]delivery.Result, len(keys))
	first := make(map[delivery.Key]bool, len(keys))
	for i, k := range keys {
		if o := j.known[k]; first[k] || o != nil && o.there {
			results[i].Duplicate = true
			continue
		}
		first[k] = true
		fresh = append(fresh, i)
	}
	return results, fresh
}

func (o *object) keys(yield func(delivery.Key) bool) {
	for k := range slices.Chunk(o.Events, len(delivery.Key{})) {
		if len(k) == len(delivery.Key{}) && !yield(delivery.Key(k)) {
			return
		}
	}
}

// abreast is how many requests are under way at once: one after the other, a full
// journal of a store that is far away would not be read in the time of a batch.
const abreast = 16

// catchUp reads what other sinks have added to the journal, and forgets what
// passes its bounds.
func (b *Bucket) catchUp(ctx context.Context) error {
	numbers, err := b.listEntries(ctx, b.journal.last)
	if err != nil {
		return err
	}
	numbers = numbers[max(0, len(numbers)-maxEntries):]
	entries := make([]*entry, len(numbers))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(abreast)
	for i, n := range numbers {
		group.Go(func() (err error) {
			entries[i], err = b.readEntry(groupCtx, n)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, e := range entries {
		if e != nil {
			b.journal.add(e)
		}
	}
	b.prune(ctx)
	return nil
}

// look finds out what became of the objects that were to have events with the
// given keys, where that isn't known. The name of one that isn't there is free.
func (b *Bucket) look(ctx context.Context, keys []delivery.Key) error {
	var doubtful []*object
	for _, k := range keys {
		if o := b.journal.known[k]; o != nil && !o.there && !slices.Contains(doubtful, o) {
			doubtful = append(doubtful, o)
		}
	}
	found := make([]bool, len(doubtful))
	marks := make([]string, len(doubtful))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(abreast)
	for i, o := range doubtful {
		group.Go(func() (err error) {
			marks[i], found[i], err = b.markOf(ctx, o.Name)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, o := range doubtful {
		if found[i] {
			b.journal.settle(o.Name, marks[i])
		}
	}
	return nil
}

// prune forgets the oldest batches beyond the bounds. What can't be deleted now
// is left to the store's own rules: it is never read again.
func (b *Bucket) prune(ctx context.Context) {
	j := &b.journal
	for len(j.entries) > 1 && (len(j.entries) > maxEntries || j.events > maxEvents) {
		oldest := j.entries[0]
		_ = b.client.RemoveObject(ctx, b.cfg.Bucket, j.name(oldest.number), minio.RemoveObjectOptions{})
		for _, o := range oldest.Objects {
			j.forget(o)
			j.events -= len(o.Events) / len(delivery.Key{})
		}
		j.entries = j.entries[1:]
	}
}
