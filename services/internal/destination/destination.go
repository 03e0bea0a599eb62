// Package destination reads which version of which record a destination holds,
// for whoever compares it with the source.
package destination

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

// ErrNoRecords is returned by [Open] for a destination that keeps no records
// which could be looked up.
var ErrNoRecords = errors.New("this destination keeps no records to compare with: want postgres with mode upsert, or sqlite")

// Key is whose records are meant: those of one resource of one account of a
// source.
type Key struct {
	Source, Account, Resource string
}

// Held is a record as a destination holds it.
type Held struct {
	ID string
	// Version is the newest that was delivered, "" if only tombstones were.
	Version event.Version
	// ObservedAt is when that version was seen at the source; zero without one.
	// Some destinations keep it to the microsecond.
	ObservedAt time.Time
	// Deleted says that the record was seen to be gone after that.
	Deleted bool
}

// store is the database of a destination.
type store interface {
	// versions returns those of the records with the given ids that are there.
	versions(ctx context.Context, k Key, ids []string) ([]Held, error)
	// page returns at most limit records in the order of their ids, those behind
	// after or the first ones.
	page(ctx context.Context, k Key, after *string, limit int) ([]Held, error)
	close() error
}

// Reader reads one destination. It is safe for concurrent use. Close it.
type Reader struct {
	store store
}

// Open prepares to read a destination, which need not be there yet. It writes
// nothing, and needs no more than the privilege to read table records.
func Open(ctx context.Context, name string, d pipeline.Destination) (*Reader, error) {
	var s store
	var err error
	switch {
	case d.SQLite != nil:
		s, err = openSQLite(d.SQLite.Path)
	case d.Postgres != nil && d.Postgres.Mode != pipeline.Insert && d.Postgres.Table == nil:
		s, err = openPostgres(ctx, name, d.Postgres.DSN.Reveal())
	default:
		err = ErrNoRecords
	}
	if err != nil {
		return nil, fmt.Errorf("read destination %s: %w", name, err)
	}
	return &Reader{s}, nil
}

// Close ends the reader's use.
func (r *Reader) Close() error { return r.store.close() }

// chunk is how many records are asked for at once.
const chunk = 1000

// Versions returns what the destination holds of the records with the given
// ids, of which there may be any number. What isn't in the result isn't there.
func (r *Reader) Versions(ctx context.Context, k Key, ids []string) (map[string]Held, error) {
	found := make(map[string]Held, len(ids))
	for some := range slices.Chunk(ids, chunk) {
		held, err := r.store.versions(ctx, k, some)
		if err != nil {
			return nil, fmt.Errorf("versions of %s %s at the destination: %w", k.Source, k.Resource, err)
		}
		for _, h := range held {
			found[h.ID] = h
		}
	}
	return found, nil
}

// All yields every record that the destination holds, in an order of ids that
// is the destination's own, and after an error nothing more. Records that come
// or go meanwhile may be missed or not; each other one comes exactly once.
func (r *Reader) All(ctx context.Context, k Key) iter.Seq2[Held, error] {
	return func(yield func(Held, error) bool) {
		var last *string
		for {
			page, err := r.store.page(ctx, k, last, chunk)
			if err != nil {
				yield(Held{}, fmt.Errorf("records of %s %s at the destination: %w", k.Source, k.Resource, err))
				return
			}
			for _, h := range page {
				if !yield(h, nil) {
					return
				}
			}
			if len(page) < chunk {
				return
			}
			last = &page[len(page)-1].ID
		}
	}
}
