package refusal

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Bounds of a [Log].
const (
	// waiting is how many refusals wait to be stored.
	waiting = 256
	// storeTimeout bounds storing one.
	storeTimeout = 2 * time.Second
)

// Log stores refusals beside whoever refuses. Use [NewLog].
type Log struct {
	js      jetstream.JetStream
	log     *slog.Logger
	queue   chan Record // closed by Close
	dropped atomic.Int64
	ended   chan struct{}

	mu     sync.Mutex // guards closed, and has nothing sent to queue afterwards
	closed bool
}

// NewLog returns a log that is ready. Close it.
func NewLog(js jetstream.JetStream, log *slog.Logger) *Log {
	l := &Log{js: js, log: log, queue: make(chan Record, waiting), ended: make(chan struct{})}
	go l.run()
	return l
}

// Keep stores r soon. It never waits: where there is no room, r is counted and
// left out.
func (l *Log) Keep(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	select {
	case l.queue <- r:
	default:
		l.dropped.Add(1)
	}
}

// Dropped is how many refusals were left out.
func (l *Log) Dropped() int64 { return l.dropped.Load() }

// Close stores what waits, as long as the server takes it, and ends the log.
func (l *Log) Close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.queue)
	}
	l.mu.Unlock()
	<-l.ended
}

func (l *Log) run() {
	defer close(l.ended)
	healthy := true
	for r := range l.queue {
		err := l.store(r)
		switch {
		case err != nil:
			l.dropped.Add(1)
			if healthy {
				l.log.LogAttrs(context.Background(), slog.LevelWarn, "refused requests are not kept now", slog.Any("err", err))
			}
			l.skip()
		case !healthy:
			l.log.LogAttrs(context.Background(), slog.LevelInfo, "refused requests are kept again", slog.Int64("dropped", l.Dropped()))
		}
		healthy = err == nil
	}
}

// skip drops what waits: a server that takes nothing would have each of them
// wait for its own timeout, and the end of the process for all of them.
func (l *Log) skip() {
	for {
		select {
		case _, more := <-l.queue:
			if !more {
				return
			}
			l.dropped.Add(1)
		default:
			return
		}
	}
}

func (l *Log) store(r Record) error {
	m, err := r.message()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	_, err = l.js.PublishMsg(ctx, m)
	return err
}
