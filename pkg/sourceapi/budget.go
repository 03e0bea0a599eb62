package sourceapi

import (
	"context"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/tercelhq/tercel/pkg/topology"
)

const (
	// beatEvery is how often a process tells that it calls the source.
	beatEvery = time.Second
	// beatLife is how long it counts after it last did.
	beatLife = 4 * time.Second
	// frontWeight and backWeight are the parts that processes have of the
	// limits, relative to each other.
	frontWeight, backWeight = 3, 1
)

// budget finds out which part of the configured limits is this process's. It
// tells of itself, and hears of others, through keys in the bucket of leases.
type budget struct {
	client *Client
	js     jetstream.JetStream
	id     string
	weight int
	called atomic.Bool // since the last beat
	cancel context.CancelFunc
	ended  sync.WaitGroup

	// What follows belongs to the goroutine that runs it.
	others map[string]beat
}

// beat is what was last heard of a process.
type beat struct {
	weight int
	at     time.Time
}

func startBudget(c *Client) *budget {
	ctx, cancel := context.WithCancel(context.Background())
	b := &budget{client: c, js: c.deps.JetStream, id: nuid.Next(), weight: frontWeight, cancel: cancel, others: map[string]beat{}}
	if c.deps.Background {
		b.weight = backWeight
	}
	b.ended.Go(func() { b.run(ctx) })
	return b
}

// touch notes that the source is called.
func (b *budget) touch() { b.called.Store(true) }

func (b *budget) stop() {
	b.cancel()
	b.ended.Wait()
}

func (b *budget) prefix() string { return "budget." + b.client.name + "." }

// run beats and listens until ctx ends. A server that is away is waited for: no
// event comes meanwhile either, and what was last known counts.
func (b *budget) run(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if w, err := b.watch(ctx); err == nil {
			b.listen(ctx, w, tick.C)
			_ = w.Stop() // of one that has broken off there is nothing left to stop
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (b *budget) watch(ctx context.Context) (jetstream.KeyWatcher, error) {
	kv, err := b.js.KeyValue(ctx, topology.BucketLeases)
	if err != nil {
		return nil, err
	}
	return kv.Watch(ctx, b.prefix()+"*")
}

// listen returns when the watch breaks off.
func (b *budget) listen(ctx context.Context, w jetstream.KeyWatcher, tick <-chan time.Time) {
	calls := 0 // beats since the source was last called
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return
			}
			b.hear(e)
		case <-tick:
			if calls++; b.called.Swap(false) {
				calls = 0
			}
			if time.Duration(calls)*beatEvery < beatLife && b.tell(ctx) != nil {
				continue // cut off: others may be heard no more though they are there
			}
		case <-ctx.Done():
			return
		}
		b.share(time.Now())
	}
}

// hear notes the beat of a process, this one's among them. A nil entry ends what
// was there already.
func (b *budget) hear(e jetstream.KeyValueEntry) {
	if e == nil || e.Operation() != jetstream.KeyValuePut {
		return
	}
	weight, err := strconv.Atoi(string(e.Value()))
	if err != nil || weight != frontWeight && weight != backWeight {
		return // not written by a client
	}
	if id := e.Key()[len(b.prefix()):]; id != b.id {
		b.others[id] = beat{weight, time.Now()}
	}
}

// tell publishes this process's beat, raw: only so does a key that is written
// again keep a time to live.
func (b *budget) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beatEvery)
	defer cancel()
	m := nats.NewMsg("$KV." + topology.BucketLeases + "." + b.prefix() + b.id)
	m.Data = strconv.AppendInt(nil, int64(b.weight), 10)
	_, err := b.js.PublishMsg(ctx, m, jetstream.WithMsgTTL(beatLife))
	return err
}

// share sets this process's part of the limits.
func (b *budget) share(now time.Time) {
	total := b.weight
	for id, other := range b.others {
		if now.Sub(other.at) > beatLife {
			delete(b.others, id)
			continue
		}
		total += other.weight
	}
	b.client.setPart(float64(b.weight) / float64(total))
}

// setPart sets what this process may use of the configured limits.
func (c *Client) setPart(part float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if math.Abs(part-c.part) < 1e-6 {
		return
	}
	c.part = part
	for _, l := range c.lanes {
		l.gate.share(part, c.cfg.Concurrency)
	}
}
