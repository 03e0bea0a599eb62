package account

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/seal"
	"github.com/tercelhq/tercel/pkg/topology"
)

// How a bucket is followed.
const (
	// resyncEvery is how often everything is read anew, in case the bucket was
	// replaced or a change was missed.
	resyncEvery = 10 * time.Minute
	// silence is the longest wait for the next of the values that are there.
	silence = 15 * time.Second
	// maxTogether bounds the changes that are made at once.
	maxTogether = 1000
)

// bucket follows the entries of one source in a key-value bucket.
type bucket struct {
	table *Table
	conn  *nats.Conn
	js    jetstream.JetStream
	cfg   jetstream.KeyValueConfig
	setup topology.Setup
}

// ReadBucket reads the accounts of one source that are in its bucket, as they are
// now, and changes nothing there. An error means that the bucket can't be read or
// doesn't exist, or that a seal key is none.
func ReadBucket(ctx context.Context, js jetstream.JetStream, name string, cfg Config) (*Table, error) {
	box, err := seal.New(cfg.SealKeys)
	if err != nil {
		return nil, err
	}
	source := cfg.Sources[name]
	b := bucket{table: newTable(name, source, box, slog.New(slog.DiscardHandler)), js: js}
	b.cfg.Bucket = source.Accounts.Bucket
	kv, err := js.KeyValue(ctx, b.cfg.Bucket)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", b.cfg.Bucket, err)
	}
	w, err := b.watcher(ctx, kv)
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Stop() }()
	if err := b.takeAll(ctx, w); err != nil {
		return nil, err
	}
	b.table.ready()
	return b.table, nil
}

// follow watches the bucket until ctx ends, from the beginning each time that
// the connection was away.
func (b *bucket) follow(ctx context.Context) {
	retry := backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond),
		backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	said := ""
	for ctx.Err() == nil {
		err := b.watch(ctx, func() {
			said = ""
			retry.Reset()
		})
		if err == nil || ctx.Err() != nil {
			continue
		}
		if err.Error() != said {
			said = err.Error()
			b.table.log.LogAttrs(ctx, slog.LevelWarn, "accounts not read, those that are known stay",
				slog.String("bucket", b.cfg.Bucket), slog.Any("err", err))
		}
		select {
		case <-time.After(retry.NextBackOff()):
		case <-ctx.Done():
		}
	}
}

// watch takes all entries over, calls read, and then takes each change over as
// it comes. It returns nil when everything should be read anew.
func (b *bucket) watch(ctx context.Context, read func()) error {
	again := b.conn.StatusChanged(nats.CONNECTED)
	defer b.conn.RemoveStatusListener(again)
	kv, err := b.open(ctx)
	if err != nil {
		return err
	}
	w, err := b.watcher(ctx, kv)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }()
	if err := b.takeAll(ctx, w); err != nil {
		return err
	}
	b.table.ready()
	read()
	resync := time.NewTimer(resyncEvery)
	defer resync.Stop()
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return fmt.Errorf("watch bucket %s: it ended", b.cfg.Bucket)
			}
			b.takeSome(ctx, w, e)
		case <-again:
			return nil
		case <-resync.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

func (b *bucket) watcher(ctx context.Context, kv jetstream.KeyValue) (jetstream.KeyWatcher, error) {
	w, err := kv.Watch(ctx, b.table.name+".>")
	if err != nil {
		return nil, fmt.Errorf("watch bucket %s: %w", b.cfg.Bucket, err)
	}
	return w, nil
}

// open opens the bucket, and makes it if it doesn't exist and nobody else is to.
func (b *bucket) open(ctx context.Context) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	kv, err := b.js.KeyValue(ctx, b.cfg.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		if err = topology.ErrNotSetUp; b.setup != topology.ByCommand {
			kv, err = b.js.CreateKeyValue(ctx, b.cfg)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", b.cfg.Bucket, err)
	}
	return kv, nil
}

// takeAll takes over everything that the bucket has, and removes the accounts
// that it doesn't.
func (b *bucket) takeAll(ctx context.Context, w jetstream.KeyWatcher) error {
	t, changes := b.table, map[string]*item{}
	var gone []string // of which the bucket has neither a value nor a removal
	wait := time.NewTimer(silence)
	defer wait.Stop()
	for {
		select {
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return fmt.Errorf("watch bucket %s: it ended", b.cfg.Bucket)
			case e != nil:
				name, it := b.item(e, changes)
				changes[name] = it
				wait.Reset(silence)
				continue
			}
			for name := range t.all() {
				if _, ok := changes[name]; !ok {
					if len(changes) == 0 {
						return errNone
					}
					gone = append(gone, name)
				}
			}
			for _, name := range gone {
				changes[name] = nil
			}
			t.take(ctx, changes)
			return nil
		case <-wait.C:
			return fmt.Errorf("watch bucket %s: no answer in %s", b.cfg.Bucket, silence)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeSome takes over one change and those that have come behind it.
func (b *bucket) takeSome(ctx context.Context, w jetstream.KeyWatcher, e jetstream.KeyValueEntry) {
	changes := map[string]*item{}
	for range maxTogether {
		if e != nil {
			name, it := b.item(e, changes)
			changes[name] = it
		}
		select {
		case next, ok := <-w.Updates():
			if !ok {
				break // watch finds it out
			}
			e = next
			continue
		default:
		}
		break
	}
	b.table.take(ctx, changes)
}

// item returns the account that a value is of, and what becomes of it: nil if
// it was removed.
func (b *bucket) item(e jetstream.KeyValueEntry, changes map[string]*item) (string, *item) {
	name := strings.TrimPrefix(e.Key(), b.table.name+".")
	if e.Operation() != jetstream.KeyValuePut {
		return name, nil
	}
	old, ok := changes[name]
	if !ok {
		old = b.table.find(name)
	}
	return name, b.table.read(name, text{file: b.cfg.Bucket + "/" + e.Key(), data: e.Value(), sealed: true}, old, false)
}
