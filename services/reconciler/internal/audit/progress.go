package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

const progressKey = "_audit.raw"

// audited are the streams that triggers and their outcomes are in.
var audited = []string{topology.StreamRaw, topology.StreamEnriched, topology.StreamDLQ}

// progress is how far the audit has come. It is only ever written by
// compare-and-set, so that a runner which lost its lease unawares can't set it
// back.
type progress struct {
	// Sources has the sequence of the last trigger of each source that is done
	// with.
	Sources map[string]uint64 `json:"sources"`
	// Ends has where each stream ended when that was known.
	Ends map[string]end `json:"ends"`
	// Streams and Consumers are what was seen of them, the consumers by stream and
	// name.
	Streams   map[string]known    `json:"streams,omitempty"`
	Consumers map[string]standing `json:"consumers,omitempty"`
	// Undelivered is when the oldest event was stored that some destination had
	// not taken.
	Undelivered time.Time `json:"undelivered,omitzero"`
	// Again is from when on triggers are looked for that have lost their events: what
	// was stored before it keeps what was said of it.
	Again time.Time `json:"again,omitzero"`
	// HealthyAt is when the last pass had found every consumer going, or had
	// set it going.
	HealthyAt time.Time `json:"healthy_at"`

	kv       jetstream.KeyValue
	revision uint64 // 0 before the first save
}

// end is a stream's last message. The time tells a stream that lost its tail
// and has grown beyond it since.
type end struct {
	Sequence uint64    `json:"sequence"`
	StoredAt time.Time `json:"stored_at"`
}

func loadProgress(ctx context.Context, js jetstream.JetStream) (*progress, error) {
	kv, err := js.KeyValue(ctx, topology.BucketCursors)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", topology.BucketCursors, err)
	}
	p := &progress{
		Sources: map[string]uint64{}, Ends: map[string]end{}, Streams: map[string]known{}, Consumers: map[string]standing{}, kv: kv,
	}
	entry, err := kv.Get(ctx, progressKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", progressKey, err)
	}
	if err := json.Unmarshal(entry.Value(), p); err != nil {
		return nil, fmt.Errorf("load %s: it was not written by an audit; delete it to begin anew", progressKey)
	}
	p.revision = entry.Revision()
	return p, nil
}

// lostTail reports whether the stream no longer holds what was its end.
func (p *progress) lostTail(ctx context.Context, js jetstream.JetStream, name string) (bool, error) {
	was := p.Ends[name]
	if was.Sequence == 0 {
		return false, nil
	}
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return false, fmt.Errorf("stream %s: %w", name, err)
	}
	if stream.CachedInfo().State.LastSeq < was.Sequence {
		return true, nil
	}
	m, err := stream.GetMsg(ctx, was.Sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil // it has left by age, or by hand
	}
	if err != nil {
		return false, fmt.Errorf("message %s %d: %w", name, was.Sequence, err)
	}
	return !m.Time.Equal(was.StoredAt), nil
}

// save notes where the streams end and stores p. It comes after all reading:
// every outcome that was seen lies before those ends.
func (p *progress) save(ctx context.Context, js jetstream.JetStream) error {
	for _, name := range audited {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("stream %s: %w", name, err)
		}
		state := stream.CachedInfo().State
		p.Ends[name] = end{state.LastSeq, state.LastTime}
	}
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("save %s: %w", progressKey, err)
	}
	if _, err := topology.Put(ctx, p.kv, progressKey, data, p.revision); err != nil {
		return fmt.Errorf("save %s: %w", progressKey, err)
	}
	return nil
}
