package deadletter

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Filter chooses letters. A field that is zero chooses all.
type Filter struct {
	// Source and Account are those of the original event. A letter whose original
	// was gone is only known to be of a source when the enricher gave it up.
	Source, Account string
	// Type is a pattern of the original's type, see [event.Match].
	Type string
	// Stage is the stage that gave the message up, and Destination the one that
	// it served.
	Stage, Destination string
	// States are what became of the letter: any of them.
	States []State
	// Fingerprint is that of a group.
	Fingerprint string
	// EventID is the original's id, or the provider's own of the delivery.
	EventID string
	// Sequences are the letters' own.
	Sequences []uint64
	// After and Before are letters' sequences: only those between them are
	// listed.
	After, Before uint64
	// Since leaves out letters that were stored before it, Until those that were
	// given up at it or later. Since is not used together with After.
	Since, Until time.Time
	// Limit is the most letters listed.
	Limit int
}

// List yields the letters that f chooses in the order in which they were
// stored, without their payloads, and ends at the end of the stream as it was
// at the call. An error ends it too. It is to be ranged over once.
func List(ctx context.Context, js jetstream.JetStream, f Filter) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		if err := list(ctx, js, f, func(l Letter) bool { return yield(l, nil) }); err != nil {
			yield(Letter{}, fmt.Errorf("list dead letters: %w", err))
		}
	}
}

func list(ctx context.Context, js jetstream.JetStream, f Filter, yield func(Letter) bool) error {
	return book{js: js}.list(ctx, f, yield)
}

// book reads letters together with what became of them.
type book struct {
	js     jetstream.JetStream
	states map[uint64]record // nil until they are needed
}

func (b book) list(ctx context.Context, f Filter, yield func(Letter) bool) error {
	listed := 0
	for m, err := range consume.Scan(ctx, b.js, f.scan()) {
		if err != nil {
			return err
		}
		if f.Before > 0 && m.Sequence >= f.Before {
			return nil
		}
		l := read(m.Sequence, m.Header, nil)
		if !f.means(l) {
			continue
		}
		if b.states == nil {
			if b.states, err = states(ctx, b.js); err != nil {
				return err
			}
		}
		l.become(b.states[l.Sequence])
		if len(f.States) > 0 && !slices.Contains(f.States, l.State) {
			continue
		}
		listed++
		if !yield(l) || listed == f.Limit {
			return nil
		}
	}
	return nil
}

// Chunks of the stream that [Newest] reads at once, in sequences.
const minChunk, maxChunk = 512, 1 << 16

// Newest yields the letters that f chooses as [List] does, but the newest first.
// It reads the stream from its end in growing chunks.
func Newest(ctx context.Context, js jetstream.JetStream, f Filter) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		if err := newest(ctx, js, f, func(l Letter) bool { return yield(l, nil) }); err != nil {
			yield(Letter{}, fmt.Errorf("list dead letters: %w", err))
		}
	}
}

func newest(ctx context.Context, js jetstream.JetStream, f Filter, yield func(Letter) bool) error {
	stream, err := js.Stream(ctx, topology.StreamDLQ)
	if err != nil {
		return err
	}
	state := stream.CachedInfo().State
	b := book{js: js}
	if b.states, err = states(ctx, js); err != nil {
		return err
	}
	end, listed := state.LastSeq+1, 0
	if f.Before > 0 {
		end = min(end, f.Before)
	}
	first := max(state.FirstSeq, f.After+1)
	for chunk := uint64(minChunk); end > first; chunk = min(2*chunk, maxChunk) {
		part := f
		part.Limit, part.Before, part.After = 0, end, first-1
		if end-first > chunk {
			part.After = end - chunk - 1
		}
		var letters []Letter
		if err := b.list(ctx, part, func(l Letter) bool { letters = append(letters, l); return true }); err != nil {
			return err
		}
		for _, l := range slices.Backward(letters) {
			listed++
			if !yield(l) || listed == f.Limit {
				return nil
			}
		}
		end = part.After + 1
	}
	return nil
}

// scan reads headers only. Its subjects leave most other sources and stages
// on the server.
func (f Filter) scan() consume.ScanOptions {
	stage, source := "*", "*"
	if f.Stage != "" {
		stage = event.Escape(f.Stage)
	}
	if f.Source != "" {
		source = event.Escape(f.Source)
	}
	o := consume.ScanOptions{
		Stream: topology.StreamDLQ, Subjects: []string{event.PrefixDLQ + "." + stage + "." + source + ".>"},
		HeadersOnly: true, FromTime: f.Since,
	}
	after := f.After
	if len(f.Sequences) > 0 {
		after = max(after, slices.Min(f.Sequences)-1)
	}
	if after > 0 {
		o.FromSequence = after + 1
	}
	return o
}

// means reports whether f chooses a letter, whatever became of it.
func (f Filter) means(l Letter) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(f.Source, l.Source()) && is(f.Stage, l.Stage) && is(f.Account, l.Event.Account) &&
		is(f.Destination, l.Destination()) &&
		(f.Type == "" || event.Match(f.Type, l.Event.Type)) &&
		(f.EventID == "" || f.EventID == l.Event.ID || f.EventID == l.Event.DeliveryID) &&
		(f.Until.IsZero() || l.DeadAt.Before(f.Until)) && (f.Since.IsZero() || f.After == 0 || !l.DeadAt.Before(f.Since)) &&
		(len(f.Sequences) == 0 || slices.Contains(f.Sequences, l.Sequence)) &&
		is(f.Fingerprint, l.Fingerprint())
}

// Chooses reports whether f chooses a letter as [Get] returns it. After, Before and
// Limit are of lists alone.
func (f Filter) Chooses(l Letter) bool {
	return f.means(l) && !l.DeadAt.Before(f.Since) && (len(f.States) == 0 || slices.Contains(f.States, l.State))
}

// Destination is the name of the destination that could not be served, or "" for
// a letter of another stage.
func (l Letter) Destination() string {
	if l.Stage == topology.StageDeliver {
		return l.Name
	}
	return ""
}

// Source is the source of the original event, as far as it is known: of an
// original that was gone it is only when the enricher gave it up.
func (l Letter) Source() string {
	if l.Event.Source == "" && l.Stage == topology.StageEnrich {
		return l.Name
	}
	return l.Event.Source
}

// Get returns the letter at a sequence of TERCEL_DLQ with its payload, or
// [ErrNotFound].
func Get(ctx context.Context, js jetstream.JetStream, seq uint64) (Letter, error) {
	fail := func(err error) (Letter, error) { return Letter{}, fmt.Errorf("dead letter %d: %w", seq, err) }
	m, err := message(ctx, js, topology.StreamDLQ, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return fail(ErrNotFound)
	}
	if err != nil {
		return fail(err)
	}
	l := read(seq, m.Header, m.Data)
	if l.elsewhere {
		m, err := message(ctx, js, l.Stream, l.OriginalSequence)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			l.PayloadMissing = true
		case err != nil:
			return fail(err)
		case !l.StoredAt.IsZero() && !l.StoredAt.Equal(m.Time): // another's
			l.PayloadMissing = true
		default:
			l.Payload = m.Data
		}
	}
	kv, err := js.KeyValue(ctx, topology.BucketDeadLetters)
	if err != nil {
		return fail(err)
	}
	r, _, err := load(ctx, kv, seq)
	if err != nil {
		return fail(err)
	}
	l.become(r)
	return l, nil
}

func message(ctx context.Context, js jetstream.JetStream, stream string, seq uint64) (*jetstream.RawStreamMsg, error) {
	if seq == 0 {
		return nil, jetstream.ErrMsgNotFound // the server takes 0 for "any"
	}
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	return s.GetMsg(ctx, seq)
}
