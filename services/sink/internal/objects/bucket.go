// Package objects is the destination that writes objects of many events to an
// S3-compatible store. Any number of sinks may write to the same prefix.
//
// A journal, whose entries are objects too, says which events the objects of a
// batch will have before they are written. Entries are numbered, and an object is
// only ever made, never overwritten: so whoever makes an entry has read all before
// it. Each object bears the mark of its batch. An event is written where an entry
// has it, and the object is there and bears that entry's mark.
//
// What isn't there after a crash, or after an answer that never came, or is just
// being written by another sink, is written under the name that it was to have:
// whoever comes second, even a request that was thought lost, is refused.
package objects

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// Bucket is an open place for objects. It is safe for concurrent use; one batch
// is written at a time.
type Bucket struct {
	cfg    pipeline.S3
	client *minio.Client
	writer string // names this Bucket among all that are opened, anywhere

	mu      sync.Mutex // guards what follows
	journal journal
	// broken is why nothing more is written before the next Open.
	broken error
}

// Open finds out what is in the bucket, and whether it may be written.
func Open(ctx context.Context, destination string, cfg pipeline.S3) (*Bucket, error) {
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Host == "" {
		return nil, errors.New("s3.endpoint: want a URL")
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(cfg.AccessKey.Reveal(), cfg.SecretKey.Reveal(), ""),
		Secure: u.Scheme == "https", Region: cfg.Region, MaxRetries: 1, // the loop retries
		Transport: egress.Transport(egress.Config{AllowPrivate: cfg.AllowPrivate, Connections: abreast}),
	})
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	b := &Bucket{cfg: cfg, client: client, writer: rand.Text()}
	place := cfg.Prefix + "_tercel/" + destination
	if err := b.checkStore(ctx, place+".probe"); err != nil {
		return nil, err
	}
	b.journal = journal{folder: place + "/", known: map[delivery.Key]*object{}}
	if err := b.catchUp(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// Close has nothing to close: each write is whole.
func (b *Bucket) Close() error { return nil }

// Write writes items to one object for each partition and returns one result for
// each, in their order. No store refuses an event for what it is, so all of them
// fail or none.
func (b *Bucket) Write(ctx context.Context, items []delivery.Item) []delivery.Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	var results []delivery.Result
	if b.broken == nil {
		results, b.broken = b.write(ctx, items)
	}
	if b.broken != nil {
		return delivery.Out(len(items), b.broken)
	}
	return results
}

// write writes what isn't there yet, first into the journal (promise 4).
func (b *Bucket) write(ctx context.Context, items []delivery.Item) ([]delivery.Result, error) {
	keys := make([]delivery.Key, len(items))
	for i, it := range items {
		keys[i] = delivery.KeyOf(it.Event)
	}
	now := delivery.Time(time.Now())
	for {
		if err := b.catchUp(ctx); err != nil {
			return nil, err
		}
		if err := b.look(ctx, keys); err != nil {
			return nil, err
		}
		results, fresh := b.journal.divide(keys)
		if len(fresh) == 0 {
			return results, nil
		}
		e := b.journal.next(b.writer)
		parts := b.partitions(e, batch{items, keys}, fresh)
		switch made, err := b.putEntry(ctx, e); {
		case err != nil:
			return nil, err
		case !made: // another sink was faster, and may have written the same
			continue
		}
		for _, p := range parts {
			if err := b.putPart(ctx, p, now); err != nil {
				return nil, err
			}
		}
		b.journal.add(e)
		return results, nil
	}
}
