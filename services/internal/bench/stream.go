package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/topology"
)

// fillTime bounds how long it takes until a million messages are stored, or worked off.
const fillTime = 5 * time.Minute

// fill stores n messages.
func (s *stand) fill(ctx context.Context, n int, message func(i int) *nats.Msg) error {
	if s.durability == topology.Synced {
		return s.fillSynced(ctx, n, message)
	}
	for i := range n {
		if _, err := s.js.PublishMsgAsync(message(i), jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
	return s.published(ctx)
}

// published waits until all is stored that was published without waiting.
func (s *stand) published(ctx context.Context) error {
	select {
	case <-s.js.PublishAsyncComplete():
		return nil
	case <-time.After(fillTime):
		return fmt.Errorf("the messages are not stored within %s", fillTime)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fillSynced commits in groups: a sync for each would take minutes.
func (s *stand) fillSynced(ctx context.Context, n int, message func(i int) *nats.Msg) error {
	p, err := s.publisher()
	if err != nil {
		return err
	}
	defer p.Close()
	var all errgroup.Group
	all.SetLimit(1000)
	for i := range n {
		m := message(i)
		all.Go(func() error {
			if m.Header.Get(jetstream.MsgIDHeader) == "" {
				m.Header.Set(jetstream.MsgIDHeader, strconv.Itoa(i))
			}
			_, err := p.Publish(ctx, m)
			return err
		})
	}
	return all.Wait()
}

// publisher stores as the services do at the stand's level.
func (s *stand) publisher() (*publish.Publisher, error) {
	return publish.New(s.nc, publish.Config{Group: s.durability == topology.Synced, Timeout: time.Minute})
}

// offer stores messages at random times, so many a second, until length is over,
// and returns how many. Each is told when it was due.
func (s *stand) offer(ctx context.Context, rate float64, length time.Duration, message func(i int, due time.Time) *nats.Msg) (int, error) {
	p, err := s.publisher()
	if err != nil {
		return 0, err
	}
	defer p.Close()
	var all errgroup.Group
	all.SetLimit(1000)
	began, n := time.Now(), 0
	for next := schedule(began, rate); ; n++ {
		due := next()
		if due.Sub(began) >= length {
			break
		}
		time.Sleep(time.Until(due))
		m := message(n, due)
		all.Go(func() error {
			_, err := p.Publish(ctx, m)
			return err
		})
	}
	return n, all.Wait()
}

// arrivals counts how long events took that arrive in a stream, from when they
// were due until a consumer has them.
type arrivals struct {
	stop func()

	mu    sync.Mutex // guards those below
	took  []time.Duration
	ids   map[string]bool
	wrong error
}

// watch follows the events that are stored in a stream from now on.
func (s *stand) watch(ctx context.Context, stream string) (*arrivals, error) {
	c, err := s.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy, HeadersOnly: true})
	if err != nil {
		return nil, err
	}
	a := &arrivals{ids: map[string]bool{}}
	running, err := c.Consume(func(m jetstream.Msg) { a.add(m.Headers().Get(event.HeaderID)) })
	if err != nil {
		return nil, err
	}
	a.stop = running.Stop
	return a, nil
}

func (a *arrivals) add(id string) {
	took, err := sinceDue(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && a.ids[id] {
		err = fmt.Errorf("%s came twice", id)
	}
	a.ids[id] = true
	a.took, a.wrong = append(a.took, took), errors.Join(a.wrong, err)
}

// await waits until n have come, and returns how long they took.
func (a *arrivals) await(ctx context.Context, n int) ([]time.Duration, error) {
	err := until(ctx, func() (bool, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.took) >= n, a.wrong
	})
	a.stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil || len(a.took) != n {
		return nil, errors.Join(fmt.Errorf("%d events have come of %d", len(a.took), n), err)
	}
	return a.took, nil
}

// until asks ok until it is, within what a turn may take.
func until(ctx context.Context, ok func() (bool, error)) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	over := time.After(fillTime)
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-over:
			return errors.New("it has not come so far within " + fillTime.String())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// queue is a consumer that programs work off.
type queue struct {
	stream string
	jetstream.ConsumerConfig
}

// attempts are the pipeline file's defaults.
var attempts = topology.Delivery{AckWait: 30 * time.Second, MaxAttempts: 12}

func triggersOf(source string) queue {
	return queue{topology.StreamRaw, topology.EnrichConsumer(source, attempts)}
}

// eventsOut are all events, for the destination "out".
func eventsOut() queue {
	return queue{topology.StreamEnriched, topology.DeliverConsumer("out", []string{event.PrefixEnriched + ".>"}, attempts)}
}

// pausedAnew makes the consumer anew: it has seen nothing and hands out nothing
// yet.
func (s *stand) pausedAnew(ctx context.Context, q queue) error {
	err := s.js.DeleteConsumer(ctx, q.stream, q.Durable)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	later := time.Now().Add(time.Hour)
	q.PauseUntil = &later
	_, err = s.js.CreateOrUpdateConsumer(ctx, q.stream, q.ConsumerConfig)
	return err
}

// await waits until the consumer is as wanted.
func (s *stand) await(ctx context.Context, q queue, ok func(*jetstream.ConsumerInfo) bool) error {
	c, err := s.js.Consumer(ctx, q.stream, q.Durable)
	if err != nil {
		return err
	}
	return until(ctx, func() (bool, error) {
		i, err := c.Info(ctx)
		return err == nil && ok(i), err
	})
}

// waitedFor says that a program asks for messages.
func waitedFor(i *jetstream.ConsumerInfo) bool { return i.NumWaiting > 0 }

// workedOff says that there is nothing left.
func workedOff(i *jetstream.ConsumerInfo) bool { return i.NumPending == 0 && i.NumAckPending == 0 }

// begin lets programs have what waits, and returns once they have the first of
// it: who has asked in vain until then may come again up to a second later.
func (s *stand) begin(ctx context.Context, q queue) error {
	if _, err := s.js.ResumeConsumer(ctx, q.stream, q.Durable); err != nil {
		return err
	}
	return s.await(ctx, q, func(i *jetstream.ConsumerInfo) bool { return i.Delivered.Consumer > 0 })
}

// trigger is the message of a trigger, whose body has 1.5 to 3 KiB or so many
// bytes.
func (s *sender) trigger(source, id string, size int) *nats.Msg {
	at := time.Unix(1760000000, 0)
	ev := event.Event{
		ID: id, Source: source, Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook,
		Time: at, ReceivedAt: at, ContentType: "application/json",
	}
	m := nats.NewMsg(ev.RawSubject())
	m.Header = ev.Header()
	m.Header.Set(jetstream.MsgIDHeader, ev.MsgID())
	m.Data = s.recordOf(id, size)
	return m
}

// enriched is the message of an event of one record, of the same sizes. It has no
// id for the server to keep.
func (s *sender) enriched(source, id string, record, size int) *nats.Msg {
	at := time.Unix(1760000000+int64(record), 0)
	ev := event.Event{
		ID: id, Source: source, Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook,
		Time: at, ReceivedAt: at, Resource: "order", RecordID: strconv.Itoa(record), Version: event.TimeVersion(at), ObservedAt: at,
		ContentType: "application/json", TriggerSequence: 1,
	}
	m := nats.NewMsg(ev.EnrichedSubject())
	m.Header = ev.Header()
	m.Data = event.Body{Trigger: []byte(`{"id":"` + id + `"}`), Record: s.recordOf(id, size)}.Encode()
	return m
}

func (s *sender) recordOf(id string, size int) []byte {
	if size > 0 {
		return fmt.Appendf(nil, `{"id":%q,"filler":%q}`, id, strings.Repeat("x", size))
	}
	s.writeBody(id)
	return append([]byte(nil), s.body.Bytes()...)
}
