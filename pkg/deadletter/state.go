package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/topology"
)

// record is what the bucket holds under a letter's sequence.
type record struct {
	// Of is the letter's own id: a stream that was made anew, or lost its end, gives
	// its sequence to another one. Without it the record is of any.
	Of    string `json:"of,omitzero"`
	State State  `json:"state"`
	// Replayed is of the last replay, if MsgID is not "".
	Replayed
	Discarded *Discarded `json:"discarded,omitempty"`
	Edited    bool       `json:"edited,omitempty"`
}

// isOf reports whether the record is of a letter, and not of an older one that had
// its sequence.
func (r record) isOf(l Letter) bool { return r.Of == "" || r.Of == l.id() }

func key(seq uint64) string { return strconv.FormatUint(seq, 10) }

// become notes on a letter what became of it.
func (l *Letter) become(r record) {
	if r.State == "" || !r.isOf(*l) {
		return
	}
	l.State, l.Edited, l.Discarded = r.State, r.Edited, r.Discarded
	if r.MsgID != "" {
		l.Replayed = &r.Replayed
	}
}

// load returns what is noted of a letter, with the revision to change it by.
func load(ctx context.Context, kv jetstream.KeyValue, seq uint64) (record, uint64, error) {
	entry, err := kv.Get(ctx, key(seq))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return record{}, 0, nil
	}
	if err != nil {
		return record{}, 0, fmt.Errorf("state of %d: %w", seq, err)
	}
	var r record
	if err := json.Unmarshal(entry.Value(), &r); err != nil {
		return record{}, 0, fmt.Errorf("state of %d: %w", seq, err)
	}
	return r, entry.Revision(), nil
}

// states reads what is noted of all letters in one pass: a key at a time would
// take a round trip for each letter of a list.
func states(ctx context.Context, js jetstream.JetStream) (map[uint64]record, error) {
	all := map[uint64]record{}
	prefix := "$KV." + topology.BucketDeadLetters + "."
	for m, err := range consume.Scan(ctx, js, consume.ScanOptions{
		Stream: "KV_" + topology.BucketDeadLetters, Subjects: []string{prefix + "*"},
	}) {
		if err != nil {
			return nil, err
		}
		seq, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, prefix), 10, 64)
		if err != nil || len(m.Data) == 0 { // no letter's, or removed
			continue
		}
		var r record
		if err := json.Unmarshal(m.Data, &r); err != nil {
			return nil, fmt.Errorf("state of %d: %w", seq, err)
		}
		all[seq] = r
	}
	return all, nil
}

const (
	// maxConflicts bounds how often a change is tried again that others came before.
	maxConflicts = 20
	// conflictWait is the wait before the first of these, and grows by as much each
	// time: in a cluster the other change may be on its way for a while.
	conflictWait = 10 * time.Millisecond
)

// change notes something of a letter. Others may do so at the same time: each
// change is applied to what the last one left.
func change(ctx context.Context, kv jetstream.KeyValue, l Letter, apply func(*record) error) error {
	seq := l.Sequence
	for try := range maxConflicts {
		select {
		case <-time.After(time.Duration(try) * conflictWait):
		case <-ctx.Done():
			return ctx.Err()
		}
		r, revision, err := load(ctx, kv, seq)
		if err != nil {
			return err
		}
		if !r.isOf(l) {
			r = record{}
		}
		if r.Of = l.id(); r.State == "" {
			r.State = StateOpen
		}
		if err := apply(&r); err != nil {
			return err
		}
		value, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("state of %d: %w", seq, err)
		}
		if _, err = topology.Put(ctx, kv, key(seq), value, revision); !topology.Conflict(err) {
			return err
		}
	}
	return fmt.Errorf("state of %d: others change it all the time", seq)
}

// Discard marks a letter as dealt with, without sending anything, and says why.
// Nothing is deleted: it can still be replayed. Discarding it again replaces the
// reason. It returns [ErrNotFound] for a letter that is not there.
func Discard(ctx context.Context, js jetstream.JetStream, seq uint64, d Discarded) error {
	fail := func(err error) error { return fmt.Errorf("discard dead letter %d: %w", seq, err) }
	m, err := message(ctx, js, topology.StreamDLQ, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return fail(ErrNotFound)
	}
	if err != nil {
		return fail(err)
	}
	kv, err := js.KeyValue(ctx, topology.BucketDeadLetters)
	if err != nil {
		return fail(err)
	}
	d.At = d.At.UTC()
	if err := change(ctx, kv, read(seq, m.Header, nil), func(r *record) error {
		r.State, r.Discarded = StateDiscarded, &d
		return nil
	}); err != nil {
		return fail(err)
	}
	return nil
}
