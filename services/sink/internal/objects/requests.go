package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/minio/minio-go/v7"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

// requestTimeout bounds one request, so that a store that hangs is noticed.
const requestTimeout = 20 * time.Second

// maxEntryBytes bounds an entry: 16 bytes an event, and some for names.
const maxEntryBytes = 4 << 20

// markName is the object's metadata that has its mark.
const markName = "Tercel-Batch"

// put makes an object unless it is there, and reports whether it did.
func (b *Bucket) put(ctx context.Context, name string, content []byte, opts minio.PutObjectOptions) (made bool, err error) {
	opts.SetMatchETagExcept("*")
	opts.DisableMultipart = true
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = b.client.PutObject(ctx, b.cfg.Bucket, name, bytes.NewReader(content), int64(len(content)), opts)
	switch {
	case err == nil:
		return true, nil
	case minio.ToErrorResponse(err).StatusCode == http.StatusPreconditionFailed:
		return false, nil
	}
	return false, b.failure(ctx, "write object "+name, err)
}

// checkStore makes sure that the store overwrites nothing, by which sinks
// don't get into each other's way.
func (b *Bucket) checkStore(ctx context.Context, probe string) error {
	for range 2 {
		// Of no length at all: a store may end the connection with a refusal before it
		// has read a body, and the refusal is lost then.
		made, err := b.put(ctx, probe, nil, minio.PutObjectOptions{DisableContentSha256: true})
		if err != nil || !made {
			return err
		}
	}
	return errors.New("s3: the store overwrote an object: it has to know If-None-Match with writes")
}

func (b *Bucket) putEntry(ctx context.Context, e *entry) (made bool, err error) {
	content, err := json.Marshal(e)
	if err != nil {
		return false, fmt.Errorf("journal: %w", err)
	}
	return b.put(ctx, b.journal.name(e.number), content, minio.PutObjectOptions{ContentType: "application/json"})
}

// putPart makes an object of a batch. If it is there already, another sink has
// written some of its events meanwhile; the next Open finds out which.
func (b *Bucket) putPart(ctx context.Context, p part, now string) error {
	content, format, err := p.encode(now)
	if err != nil {
		return err
	}
	made, err := b.put(ctx, p.Name, content, minio.PutObjectOptions{
		UserMetadata: map[string]string{markName: p.mark},
		ContentType: map[pipeline.ObjectFormat]string{
			pipeline.NDJSON: "application/x-ndjson", pipeline.Parquet: "application/vnd.apache.parquet",
		}[format],
	})
	if err == nil && !made {
		err = fmt.Errorf("write object %s: another sink has written it", p.Name)
	}
	p.there = err == nil
	return err
}

// markOf returns the mark of an object, or false if it isn't there.
func (b *Bucket) markOf(ctx context.Context, name string) (string, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	o, err := b.client.StatObject(ctx, b.cfg.Bucket, name, minio.StatObjectOptions{})
	switch {
	case err == nil:
		return o.UserMetadata[markName], true, nil
	case minio.ToErrorResponse(err).StatusCode == http.StatusNotFound:
		return "", false, nil
	}
	return "", false, b.failure(ctx, "look for object "+name, err)
}

// listEntries returns the numbers of the entries behind one, in their order.
func (b *Bucket) listEntries(ctx context.Context, behind uint64) ([]uint64, error) {
	var numbers []uint64
	for o := range b.client.ListObjectsIter(ctx, b.cfg.Bucket, minio.ListObjectsOptions{
		Prefix: b.journal.folder, Recursive: true, StartAfter: b.journal.name(behind),
	}) {
		if o.Err != nil {
			return nil, b.failure(ctx, "list the journal", o.Err)
		}
		var n uint64
		_, err := fmt.Sscanf(path.Base(o.Key), "%d.json", &n)
		if err == nil && n > behind && o.Key == b.journal.name(n) {
			numbers = append(numbers, n)
		}
	}
	return numbers, ctx.Err() // with which a list just ends
}

// readEntry returns nil for an entry that another sink has forgotten meanwhile.
func (b *Bucket) readEntry(ctx context.Context, number uint64) (*entry, error) {
	name := b.journal.name(number)
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	o, err := b.client.GetObject(ctx, b.cfg.Bucket, name, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.failure(ctx, "read journal "+name, err)
	}
	defer func() { _ = o.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(o, maxEntryBytes))
	switch {
	case minio.ToErrorResponse(err).StatusCode == http.StatusNotFound:
		return nil, nil
	case err != nil:
		return nil, b.failure(ctx, "read journal "+name, err)
	}
	e := &entry{number: number}
	if err := json.Unmarshal(content, e); err != nil || slices.Contains(e.Objects, nil) {
		return nil, fmt.Errorf("journal %s is damaged: delete it, and its events may be written twice", name)
	}
	for _, o := range e.Objects {
		o.mark = e.mark()
	}
	return e, nil
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
