// Package objects is the destination that writes objects of many events to an
// S3-compatible store.
//
// An entry in a journal, itself an object, says which events the objects of a
// batch will have before they are written. So after a crash, or an answer that
// never came, it is known what was written: the objects of the last entry are
// looked for, and what is not there was never written. An object is only ever
// made, never overwritten.
package objects

import (
	"bytes"
	"context"
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

// requestTimeout bounds one request, so that a store that hangs is noticed.
const requestTimeout = 20 * time.Second

// Bucket is an open place for objects. It is safe for concurrent use; one batch
// is written at a time.
type Bucket struct {
	cfg    pipeline.S3
	client *minio.Client

	mu      sync.Mutex // guards what follows
	journal journal
	// broken is why nothing more is written before the next Open: it isn't known
	// what of a batch is there.
	broken error
}

// Open finds out what is in the bucket. The first batch of a new prefix tells
// whether it may be written.
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
	b := &Bucket{cfg: cfg, client: client}
	b.journal = journal{folder: cfg.Prefix + "_tercel/" + destination + "/", known: map[key]struct{}{}}
	if err := b.load(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// Close has nothing to close: each write is whole.
func (b *Bucket) Close() error { return nil }

// Write writes items to one object for each partition and returns one result for
// each, in their order.
func (b *Bucket) Write(ctx context.Context, items []delivery.Item) []delivery.Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	results := make([]delivery.Result, len(items))
	keys := make([]key, len(items))
	var fresh []int
	first := make(map[key]int, len(items)) // where in items a new event is first
	for i, it := range items {
		keys[i] = keyOf(it.Event)
		_, known := b.journal.known[keys[i]]
		if _, twice := first[keys[i]]; known || twice {
			results[i].Duplicate = true
		} else {
			first[keys[i]] = i
			fresh = append(fresh, i)
		}
	}
	if len(fresh) == 0 {
		return results
	}
	if err := b.write(ctx, partitions(b.cfg, items, keys, fresh)); err != nil {
		for i, out := range delivery.Out(len(items), err) { // no store refuses an event for what it is
			if _, ours := first[keys[i]]; ours {
				results[i] = out
			}
		}
	}
	return results
}

// write writes the parts of one batch, first into the journal (promise 4).
func (b *Bucket) write(ctx context.Context, parts []part) error {
	if b.broken != nil {
		return b.broken
	}
	now := delivery.Time(time.Now())
	e := b.journal.next(parts)
	err := b.putEntry(ctx, e)
	for _, p := range parts {
		if err != nil {
			break
		}
		var content []byte
		if content, err = p.encode(b.cfg.Format, now); err == nil {
			err = b.put(ctx, p.name, content)
		}
	}
	if err != nil {
		b.broken = err
		return err
	}
	b.journal.add(e)
	b.prune(ctx)
	return nil
}

// put makes an object. One that is there already was written by an earlier try
// of the same batch: its name says which events it has.
func (b *Bucket) put(ctx context.Context, name string, content []byte) error {
	var opts minio.PutObjectOptions
	opts.SetMatchETagExcept("*")
	opts.DisableMultipart = true
	opts.ContentType = map[pipeline.ObjectFormat]string{
		pipeline.NDJSON: "application/x-ndjson", pipeline.Parquet: "application/vnd.apache.parquet",
	}[b.cfg.Format]
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := b.client.PutObject(ctx, b.cfg.Bucket, name, bytes.NewReader(content), int64(len(content)), opts)
	if err == nil || minio.ToErrorResponse(err).Code == minio.PreconditionFailed {
		return nil
	}
	return b.failure(ctx, "write object "+name, err)
}

// failure tells err without what the store wrote.
func (b *Bucket) failure(ctx context.Context, what string, err error) error {
	if r := minio.ToErrorResponse(err); r.StatusCode > 0 {
		return fmt.Errorf("%s: status %d %s", what, r.StatusCode, r.Code)
	}
	var refused *egress.RefusedError
	if errors.As(err, &refused) {
		return fmt.Errorf("%s: %w", what, refused)
	}
	told, _ := egress.Failure(ctx, err)
	return fmt.Errorf("%s: %w", what, told)
}
