// Package census tells what streams and consumers hold, as metrics, once for all
// replicas: whoever has the lease "census" looks and tells, and the others are
// silent. Otherwise every figure would be there once for each of them.
package census

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/pkg/topology"
)

// lease is the name of the right to tell.
const lease = "census"

// Config is how a [Census] works.
type Config struct {
	// Every is the time between two looks. One costs a request for each stream
	// and bucket, and two or three for each consumer.
	Every time.Duration
	// LeaseTTL is how long a replica that has gone keeps others out; whole seconds.
	LeaseTTL time.Duration
	// Streams is how the pipeline's streams are set up.
	Streams topology.Config
}

// Deps are what a [Census] borrows.
type Deps struct {
	JetStream jetstream.JetStream
	Log       *slog.Logger
}

// Census looks at the server's streams and consumers. Run it.
type Census struct {
	cfg    Config
	deps   Deps
	names  []string // of streams
	gauges metric.Registration

	mu   sync.Mutex // guards last
	last *look      // nil while another replica tells
}

// New returns a census. Close it.
func New(cfg Config, deps Deps) (*Census, error) {
	c := &Census{cfg: cfg, deps: deps}
	for _, s := range topology.Streams(cfg.Streams) {
		c.names = append(c.names, s.Name)
	}
	for _, b := range topology.Buckets(cfg.Streams) {
		c.names = append(c.names, "KV_"+b.Bucket)
	}
	var err error
	if c.gauges, err = metrics.Observe(c.observe, told...); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends the gauges.
func (c *Census) Close() { _ = c.gauges.Unregister() }

// Run looks for as long as this replica has the lease, until ctx ends, and
// returns nil then.
func (c *Census) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := c.hold(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, cursor.ErrHeld) {
			c.deps.Log.LogAttrs(ctx, slog.LevelWarn, "state of streams and consumers is not told", slog.Any("err", err))
		}
		select {
		case <-time.After(c.cfg.Every):
		case <-ctx.Done():
		}
	}
	return nil
}

func (c *Census) hold(ctx context.Context) error {
	l, err := cursor.Acquire(ctx, c.deps.JetStream, lease, c.cfg.LeaseTTL)
	if err != nil {
		return err
	}
	defer l.Release()
	defer c.tell(nil)
	ctx = l.Context()
	tick := time.NewTicker(c.cfg.Every)
	defer tick.Stop()
	for {
		if err := c.look(ctx); err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// look takes all in. What was there before is told until it is done, and no
// longer when it fails: an old figure would pass for a good one.
func (c *Census) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(c.cfg.Every, lookTimeout))
	defer cancel()
	l, err := read(ctx, c.deps.JetStream, c.names, c.cfg.Streams.Replicas)
	if err != nil {
		return fmt.Errorf("census: %w", err)
	}
	c.tell(l)
	return nil
}

// lookTimeout bounds one look, or Every where that is longer.
const lookTimeout = 30 * time.Second

func (c *Census) tell(l *look) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = l
}

// told are the metrics of a look.
var told = []*metrics.Metric{
	metrics.StreamMessages, metrics.StreamSize, metrics.StreamLimit, metrics.StreamSequence, metrics.StreamAge, metrics.StreamReplicas,
	metrics.StreamReplicasBehind, metrics.ConsumerPending, metrics.ConsumerUnacknowledged, metrics.ConsumerRedelivered,
	metrics.ConsumerBehind, metrics.ConsumerFloor, metrics.ConsumerOldest, metrics.ConsumerPaused, metrics.ConsumerPulls,
	metrics.ConsumersUntold, metrics.StoreSize, metrics.StoreLimit, metrics.StateRead,
}

func (c *Census) observe(o metrics.Observer) {
	c.mu.Lock()
	l := c.last
	c.mu.Unlock()
	if l == nil {
		return
	}
	o.Set(metrics.StateRead, float64(l.at.UnixMilli())/1000)
	o.Set(metrics.StoreSize, float64(l.store.size))
	if l.store.limit > 0 {
		o.Set(metrics.StoreLimit, float64(l.store.limit))
	}
	for _, s := range l.streams {
		s.observe(o, l.at)
	}
	for _, k := range l.consumers {
		k.observe(o, l.at)
	}
	o.Set(metrics.ConsumersUntold, float64(l.untold))
}

func (s stream) observe(o metrics.Observer, now time.Time) {
	o.Set(metrics.StreamReplicas, float64(s.replicas), s.name)
	o.Set(metrics.StreamReplicasBehind, float64(s.behind), s.name)
	if s.leaderless {
		return
	}
	o.Set(metrics.StreamMessages, float64(s.messages), s.name)
	o.Set(metrics.StreamSize, float64(s.size), s.name)
	if s.limit > 0 {
		o.Set(metrics.StreamLimit, float64(s.limit), s.name)
	}
	o.Set(metrics.StreamSequence, float64(s.sequence), s.name)
	o.Set(metrics.StreamAge, age(now, s.oldest), s.name)
}

func (k consumer) observe(o metrics.Observer, now time.Time) {
	set := func(m *metrics.Metric, v float64) { o.Set(m, v, k.stream, k.stage, k.name) }
	paused := 0.
	if k.paused {
		paused = 1
	}
	set(metrics.ConsumerPending, float64(k.pending))
	set(metrics.ConsumerUnacknowledged, float64(k.unacknowledged))
	set(metrics.ConsumerRedelivered, float64(k.redelivered))
	set(metrics.ConsumerBehind, float64(k.behind))
	set(metrics.ConsumerFloor, float64(k.floor))
	set(metrics.ConsumerOldest, age(now, k.oldest))
	set(metrics.ConsumerPaused, paused)
	set(metrics.ConsumerPulls, float64(k.pulls))
}

// age is that of what was stored at a time, 0 if that is zero or, by the
// server's clock, still to come.
func age(now, at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(now.Sub(at), 0).Seconds()
}
