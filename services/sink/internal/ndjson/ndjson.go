// Package ndjson is the destination that appends events to files, one JSON
// object a line.
//
// The files of a folder are events-000001.ndjson and so on. The one with the
// greatest number is written to; the others are finished, and may be moved
// away by whoever processes them. A line has these members, in this order,
// with null for what the event doesn't have: event_id, source, account, type,
// resource, record_id, version, origin, deleted, event_time, received_at,
// observed_at, written_at, sequence, trigger, record, related.
//
// An event is written once (promise 4) as far back as the newest 1,000,000
// events that are in the folder; an older one that comes again is written
// again, and so is one whose file was moved away before the process started.
package ndjson

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// Config is where and how a [Folder] is written.
type Config struct {
	// Dir is the folder. It is made if the folder that it is in exists.
	Dir string
	// MaxSize is the size in bytes that no file passes, unless a single line
	// does.
	MaxSize int64
}

// Folder is a folder of files, open for writing. It is safe for concurrent
// use; one batch is written at a time.
type Folder struct {
	cfg  Config
	lock *os.File

	mu     sync.Mutex // guards all below
	number int        // of the file that is written to
	file   *os.File
	size   int64 // the part of file that is whole and on disk
	seen   *index
}

// Open opens the folder for this process alone. It cuts off what a crash left
// half-written at the end of the last file: that was never acknowledged. Then
// it reads back which events are there, newest first, which takes a second or
// so per million.
func Open(ctx context.Context, cfg Config) (*Folder, error) { return openFolder(ctx, cfg, maxSeen) }

func openFolder(ctx context.Context, cfg Config, remember int) (*Folder, error) {
	if err := makeFolder(cfg.Dir); err != nil {
		return nil, fmt.Errorf("open folder: %w", err)
	}
	lock, err := lockFolder(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", cfg.Dir, err)
	}
	f := &Folder{cfg: cfg, lock: lock, seen: newIndex(remember)}
	if err := f.load(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open folder %s: %w", cfg.Dir, err), f.Close())
	}
	return f, nil
}

// makeFolder makes dir if it is not there, with its name on disk.
func makeFolder(dir string) error {
	if err := os.Mkdir(dir, 0o750); err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil // whether it is a folder shows when it is read
		}
		return err
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	return errors.Join(syncFolder(parent), parent.Close())
}

// load opens the last file, or the first if there is none, and fills the index.
func (f *Folder) load(ctx context.Context) error {
	numbers, err := fileNumbers(f.cfg.Dir)
	if err != nil {
		return err
	}
	if len(numbers) == 0 {
		return f.begin(1)
	}
	f.number = numbers[len(numbers)-1]
	if f.file, err = os.OpenFile(f.path(f.number), os.O_RDWR, 0); err != nil {
		return err
	}
	if f.size, err = mend(f.file); err != nil {
		return err
	}
	return f.seen.fill(ctx, f.path, numbers)
}

// begin makes the file of the given number and writes to it from now on. A
// file's name is on disk before anything in it counts (promise 5).
func (f *Folder) begin(number int) error {
	file, err := os.OpenFile(f.path(number), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	if err := syncFolder(f.lock); err != nil {
		return errors.Join(err, file.Close())
	}
	if f.file != nil {
		_ = f.file.Close() // all that counts in it was synced
	}
	f.file, f.number, f.size = file, number, 0
	return nil
}

func (f *Folder) path(number int) string {
	return filepath.Join(f.cfg.Dir, fmt.Sprintf(namePattern, number))
}

// Write appends items and returns one result for each, in their order, once
// what was written is on disk.
func (f *Folder) Write(ctx context.Context, items []delivery.Item) []delivery.Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	results, keys := make([]delivery.Result, len(items)), make([]delivery.Key, len(items))
	first := make(map[delivery.Key]int, len(items)) // where in items a new event is first
	// What is known of an older folder says nothing of one in its place.
	if err := f.inPlace(); err != nil {
		return delivery.Out(len(items), fmt.Errorf("write to %s: %w", f.path(f.number), err))
	}
	b := batch{items: items, keys: keys, results: results, now: delivery.Time(time.Now())}
	for i, it := range items {
		keys[i] = delivery.KeyOf(it.Event)
		if f.seen.has(keys[i]) {
			results[i].Duplicate = true
		} else if _, twice := first[keys[i]]; !twice {
			first[keys[i]] = i
			b.fresh = append(b.fresh, i)
		}
	}
	f.appendAll(ctx, b)
	for i, k := range keys {
		// A repeat within the batch shares the fate of the first.
		if j, ok := first[k]; ok && j != i {
			results[i] = results[j]
			results[i].Duplicate = true
		}
	}
	return results
}

// batch is what one call writes: the items whose places are in fresh.
type batch struct {
	items   []delivery.Item
	keys    []delivery.Key
	results []delivery.Result
	fresh   []int
	now     string
}

// appendAll writes b, as many lines at a time as fit into the current file.
func (f *Folder) appendAll(ctx context.Context, b batch) {
	for len(b.fresh) > 0 {
		chunk, n := f.fit(b)
		err := ctx.Err()
		if err == nil && n == 0 {
			if err = f.begin(f.number + 1); err == nil {
				continue
			}
		}
		if err == nil {
			err = f.appendChunk(chunk)
		}
		if err != nil {
			for at, res := range delivery.Out(len(b.fresh), fmt.Errorf("write to %s: %w", f.path(f.number), err)) {
				b.results[b.fresh[at]] = res
			}
			return
		}
		for _, i := range b.fresh[:n] {
			f.seen.add(b.keys[i])
		}
		b.fresh = b.fresh[n:]
	}
}

// fit returns the lines of the first n fresh items, which fit into the
// current file. An empty file takes at least one.
func (f *Folder) fit(b batch) (lines []byte, n int) {
	for _, i := range b.fresh {
		end := len(lines)
		lines = delivery.AppendLine(lines, b.items[i], b.now)
		if f.size+int64(len(lines)) > f.cfg.MaxSize && (n > 0 || f.size > 0) {
			return lines[:end], n
		}
		n++
	}
	return lines, n
}

// appendChunk writes lines behind what is on disk already and syncs them
// (promise 5). When that fails, it takes them off again: a line that may not
// be on disk must not be taken for one that is.
func (f *Folder) appendChunk(lines []byte) error {
	if err := f.inPlace(); err != nil {
		return err
	}
	_, err := f.file.WriteAt(lines, f.size)
	if err == nil {
		err = f.file.Sync()
	}
	if err != nil {
		return errors.Join(err, f.file.Truncate(f.size))
	}
	f.size += int64(len(lines))
	return nil
}

// inPlace makes sure that the file is where it belongs and as it was left.
// Otherwise acknowledged events would be in a file that nobody finds.
func (f *Folder) inPlace() error {
	there, err := os.Stat(f.path(f.number))
	if err != nil {
		return err
	}
	mine, err := f.file.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(there, mine) {
		return errors.New("another file took its place")
	}
	if mine.Size() != f.size {
		return fmt.Errorf("holds %d bytes, want the %d that were written", mine.Size(), f.size)
	}
	return nil
}

// Close closes the folder. A write in progress is finished.
func (f *Folder) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	if f.file != nil {
		err = f.file.Close()
	}
	return errors.Join(err, unlockFolder(f.lock))
}
