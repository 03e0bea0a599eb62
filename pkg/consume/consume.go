// Package consume is the loop that every stage runs: pull messages, hand them
// to the stage's handler, and give JetStream exactly one answer for each.
//
// A handler returns an error and, with package fault, says what it means. The
// loop alone turns that into an acknowledgement, a delayed redelivery or a
// termination. On a permanent error and on the last attempt it has the message
// kept as a dead letter and then terminates it with a [Reason], which the
// server's advisory carries to the dead-letter collector.
//
// An error that says that the work could not be begun (fault.Postpone) is no
// attempt: such deliveries are counted apart, in the bucket tercel_waits, and
// bounded by Config.GiveUpAfter. A message that ends the process or hangs each
// time it is delivered gets no answer; after two deliveries more than
// Config.MaxAttempts the loop gives it up without handing it out. The server's
// own limit is far above that, the net under the net.
package consume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Config is how a stage works through its messages.
type Config struct {
	// Workers is how many handler calls run at once. Defaults to 16; of sink to 1,
	// of reconciler.collect to 4.
	Workers int `yaml:"workers"`
	// Batch is the most messages that one handler call gets. Defaults to 1; of sink
	// to 500.
	Batch int `yaml:"batch"`
	// MaxBytes bounds what is in hand at once, of messages with their headers:
	// half of it with handlers, half waiting for them. A message that there is no
	// room for at a quarter of it is taken when nothing else is in hand. A batch is handed over
	// before it is full when it takes its worker's part of that half. Defaults to
	// 4MiB.
	MaxBytes config.Bytes `yaml:"max_bytes"`
	// Linger is how long a batch waits to become full, from its first message
	// on. Defaults to not at all: messages that come together are together.
	Linger time.Duration `yaml:"-"`
	// AckWait is how long the server waits for a sign of life before it
	// delivers a message to somebody else. Defaults to 30s.
	AckWait time.Duration `yaml:"ack_wait"`
	// Timeout bounds one handler call. Defaults to 60s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxAttempts is after how many attempts a message becomes a dead letter. What
	// could not be tried, since the other side was out, throttled or refused the
	// credential, is no attempt. Defaults to 12; of reconciler.collect to 100.
	MaxAttempts int `yaml:"max_attempts"`
	// GiveUpAfter is when a message becomes a dead letter that could not be tried
	// for so long, counted from when it was stored, by the server's clock: the
	// longest outage that passes without one. Messages must be kept for longer
	// than that, see streams. Defaults to 24h.
	GiveUpAfter time.Duration `yaml:"give_up_after"`
	// RetryMin and RetryMax bound the growing delay between attempts that fail
	// for a reason that may pass. Default to 1s and 5m: twelve attempts then
	// span about 19 minutes.
	RetryMin time.Duration `yaml:"retry_min"`
	RetryMax time.Duration `yaml:"retry_max"`
}

const (
	defaultGiveUp   = 24 * time.Hour
	defaultMaxBytes = 4 << 20
)

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	return Config{
		Workers: 16, Batch: 1, MaxBytes: defaultMaxBytes, AckWait: 30 * time.Second, Timeout: time.Minute,
		MaxAttempts: 12, GiveUpAfter: defaultGiveUp, RetryMin: time.Second, RetryMax: 5 * time.Minute,
	}
}

// Problems lists what is wrong with c, each with the key that it names.
func (c Config) Problems() map[string]string {
	p := map[string]string{}
	atLeast := func(key string, ok bool, want string) {
		if !ok {
			p[key] = want
		}
	}
	atLeast("workers", c.Workers >= 1 && c.Workers <= 4096, "1 to 4096")
	atLeast("batch", c.Batch >= 1 && c.Batch <= 1000, "1 to 1000")
	atLeast("max_bytes", c.MaxBytes == 0 || c.MaxBytes >= 64<<10 && c.MaxBytes <= 1<<30, "64KiB to 1GiB")
	atLeast("ack_wait", c.AckWait >= time.Second, "at least 1s")
	atLeast("timeout", c.Timeout > 0, "more than 0s")
	atLeast("max_attempts", c.MaxAttempts >= 1 && c.MaxAttempts <= 1000, "1 to 1000")
	atLeast("give_up_after", c.GiveUpAfter > 0, "more than 0s")
	atLeast("retry_min", c.RetryMin > 0, "more than 0s")
	atLeast("retry_max", c.RetryMax >= c.RetryMin, "at least retry_min")
	return p
}

// Delivery is what the consumer of a stage with this configuration needs.
func (c Config) Delivery() topology.Delivery {
	return topology.Delivery{AckWait: c.AckWait, MaxAttempts: c.MaxAttempts}
}

// Message is a message as a handler sees it.
type Message struct {
	Subject string
	Header  nats.Header
	Data    []byte
	// Stream and Sequence are the message's place.
	Stream   string
	Sequence uint64
	// StoredAt is when the stream took the message, by the server's clock, and Age how
	// long before this delivery, by the same. The local clock may be hours off.
	StoredAt time.Time
	Age      time.Duration
	// Attempt counts the deliveries of this message to its consumer that were
	// not postponed, and this one, from 1.
	Attempt int
}

// Handler works on up to Config.Batch messages and returns one error for each
// (nil for success), in their order. Its context ends at Config.Timeout and is
// not canceled when the loop is told to stop: work in hand is finished.
type Handler func(ctx context.Context, msgs []Message) []error

// Each makes a [Handler] of a function for a single message.
func Each(f func(ctx context.Context, m Message) error) Handler {
	return func(ctx context.Context, msgs []Message) []error {
		errs := make([]error, len(msgs))
		for i, m := range msgs {
			errs[i] = f(ctx, m)
		}
		return errs
	}
}

// Deps are what a [Loop] borrows.
type Deps struct {
	JetStream jetstream.JetStream
	Log       *slog.Logger
	// Keep, if set, stores a message that is given up, and returns the sequence
	// of its dead letter; deadletter.Keep makes one. The message is terminated
	// only after that (promise 3), and tried again while it fails.
	Keep func(ctx context.Context, m Message, r Reason) (letter uint64, err error)
	// Note, if set, hears of each attempt that failed, and of a later one that did
	// not; outcome.Log has one. It must not wait: messages do for it.
	Note func(m Message, a Attempt)
}

// Attempt is one try at a message, which counts.
type Attempt struct {
	// Outcome is how the message was answered after it.
	Outcome Outcome
	// Err is why it failed, or nil.
	Err error
	// Took is how long the handler had the message's batch.
	Took time.Duration
}

// Loop runs one stage over one durable consumer. Any number of loops, in one
// process or many, may share the consumer.
type Loop struct {
	cfg      Config
	deps     Deps
	stream   string
	consumer jetstream.ConsumerConfig
	stage    string
	name     string
	handle   Handler
	waits    waits
	metrics  instruments
	clock    clock // set as a session begins
}

// New returns a loop over the given durable consumer of stream, which it
// creates or updates whenever it (re)starts.
func New(cfg Config, stream string, consumer jetstream.ConsumerConfig, handle Handler, deps Deps) (*Loop, error) {
	cfg.GiveUpAfter, cfg.MaxBytes = cmp.Or(cfg.GiveUpAfter, defaultGiveUp), cmp.Or(cfg.MaxBytes, defaultMaxBytes)
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("stage loop of %s: %v", consumer.Durable, p)
	}
	stage, name, ok := topology.Stage(consumer.Durable)
	if !ok {
		return nil, fmt.Errorf("stage loop: consumer %q is none of package topology's", consumer.Durable)
	}
	m, err := newInstruments(stage, name)
	if err != nil {
		return nil, err
	}
	return &Loop{
		cfg: cfg, deps: deps, stream: stream, consumer: consumer, stage: stage, name: name, handle: handle, metrics: m,
		waits: waits{js: deps.JetStream, stream: stream, consumer: consumer.Durable},
	}, nil
}

// Run works until ctx ends, then finishes what is in hand and returns nil. A
// consumer that was deleted is made again; a server that is away is waited
// for, and so is one that has as many consumers as it may have. Only a consumer
// whose settings the server refuses is an error.
func (l *Loop) Run(ctx context.Context) error {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond),
		backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		started := time.Now()
		err := l.session(ctx)
		if ctx.Err() != nil {
			break
		}
		var api *jetstream.APIError
		if errors.As(err, &api) && api.Code == 400 && !errors.Is(err, jetstream.ErrMaximumConsumersLimit) {
			return err
		}
		if time.Since(started) > time.Minute {
			wait.Reset()
		}
		l.deps.Log.LogAttrs(ctx, slog.LevelWarn, "stage loop restarts", slog.String("stage", l.stage),
			slog.String("consumer", l.consumer.Durable), slog.Any("err", err))
		pause := wait.NextBackOff()
		if errors.Is(err, jetstream.ErrConsumerDeleted) {
			pause = max(pause, RemakeAfter)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return nil
}

// RemakeAfter is how long a consumer that was deleted must be gone before it is
// made anew. The server says that it is deleted before it removes its files, and
// would remove those of the new one.
const RemakeAfter = time.Second

// session pulls until ctx ends or the consumer is gone, then waits for the
// workers.
func (l *Loop) session(ctx context.Context) error {
	consumer, err := l.ready(ctx)
	if err != nil {
		return err
	}
	l.clock = clockOf(consumer)
	of := &generation{
		js: l.deps.JetStream, stream: l.stream, consumer: l.consumer.Durable,
		created: consumer.CachedInfo().Created,
	}
	// Twice what the workers hold at once: the next messages are there when a
	// worker is free, and none waits for longer than one call of a handler and its
	// answers, which may take a Timeout each.
	h := newHand(room{2 * l.cfg.Workers * l.cfg.Batch, int(l.cfg.MaxBytes)},
		2*(2*l.cfg.Timeout+l.cfg.Linger)+l.cfg.AckWait, ctx.Done(), l.metrics.hold)
	stopBeat := h.beat(l.cfg.AckWait / 3)
	defer stopBeat()
	stopWatch := of.watch(h)
	defer stopWatch()
	var workers sync.WaitGroup
	for range l.cfg.Workers {
		// Stopping ends the intake; it must not cancel the work in hand.
		workers.Go(func() { l.work(context.WithoutCancel(ctx), h) })
	}
	for large := false; err == nil && ctx.Err() == nil; {
		if r := h.awaitRoom(ctx, large); r.messages > 0 {
			large, err = l.pull(h, of, r)
		}
		switch {
		case errors.Is(err, jetstream.ErrConsumerDeleted):
			of.over.Store(true)
		case err == nil && of.over.Load():
			err = fmt.Errorf("pull from %s: %w", l.consumer.Durable, jetstream.ErrConsumerDeleted)
		}
	}
	close(h.feed)
	workers.Wait()
	return err
}

// ready makes the consumer, or changes it to its settings. One that the server
// can't write down works all the same until the server restarts, when it is made
// anew: a stage that stood still would be worse.
func (l *Loop) ready(ctx context.Context) (jetstream.Consumer, error) {
	made, err := l.deps.JetStream.CreateOrUpdateConsumer(ctx, l.stream, l.consumer)
	if err == nil {
		return made, nil
	}
	err = fmt.Errorf("consumer %s: %w", l.consumer.Durable, err)
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == codeConsumerNotStored {
		if had, there := l.deps.JetStream.Consumer(ctx, l.stream, l.consumer.Durable); there == nil {
			l.deps.Log.LogAttrs(ctx, slog.LevelError, "consumer works with the settings that it had", slog.String("stage", l.stage), slog.Any("err", err))
			return had, nil
		}
	}
	return nil, err
}

// codeConsumerNotStored is the server's answer when it can't write a consumer's
// settings, from nats-server's jetstream_errors_generated.go.
const codeConsumerNotStored jetstream.ErrorCode = 10012

// clock is the server's, by which it says when messages were stored: a local one
// may be wrong by more than messages may wait.
type clock struct{ server, local time.Time }

func clockOf(c jetstream.Consumer) clock {
	now := time.Now()
	if told := c.CachedInfo().TimeStamp; !told.IsZero() {
		return clock{told, now}
	}
	return clock{now, now}
}

// now is the server's time, however the local clock is set meanwhile.
func (l *Loop) now() time.Time { return l.clock.server.Add(time.Since(l.clock.local)) }
