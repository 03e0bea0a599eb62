package consume

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// hand holds the messages that the server has handed out, from their arrival
// to their answer, whether a worker has them or they wait for one. All of them
// get heartbeats: their ack wait runs from the moment of delivery.
type hand struct {
	// feed is what waits for a worker. It has room for all that is in hand, so
	// sending never blocks; the session closes it when nothing more comes.
	feed chan jetstream.Msg
	// freed holds a token when messages were answered since it was last taken.
	freed chan struct{}

	// patience is how long a message may be in hand. After that its handler
	// hangs: without heartbeats the server gives it to somebody else.
	patience time.Duration
	// stopped is closed when the loop has been told to stop.
	stopped <-chan struct{}

	// changed is told how many messages came, or went if it is negative.
	changed func(n int)

	mu   sync.Mutex                  // guards msgs
	msgs map[jetstream.Msg]time.Time // when each was taken
}

func newHand(room int, patience time.Duration, stopped <-chan struct{}, changed func(n int)) *hand {
	return &hand{
		feed: make(chan jetstream.Msg, room), freed: make(chan struct{}, 1), patience: patience, stopped: stopped, changed: changed,
		msgs: make(map[jetstream.Msg]time.Time, room),
	}
}

// awaitRoom waits until at least half of the room is free and returns how many
// messages may be taken, or 0 when ctx has ended.
func (h *hand) awaitRoom(ctx context.Context) int {
	for {
		h.mu.Lock()
		n := cap(h.feed) - len(h.msgs)
		h.mu.Unlock()
		if 2*n >= cap(h.feed) {
			return n
		}
		select {
		case <-h.freed:
		case <-ctx.Done():
			return 0
		}
	}
}

func (h *hand) take(m jetstream.Msg) {
	h.mu.Lock()
	h.msgs[m] = time.Now()
	h.mu.Unlock()
	h.changed(1)
	h.feed <- m
}

// drop lets answered messages go.
func (h *hand) drop(batch []jetstream.Msg) {
	h.mu.Lock()
	for _, m := range batch {
		delete(h.msgs, m)
	}
	h.mu.Unlock()
	h.changed(-len(batch))
	select {
	case h.freed <- struct{}{}:
	default:
	}
}

// soonest is the shortest delay of a message that is given back. When the loop
// stops, what it gives back must not come to its own last pull again and use
// up its attempts there.
func (h *hand) soonest(retryMin time.Duration) time.Duration {
	select {
	case <-h.stopped:
		return max(retryMin, pullWait)
	default:
		return retryMin
	}
}

// beat tells the server at every interval that the messages in hand are being
// worked on. The returned function ends it.
func (h *hand) beat(every time.Duration) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				for _, m := range h.alive() {
					_ = m.InProgress() // a lost beat is made good by the next
				}
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

func (h *hand) alive() []jetstream.Msg {
	h.mu.Lock()
	defer h.mu.Unlock()
	alive := make([]jetstream.Msg, 0, len(h.msgs))
	for m, taken := range h.msgs {
		if time.Since(taken) < h.patience {
			alive = append(alive, m)
		}
	}
	return alive
}
