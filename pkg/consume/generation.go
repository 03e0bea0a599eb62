package consume

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// generation tells a session's consumer from a later one of its name. Where an
// answer goes to, the server says by names and sequences alone: when a stream was
// deleted and made anew, an answer to a message of the old one would settle
// the message of the new one that has its sequence, and that would be lost if its
// own worker fails.
type generation struct {
	js       jetstream.JetStream
	stream   string
	consumer string
	created  time.Time   // of the consumer, which goes with its stream
	over     atomic.Bool // the consumer is gone: nothing of it is to be answered

	mu    sync.Mutex // guards asked
	asked time.Time  // when the server last told of the consumer
}

// Bounds of asking for the consumer: how long its word holds, well below the time
// after which one that was deleted is made anew, and how long it is waited for.
const (
	wordHolds   = RemakeAfter / 2
	wordTimeout = 2 * time.Second
)

// lasts reports whether the consumer is the session's own still. What the server
// doesn't tell in time changes nothing: it loses an answer then, if anything.
func (g *generation) lasts() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over.Load() || time.Since(g.asked) < wordHolds {
		return !g.over.Load()
	}
	ctx, cancel := context.WithTimeout(context.Background(), wordTimeout)
	defer cancel()
	c, err := g.js.Consumer(ctx, g.stream, g.consumer)
	g.asked = time.Now()
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) ||
		err == nil && !c.CachedInfo().Created.Equal(g.created) {
		g.over.Store(true)
	}
	return !g.over.Load()
}
