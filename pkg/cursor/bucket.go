package cursor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

const (
	// streamCursors is the stream behind the bucket.
	streamCursors = "KV_" + topology.BucketCursors
	// subjectCursors begins the subjects of its keys.
	subjectCursors = "$KV." + topology.BucketCursors + "."
	// readWait bounds the wait for the next of the keys that the server is known to
	// hold.
	readWait = 10 * time.Second
)

// bucket is that of the cursors, which also has pauses, healths and backfills.
type bucket struct {
	js jetstream.JetStream
	kv jetstream.KeyValue
}

// put stores v as JSON after the rules of [topology.Put]. It returns
// [ErrConflict] where somebody else was first.
func (b bucket) put(ctx context.Context, key string, v any, revision uint64) (uint64, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	revision, err = topology.Put(ctx, b.kv, key, data, revision)
	if topology.Conflict(err) {
		return 0, ErrConflict
	}
	return revision, err
}

// entries returns what is stored under the keys that a pattern chooses, in their
// order: each that is there all the while once, as it is or was meanwhile.
func (b bucket) entries(ctx context.Context, pattern string) ([]jetstream.KeyValueEntry, error) {
	keys, err := b.keys(ctx, pattern)
	if err != nil {
		return nil, err
	}
	return b.read(ctx, keys, pattern)
}

// keys returns the names of the keys that a pattern chooses, in their order, and
// with them those of removed ones.
func (b bucket) keys(ctx context.Context, pattern string) ([]string, error) {
	stream, err := b.js.Stream(ctx, streamCursors)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", streamCursors, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subjectCursors+pattern))
	if err != nil {
		return nil, fmt.Errorf("keys %s: %w", pattern, err)
	}
	var keys []string
	for subject := range info.State.Subjects {
		keys = append(keys, strings.TrimPrefix(subject, subjectCursors))
	}
	slices.Sort(keys)
	return keys, nil
}

// read returns what is stored under keys, all of which the patterns choose, in
// the keys' order.
//
// It goes by the keys and not by what a watch calls its end: the watch counts
// entries, those of keys that are written meanwhile twice, so that the last ones
// may be missing.
func (b bucket) read(ctx context.Context, keys []string, patterns ...string) ([]jetstream.KeyValueEntry, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx) // something of the watch's lasts as long
	defer cancel()
	w, err := b.kv.WatchFiltered(ctx, patterns)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	defer func() {
		_ = w.Stop()
		for range w.Updates() { // until it has ended: nobody would take what is still to come
		}
	}()
	found, err := gather(ctx, w.Updates(), keys)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	var entries []jetstream.KeyValueEntry
	for _, key := range keys {
		if e := found[key]; e.Operation() == jetstream.KeyValuePut {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// gather takes entries until each of the keys has one, the latest that has come.
func gather(ctx context.Context, updates <-chan jetstream.KeyValueEntry, keys []string) (map[string]jetstream.KeyValueEntry, error) {
	found := make(map[string]jetstream.KeyValueEntry, len(keys))
	for _, key := range keys {
		found[key] = nil
	}
	idle := time.NewTimer(readWait)
	defer idle.Stop()
	for left := len(keys); left > 0; {
		select {
		case e, ok := <-updates:
			if !ok {
				return nil, errors.New("reading the bucket was cut off")
			}
			if e == nil { // the end by the watch's own count
				continue
			}
			before, wanted := found[e.Key()]
			if !wanted {
				continue
			}
			if found[e.Key()] = e; before == nil {
				left--
				idle.Reset(readWait)
			}
		case <-idle.C:
			return nil, fmt.Errorf("%d of %d have not come within %s", left, len(keys), readWait)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return found, nil
}
