package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Filter chooses letters. A field that is zero chooses all.
type Filter struct {
	// Source is the source of the original event. A letter whose original was
	// gone is only known to be of a source when the enricher gave it up.
	Source string
	// Stage is the stage that gave the message up.
	Stage string
	// State is what became of the letter.
	State State
	// After is a letter's sequence: only letters behind it are listed.
	After uint64
	// Since leaves out letters that were stored before it. It is not used
	// together with After.
	Since time.Time
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
	kv, err := js.KeyValue(ctx, topology.BucketDeadLetters)
	if err != nil {
		return err
	}
	listed := 0
	for m, err := range consume.Scan(ctx, js, f.scan()) {
		if err != nil {
			return err
		}
		l := read(m.Sequence, m.Header, nil)
		if err := l.loadState(ctx, kv); err != nil {
			return err
		}
		if !f.chooses(l) {
			continue
		}
		listed++
		if !yield(l) || listed == f.Limit {
			return nil
		}
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
	if f.After > 0 {
		o.FromSequence = f.After + 1
	}
	return o
}

func (f Filter) chooses(l Letter) bool {
	return (f.Source == "" || f.Source == l.source()) && (f.Stage == "" || f.Stage == l.Stage) &&
		(f.State == "" || f.State == l.State)
}

// source is the original's source, as far as it is known.
func (l Letter) source() string {
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
		default:
			l.Payload = m.Data
		}
	}
	kv, err := js.KeyValue(ctx, topology.BucketDeadLetters)
	if err != nil {
		return fail(err)
	}
	if err := l.loadState(ctx, kv); err != nil {
		return fail(err)
	}
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

// record is what the bucket holds under a letter's sequence.
type record struct {
	State State `json:"state"`
	Replayed
}

func key(seq uint64) string { return strconv.FormatUint(seq, 10) }

func (l *Letter) loadState(ctx context.Context, kv jetstream.KeyValue) error {
	entry, err := kv.Get(ctx, key(l.Sequence))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("state of %d: %w", l.Sequence, err)
	}
	var r record
	if err := json.Unmarshal(entry.Value(), &r); err != nil {
		return fmt.Errorf("state of %d: %w", l.Sequence, err)
	}
	if l.State = r.State; r.State == StateReplayed {
		l.Replayed = &r.Replayed
	}
	return nil
}
