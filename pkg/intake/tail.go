package intake

import (
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Tail reads what replicas store, as it comes. It is not safe for concurrent
// use.
type Tail struct {
	js   jetstream.JetStream
	from time.Time
	read uint64 // the last sequence that was
}

// NewTail returns a tail that begins with what was stored at from.
func NewTail(js jetstream.JetStream, from time.Time) *Tail { return &Tail{js: js, from: from} }

// Read calls each with what was stored since the last call, and anew before if
// that begins with from again: in the first call, and when the stream has lost
// its end. After an error the next call goes on where this one was.
func (t *Tail) Read(ctx context.Context, anew func(), each func(Span)) error {
	stream, err := t.js.Stream(ctx, topology.StreamIntake)
	if err != nil {
		return fmt.Errorf("stream %s: %w", topology.StreamIntake, err)
	}
	if t.read == 0 || stream.CachedInfo().State.LastSeq < t.read {
		t.read = 0
		anew()
	}
	o := consume.ScanOptions{Stream: topology.StreamIntake, FromTime: t.from}
	if t.read > 0 {
		o = consume.ScanOptions{Stream: topology.StreamIntake, FromSequence: t.read + 1}
	}
	for m, err := range consume.Scan(ctx, t.js, o) {
		if err != nil {
			return fmt.Errorf("outcomes of requests: %w", err)
		}
		if s, ok := decode(m.Data); ok {
			each(s)
		}
		t.read = m.Sequence
	}
	return nil
}

// decode reads a message, unless it was written by something else.
func decode(data []byte) (Span, bool) {
	var s Span
	err := json.Unmarshal(data, &s)
	return s, err == nil && !s.To.Before(s.From)
}
