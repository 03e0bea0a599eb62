package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/tercelhq/tercel/pkg/event"
)

// The journal knows the newest batches, up to these bounds.
const (
	maxEntries = 1000
	maxEvents  = 100_000
	// maxEntryBytes bounds an entry: 16 bytes an event, and some for names.
	maxEntryBytes = 4 << 20
)

// key is an event's identity, hashed so that its length doesn't matter.
type key [16]byte

func keyOf(e event.Event) key {
	// The lengths keep the parts apart, whatever is in them.
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%d:%s%s%s", len(e.Source), len(e.Account), e.Source, e.Account, e.ID))
	return key(sum[:16])
}

// journal is which events the newest batches had.
type journal struct {
	folder  string
	entries []entry // oldest first
	events  int
	known   map[key]struct{}
}

// entry is one batch.
type entry struct {
	name    string
	Objects []written `json:"objects"`
}

// written is one object of a batch.
type written struct {
	Name string `json:"name"`
	// Events are the keys of its events, one after another.
	Events []byte `json:"events"`
}

// next is the entry of a batch to be. Names are in the order of their writing,
// also when the clock is set back.
func (j *journal) next(parts []part) entry {
	e := entry{name: fmt.Sprintf("%s%020d.json", j.folder, time.Now().UnixNano())}
	if n := len(j.entries); n > 0 && e.name <= j.entries[n-1].name {
		var last int64
		_, _ = fmt.Sscanf(j.entries[n-1].name[len(j.folder):], "%020d.json", &last)
		e.name = fmt.Sprintf("%s%020d.json", j.folder, last+1)
	}
	for _, p := range parts {
		w := written{Name: p.name}
		for _, k := range p.keys {
			w.Events = append(w.Events, k[:]...)
		}
		e.Objects = append(e.Objects, w)
	}
	return e
}

func (j *journal) add(e entry) {
	j.entries = append(j.entries, e)
	for k := range e.keys {
		j.known[k] = struct{}{}
		j.events++
	}
}

func (e entry) keys(yield func(key) bool) {
	for _, o := range e.Objects {
		for k := range slices.Chunk(o.Events, len(key{})) {
			if len(k) == len(key{}) && !yield(key(k)) {
				return
			}
		}
	}
}

func (b *Bucket) putEntry(ctx context.Context, e entry) error {
	content, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = b.client.PutObject(ctx, b.cfg.Bucket, e.name, bytes.NewReader(content), int64(len(content)),
		minio.PutObjectOptions{ContentType: "application/json", DisableMultipart: true})
	if err != nil {
		return b.failure(ctx, "write journal "+e.name, err)
	}
	return nil
}

// load reads the journal and settles its last entry.
func (b *Bucket) load(ctx context.Context) error {
	var names []string
	for o := range b.client.ListObjectsIter(ctx, b.cfg.Bucket, minio.ListObjectsOptions{Prefix: b.journal.folder, Recursive: true}) {
		if o.Err != nil {
			return b.failure(ctx, "list the journal", o.Err)
		}
		names = append(names, o.Key)
	}
	slices.Sort(names)
	if n := len(names); n > maxEntries {
		names = names[n-maxEntries:]
	}
	entries, err := b.readEntries(ctx, names)
	if err != nil || len(entries) == 0 {
		return err
	}
	if err := b.settle(ctx, &entries[len(entries)-1]); err != nil {
		return err
	}
	for _, e := range entries {
		b.journal.add(e)
	}
	return nil
}

// abreast is how many entries are read at once: one after the other, a full
// journal of a store that is far away would not be read in the time of a batch.
const abreast = 16

func (b *Bucket) readEntries(ctx context.Context, names []string) ([]entry, error) {
	entries := make([]entry, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(abreast)
	for i, name := range names {
		group.Go(func() (err error) {
			entries[i], err = b.readEntry(ctx, name)
			return err
		})
	}
	return entries, group.Wait()
}

func (b *Bucket) readEntry(ctx context.Context, name string) (entry, error) {
	e := entry{name: name}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	o, err := b.client.GetObject(ctx, b.cfg.Bucket, name, minio.GetObjectOptions{})
	if err != nil {
		return e, b.failure(ctx, "read journal "+name, err)
	}
	defer func() { _ = o.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(o, maxEntryBytes))
	if err != nil {
		return e, b.failure(ctx, "read journal "+name, err)
	}
	if err := json.Unmarshal(content, &e); err != nil {
		return e, fmt.Errorf("journal %s is damaged: delete it, and its events may be written twice", name)
	}
	return e, nil
}

// settle takes out of the last entry what was never written, so that it is true
// like all before it.
func (b *Bucket) settle(ctx context.Context, e *entry) error {
	var there []written
	for _, o := range e.Objects {
		_, err := b.client.StatObject(ctx, b.cfg.Bucket, o.Name, minio.StatObjectOptions{})
		switch {
		case err == nil:
			there = append(there, o)
		case minio.ToErrorResponse(err).StatusCode != 404:
			return b.failure(ctx, "look for object "+o.Name, err)
		}
	}
	if len(there) == len(e.Objects) {
		return nil
	}
	e.Objects = there
	return b.putEntry(ctx, *e)
}

// prune forgets the oldest batches beyond the bounds. What can't be deleted now
// is left to the store's own rules: it is never read again.
func (b *Bucket) prune(ctx context.Context) {
	j := &b.journal
	for len(j.entries) > 1 && (len(j.entries) > maxEntries || j.events > maxEvents) {
		oldest := j.entries[0]
		_ = b.client.RemoveObject(ctx, b.cfg.Bucket, oldest.name, minio.RemoveObjectOptions{})
		for k := range oldest.keys {
			delete(j.known, k)
			j.events--
		}
		j.entries = j.entries[1:]
	}
}
