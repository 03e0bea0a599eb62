package deadletter

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Decode returns the letter that a message of TERCEL_DLQ is, for who reads the
// stream in an order of its own. It is open as far as this tells; [States] know.
func Decode(m consume.Message) Letter { return read(m.Sequence, m.Header, m.Data) }

// States know what became of letters. They are safe for concurrent use.
type States struct{ kv jetstream.KeyValue }

// OpenStates returns those of a server.
func OpenStates(ctx context.Context, js jetstream.JetStream) (States, error) {
	kv, err := js.KeyValue(ctx, topology.BucketDeadLetters)
	return States{kv}, err
}

// Load sets l's State and what belongs to it. It costs a request.
func (s States) Load(ctx context.Context, l *Letter) error { return l.loadState(ctx, s.kv) }
