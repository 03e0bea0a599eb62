package consume

import (
	"context"
	"errors"
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
}

// Bounds of asking for the consumer: how often, well below the time after which one
// that was deleted is made anew, and how long it is waited for.
const (
	askEvery   = RemakeAfter / 2
	askTimeout = 2 * time.Second
)

// watch asks for the consumer until stop is called, while anything is in hand that was
// before it could have been made anew: what is answered sooner, as most is, costs no
// question. No answer waits for one.
func (g *generation) watch(h *hand) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(askEvery)
		defer tick.Stop()
		for !g.over.Load() {
			select {
			case <-tick.C:
				if h.holds(askEvery) {
					g.ask(ctx)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// ask notes if the consumer isn't the session's own any more. What the server
// doesn't tell in time changes nothing: it loses an answer then, if anything.
func (g *generation) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c, err := g.js.Consumer(ctx, g.stream, g.consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) ||
		err == nil && !c.CachedInfo().Created.Equal(g.created) {
		g.over.Store(true)
	}
}
