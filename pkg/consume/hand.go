package consume

import (
	"context"
	"sync"
	"time"
)

// hand holds the messages that the server has handed out, from their arrival
// to their answer, whether a worker has them or they wait for one. All of them
// get heartbeats: their ack wait runs from the moment of delivery.
type hand struct {
	// feed is what waits for a worker. It has room for all that is in hand, so
	// sending never blocks; the session closes it when nothing more comes.
	feed chan *message
	// freed holds a token when messages were answered since it was last taken.
	freed chan struct{}

	// patience is how long a message may be in hand. After that its handler
	// hangs: without heartbeats the server gives it to somebody else.
	patience time.Duration
	// stopped is closed when the loop has been told to stop.
	stopped <-chan struct{}

	// changed is told how many messages came, or went if it is negative.
	changed func(n int)

	// most is what may be in hand.
	most room

	mu    sync.Mutex // guards those below
	msgs  map[*message]taken
	bytes int // of msgs
}

// room is a number of messages and of bytes.
type room struct{ messages, bytes int }

// taken is when a message came into the hand, and what it takes there.
type taken struct {
	at    time.Time
	bytes int
}

func newHand(most room, patience time.Duration, stopped <-chan struct{}, changed func(n int)) *hand {
	return &hand{
		feed: make(chan *message, most.messages), freed: make(chan struct{}, 1), patience: patience, stopped: stopped, changed: changed,
		most: most, msgs: make(map[*message]taken, most.messages),
	}
}

// awaitRoom waits until at least a quarter of the room is free, while there is
// still something for the workers to go on with, and returns what may be taken,
// or nothing when ctx has ended. With large it waits until nothing is
// in hand, and returns one message of any size: no other way could it ever come.
func (h *hand) awaitRoom(ctx context.Context, large bool) room {
	for {
		h.mu.Lock()
		free := room{h.most.messages - len(h.msgs), h.most.bytes - h.bytes}
		h.mu.Unlock()
		if large && free == h.most {
			return room{messages: 1}
		}
		if !large && 4*free.messages >= h.most.messages && 4*free.bytes >= h.most.bytes {
			return free
		}
		select {
		case <-h.freed:
		case <-ctx.Done():
			return room{}
		}
	}
}

// holds reports whether anything has been in hand for so long.
func (h *hand) holds(so time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.msgs {
		if time.Since(t.at) >= so {
			return true
		}
	}
	return false
}

func (h *hand) take(m *message) {
	t := taken{time.Now(), m.size()}
	h.mu.Lock()
	h.msgs[m] = t
	h.bytes += t.bytes
	h.mu.Unlock()
	h.changed(1)
	h.feed <- m
}

// next returns a message that waits for a worker, or one that comes before
// over does; ok is false if none will.
func (h *hand) next(over <-chan time.Time) (m *message, ok bool) {
	select { // one that is there is taken even then
	case m, ok = <-h.feed:
		return m, ok
	default:
	}
	select {
	case m, ok = <-h.feed:
	case <-over:
	}
	return m, ok
}

// drop lets answered messages go.
func (h *hand) drop(batch []*message) {
	h.mu.Lock()
	for _, m := range batch {
		h.bytes -= h.msgs[m].bytes
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
					_ = m.beat() // a lost beat is made good by the next
				}
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

func (h *hand) alive() []*message {
	h.mu.Lock()
	defer h.mu.Unlock()
	alive := make([]*message, 0, len(h.msgs))
	for m, t := range h.msgs {
		if time.Since(t.at) < h.patience {
			alive = append(alive, m)
		}
	}
	return alive
}
