// Package lookback reads what a stream holds from its end to its beginning, as
// people want to see it, and stops after a bounded amount of work. JetStream
// hands messages out in the order in which they were stored; this reads window
// by window, each forward and the last one first.
package lookback

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
)

// Options say what [Read] reads.
type Options struct {
	// Stream is the stream's name.
	Stream string
	// Subjects are the filters; none means everything.
	Subjects []string
	// HeadersOnly leaves the bodies on the server.
	HeadersOnly bool
	// Before is the sequence that reading begins below. 0 means the end.
	Before uint64
	// Since and Until, if set, leave out what was stored before Since, and at or
	// after Until.
	Since, Until time.Time
}

// Bounds of one call. A window holds at most so many sequences, since all of its
// messages may be held in memory.
const (
	firstWindow     = 256
	maxWindow       = 512
	maxHeaderWindow = 16 << 10
	maxWindows      = 100
	maxRead         = 200_000
)

// Read calls each with messages of a stream, the newest first, until it returns
// false, the beginning is reached, or so much was read that the caller should be
// asked whether to go on: about 200,000 messages or 100 windows. It returns the
// sequence to go on below, or 0 at the beginning.
func Read(ctx context.Context, js jetstream.JetStream, o Options, each func(consume.Message) bool) (next uint64, err error) {
	r := reader{js: js, o: o}
	if next, err = r.read(ctx, each); err != nil {
		return 0, fmt.Errorf("look back over %s: %w", o.Stream, err)
	}
	return next, nil
}

type reader struct {
	js   jetstream.JetStream
	o    Options
	low  uint64 // nothing below is wanted
	high uint64 // nothing at or above is wanted
	n    int    // messages read
}

func (r *reader) read(ctx context.Context, each func(consume.Message) bool) (next uint64, err error) {
	if err := r.bound(ctx); err != nil {
		return 0, err
	}
	size := uint64(firstWindow)
	for range maxWindows {
		if r.high <= r.low {
			return 0, nil
		}
		from := r.low
		if r.high-r.low > size {
			from = r.high - size
		}
		window, err := r.window(ctx, from)
		if err != nil {
			return 0, err
		}
		for _, m := range slices.Backward(window) {
			if !each(m) {
				return r.after(m.Sequence), nil
			}
		}
		r.high = from
		if r.n += len(window); r.n >= maxRead {
			break
		}
		size = r.grow(size, len(window))
	}
	return r.after(r.high), nil
}

// after is below where to go on when everything from seq on has been seen.
func (r *reader) after(seq uint64) uint64 {
	if seq <= r.low {
		return 0
	}
	return seq
}

// grow makes windows larger as long as they are mostly empty.
func (r *reader) grow(size uint64, found int) uint64 {
	limit := uint64(maxWindow)
	if r.o.HeadersOnly {
		limit = maxHeaderWindow
	}
	if uint64(found) > limit/4 {
		return size
	}
	return min(size*4, limit)
}

// bound finds the sequences between which to read.
func (r *reader) bound(ctx context.Context) error {
	stream, err := r.js.Stream(ctx, r.o.Stream)
	if err != nil {
		return err
	}
	state := stream.CachedInfo().State
	r.low, r.high = state.FirstSeq, state.LastSeq+1
	if r.o.Before > 0 {
		r.high = min(r.high, r.o.Before)
	}
	if !r.o.Since.IsZero() {
		seq, err := r.at(ctx, r.o.Since)
		if err != nil {
			return err
		}
		r.low = max(r.low, seq)
	}
	if !r.o.Until.IsZero() {
		seq, err := r.at(ctx, r.o.Until)
		if err != nil {
			return err
		}
		r.high = min(r.high, seq)
	}
	return nil
}

// at is the sequence of the first message that was stored at or after t, or one
// behind the end.
func (r *reader) at(ctx context.Context, t time.Time) (uint64, error) {
	for m, err := range consume.Scan(ctx, r.js, consume.ScanOptions{Stream: r.o.Stream, HeadersOnly: true, FromTime: t}) {
		return m.Sequence, err
	}
	return r.high, nil
}

// window reads the messages from a sequence up to where the last window began.
func (r *reader) window(ctx context.Context, from uint64) ([]consume.Message, error) {
	var all []consume.Message
	for m, err := range consume.Scan(ctx, r.js, consume.ScanOptions{
		Stream: r.o.Stream, Subjects: r.o.Subjects, HeadersOnly: r.o.HeadersOnly, FromSequence: from,
	}) {
		if err != nil {
			return nil, err
		}
		if m.Sequence >= r.high {
			break
		}
		all = append(all, m)
	}
	return all, nil
}
