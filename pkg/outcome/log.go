package outcome

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	limit "golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/consume"
)

// Bounds of a [Log].
const (
	// rate is how many tries a process stores in a second, and burst how many at
	// once.
	rate, burst = 20, 200
	// waiting is how many wait to be stored.
	waiting      = 256
	storeTimeout = 2 * time.Second
)

// Log stores what becomes of tries, beside the stages of one process. Use
// [NewLog], then [Log.Start].
type Log struct {
	js      jetstream.JetStream
	log     *slog.Logger
	limiter *limit.Limiter
	queue   chan noted
	left    atomic.Int64 // out, since the last one that was stored
}

type noted struct {
	record Record
	header nats.Header // of the message that was tried
}

// NewLog returns a log that takes notes and stores them once it is started.
func NewLog(js jetstream.JetStream, log *slog.Logger) *Log {
	return &Log{js: js, log: log, limiter: limit.NewLimiter(rate, burst), queue: make(chan noted, waiting)}
}

// Note returns what a loop over the given durable consumer tells of its tries,
// for [consume.Deps]. It never waits.
func (l *Log) Note(consumer string) func(consume.Message, consume.Attempt) {
	return func(m consume.Message, a consume.Attempt) {
		now := time.Now()
		if !l.limiter.AllowN(now, 1) {
			l.left.Add(1)
			return
		}
		select {
		case l.queue <- noted{newRecord(consumer, m, a, now), m.Header}:
		default:
			l.left.Add(1)
		}
	}
}

// Start begins to store what is noted. The function that it returns ends that
// once what still waits was stored, after two seconds at most.
func (l *Log) Start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.run(ctx)
	}()
	return func() { cancel(); <-ended }
}

func (l *Log) run(ctx context.Context) {
	healthy := true
	store := func(ctx context.Context, n noted) {
		err := l.store(ctx, n)
		if err != nil && healthy {
			l.log.LogAttrs(ctx, slog.LevelWarn, "tries that fail are not noted now", slog.Any("err", err))
		}
		healthy = err == nil
	}
	for ctx.Err() == nil {
		select {
		case n := <-l.queue:
			store(ctx, n)
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	for last.Err() == nil {
		select {
		case n := <-l.queue:
			store(last, n)
		default:
			return
		}
	}
}

func (l *Log) store(ctx context.Context, n noted) error {
	n.record.Left = l.left.Swap(0)
	m, err := n.record.message(n.header)
	if err == nil {
		var cancel context.CancelFunc
		// What is being stored when the end comes has its time.
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		_, err = l.js.PublishMsg(ctx, m)
	}
	if err != nil {
		l.left.Add(n.record.Left + 1)
	}
	return err
}
