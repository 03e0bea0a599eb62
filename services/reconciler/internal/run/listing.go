package run

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/topology"
)

const (
	// blockHashes is how many hashes are kept in one block: 128 KiB of them.
	blockHashes = 16 << 10
	// keepEvery is how much of a scan is done again when its runner dies.
	keepEvery = 30 * time.Second
	// maxListed bounds the records that one scan lists, and so its memory to
	// 256 MiB.
	maxListed = 32 << 20
)

// errDamaged says that blocks are missing or not those of the scan.
var errDamaged = errors.New("what was listed is no longer there")

// listing are the hashes of the ids that a scan was shown, each time that it was:
// 8 bytes in memory and in the bucket tercel_ledger, where they are kept in
// blocks beside the ledger's own. A scan that is continued has them again, or
// begins anew: it never takes a part of a list for the whole.
type listing struct {
	kv     jetstream.KeyValue
	prefix string
	hashes []uint64
	stored int // so many of them are in blocks
	keptAt time.Time
}

// openListing returns what a scan has listed so far. It returns [errDamaged] if
// that isn't known any more.
func openListing(ctx context.Context, js jetstream.JetStream, key cursor.Key, s cursor.Scan, now time.Time) (*listing, error) {
	key.Work = ""
	l := &listing{prefix: key.String() + ".listed.", keptAt: now}
	var err error
	if l.kv, err = js.KeyValue(ctx, topology.BucketLedger); err != nil {
		return nil, fmt.Errorf("bucket %s: %w", topology.BucketLedger, err)
	}
	for n := range s.Blocks {
		e, err := l.kv.Get(ctx, l.prefix+strconv.Itoa(n))
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil, errDamaged
		}
		if err != nil {
			return nil, fmt.Errorf("block %d of what was listed: %w", n, err)
		}
		own, ok := strings.CutPrefix(string(e.Value()), s.Listing)
		if !ok || len(own)%8 != 0 {
			return nil, errDamaged
		}
		for data := []byte(own); len(data) > 0; data = data[8:] {
			l.hashes = append(l.hashes, binary.BigEndian.Uint64(data))
		}
	}
	if len(l.hashes) != s.Hashes || sum(l.hashes) != s.Sum {
		return nil, errDamaged // another runner wrote one of them
	}
	l.stored = len(l.hashes)
	return l, nil
}

func sum(hashes []uint64) (n uint64) {
	for _, h := range hashes {
		n += h
	}
	return n
}

// add takes in what a page showed.
func (l *listing) add(hashes []uint64) error {
	if len(l.hashes)+len(hashes) > maxListed {
		return fault.Permanent(fmt.Errorf("the list has more than %d records", maxListed))
	}
	l.hashes = append(l.hashes, hashes...)
	return nil
}

// due reports whether it is time to keep what was listed.
func (l *listing) due(now time.Time) bool {
	return len(l.hashes)-l.stored >= blockHashes || now.Sub(l.keptAt) >= keepEvery
}

// keep stores what isn't stored yet, and notes so in s.
func (l *listing) keep(ctx context.Context, s *cursor.Scan, now time.Time) error {
	for chunk := range slices.Chunk(l.hashes[l.stored:], blockHashes) {
		data := append(make([]byte, 0, len(s.Listing)+8*len(chunk)), s.Listing...)
		for _, h := range chunk {
			data = binary.BigEndian.AppendUint64(data, h)
		}
		if _, err := l.kv.Put(ctx, l.prefix+strconv.Itoa(s.Blocks), data); err != nil {
			return fmt.Errorf("keep what was listed: %w", err)
		}
		s.Blocks++
		s.Hashes += len(chunk)
		s.Sum += sum(chunk)
		l.stored += len(chunk)
	}
	l.keptAt = now
	return nil
}

// drop deletes all blocks.
func (l *listing) drop(ctx context.Context) error {
	keys, err := l.kv.ListKeysFiltered(ctx, l.prefix+"*")
	if err != nil {
		return fmt.Errorf("delete what was listed: %w", err)
	}
	for key := range keys.Keys() {
		if err := l.kv.Delete(ctx, key); err != nil {
			return fmt.Errorf("delete what was listed: %w", err)
		}
	}
	return nil
}

// order makes the hashes ready for has.
func (l *listing) order() { slices.Sort(l.hashes) }

// has reports whether the record with a hash was listed.
func (l *listing) has(hash uint64) bool {
	_, found := slices.BinarySearch(l.hashes, hash)
	return found
}
