package consume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// waits counts, for each message, the deliveries that were no attempts: those
// that ended postponed. The server counts deliveries alone, so what the loop
// takes off is kept in a bucket, where other replicas and later processes find
// it. A count that can't be kept makes an attempt of a delivery. A message whose
// count can't be read is given back unseen: it may have all its attempts left. So
// may one that is older than the bucket, which was lost and made anew: it has them all.
type waits struct {
	js       jetstream.JetStream
	stream   string
	consumer string

	mu sync.Mutex // guards kv
	kv jetstream.KeyValue
}

// abreast is how many counts of a batch are read or written at once.
const abreast = 16

// readPatience is how long counts are asked for, or written, readTimeout how long
// they are asked for once and readPause the time in between: a bucket has a new
// leader by then.
const (
	readPatience = 10 * time.Second
	readTimeout  = 2 * time.Second
	readPause    = 250 * time.Millisecond
)

func (w *waits) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.kv != nil {
		return w.kv, nil
	}
	kv, err := w.js.KeyValue(ctx, topology.BucketWaits)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", topology.BucketWaits, err)
	}
	w.kv = kv
	return kv, nil
}

func (w *waits) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kv = nil
}

func (w *waits) key(sequence uint64) string {
	return w.stream + "." + w.consumer + "." + strconv.FormatUint(sequence, 10)
}

// load sets what is kept for those messages that were delivered before, or
// marks them as unread after so long.
func (w *waits) load(ctx context.Context, patience time.Duration, held []*inHand) error {
	var again []*inHand
	for _, h := range held {
		if h.delivered > 1 {
			again = append(again, h)
		}
	}
	if len(again) == 0 { // as it mostly is, and a bound would cost more than all else here
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err, why := w.each(ctx, again, w.read), errUnread
		if err == nil {
			err = w.renew(ctx, again)
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, jetstream.ErrBucketNotFound) { // others make it anew, or tercel setup
			why = errNoBucket
		} else {
			select {
			case <-time.After(readPause):
				continue
			case <-ctx.Done():
			}
		}
		for _, h := range again {
			h.unread = why
		}
		w.forget() // perhaps there is another bucket by now, or none
		return err
	}
}

func (w *waits) read(ctx context.Context, kv jetstream.KeyValue, h *inHand) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	e, err := kv.Get(ctx, w.key(h.message.Sequence))
	if h.kept = err == nil; errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("waits of message %d: %w", h.message.Sequence, err)
	}
	// More than there were deliveries before is not written by a loop.
	if n, err := strconv.ParseUint(string(e.Value()), 10, 32); err == nil && n < h.delivered {
		h.waits = n
	}
	return nil
}

// renew makes waits of all earlier deliveries of those messages of which nothing is
// kept and which are older than the bucket: what was kept may have been lost. That
// is kept at once, or one that nobody survives would never be given up.
func (w *waits) renew(ctx context.Context, held []*inHand) error {
	if !slices.ContainsFunc(held, func(h *inHand) bool { return !h.kept }) {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	bucket, err := w.js.Stream(asking, "KV_"+topology.BucketWaits)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = jetstream.ErrBucketNotFound
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", topology.BucketWaits, err)
	}
	var lost []*inHand
	for _, h := range held {
		if !h.kept && h.message.StoredAt.Before(bucket.CachedInfo().Created) {
			h.waits, lost = h.delivered-1, append(lost, h)
		}
	}
	return w.each(ctx, lost, func(ctx context.Context, kv jetstream.KeyValue, h *inHand) error {
		return w.write(ctx, kv, h, h.waits)
	})
}

func (w *waits) write(ctx context.Context, kv jetstream.KeyValue, h *inHand, n uint64) error {
	if _, err := kv.Put(ctx, w.key(h.message.Sequence), strconv.AppendUint(nil, n, 10)); err != nil {
		return fmt.Errorf("waits of message %d: %w", h.message.Sequence, err)
	}
	return nil
}

// count keeps that this delivery of the messages was none of the attempts. It
// takes no longer than patience.
func (w *waits) count(ctx context.Context, patience time.Duration, held []*inHand) error {
	if len(held) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return w.each(ctx, held, func(ctx context.Context, kv jetstream.KeyValue, h *inHand) error {
		return w.write(ctx, kv, h, h.waits+1)
	})
}

// each calls f for all messages, some at once, and returns one of the errors.
func (w *waits) each(ctx context.Context, held []*inHand, f func(context.Context, jetstream.KeyValue, *inHand) error) error {
	if len(held) == 0 {
		return nil
	}
	kv, err := w.bucket(ctx)
	if err != nil {
		return err
	}
	errs, next := make(chan error, len(held)), make(chan *inHand, len(held))
	for _, h := range held {
		next <- h
	}
	close(next)
	var group sync.WaitGroup
	for range min(abreast, len(held)) {
		group.Go(func() {
			for h := range next {
				errs <- f(ctx, kv, h)
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
