package publish

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// group is what was committed together.
type group struct {
	n     int
	ended time.Time
	took  time.Duration // what is waited for the next one at most
}

// maxGather bounds what is waited for a group, when the last one took long.
const maxGather = 50 * time.Millisecond

// busy reports whether a group has just been committed that was worth a batch.
// Its senders are about to send again.
func (p *Publisher) busy() bool {
	return p.last.n >= p.cfg.MinBatch && time.Since(p.last.ended) < p.last.took
}

// alone reports whether w may go by itself at once, since nothing else is to be
// done and no others are expected. It then is on its way.
func (p *Publisher) alone(w *pending) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.flying) > 0 || len(p.queue) > 0 || p.busy() {
		return false
	}
	p.flying[w.id] = w
	return true
}

// commitLoop takes what waits and commits it, one group after the other: while
// one is on its way to disk, the next gathers. Two at a time were not faster.
// After Close it commits what is left, and returns once all is answered.
func (p *Publisher) commitLoop() {
	defer close(p.ended)
	var single sync.WaitGroup
	defer single.Wait()
	for {
		var first *pending
		select {
		case first = <-p.queue:
		case <-p.done:
			select {
			case first = <-p.queue:
			default:
				return
			}
		}
		batch, repeats := p.sort(p.gather(first))
		p.publishSingly(&single, repeats)
		began := time.Now()
		if len(batch) > 0 {
			p.commit(batch)
		}
		p.mu.Lock()
		p.last = group{len(batch), time.Now(), min(time.Since(began), maxGather)}
		p.mu.Unlock()
	}
}

// gather takes what waits, up to the limits of a group. Who has given up
// waiting is left out: a provider that was answered 503 sends again anyway.
//
// Under load it waits for those that the last group has answered: they send
// again within moments of each other, and a batch costs so much the less.
// Without that, half of the senders are always a group behind the others.
func (p *Publisher) gather(first *pending) []*pending {
	var together []*pending
	size, expected := 0, 0
	if p.busy() {
		expected = 1 + len(p.queue) + p.last.n
	}
	for w := first; w != nil; w = p.next(len(together) < expected && p.busy()) {
		if !w.gone.Load() {
			together, size = append(together, w), size+len(w.msg.Data)
		}
		if len(together) == p.cfg.MaxBatch || size >= p.cfg.MaxBatchBytes {
			break
		}
	}
	return together
}

// next takes one more from the queue, or returns nil. If more are expected, it
// waits for the next until there is a lull.
func (p *Publisher) next(more bool) *pending {
	select {
	case w := <-p.queue:
		return w
	default:
	}
	if !more {
		return nil
	}
	lull := time.NewTimer(p.last.took / 8)
	defer lull.Stop()
	select {
	case w := <-p.queue:
		return w
	case <-lull.C:
		return nil
	}
}

// sort tells apart what may go into a batch. The server refuses a whole batch
// for one id that it knows, so repeats of what is on its way wait for its
// outcome, and repeats of what was stored of late go beside the batch, where
// the server answers them one by one and without writing.
func (p *Publisher) sort(group []*pending) (batch, single []*pending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	batch = group[:0]
	for _, w := range group {
		leader, flying := p.flying[w.id]
		if flying {
			leader.followers = append(leader.followers, w)
			continue
		}
		p.flying[w.id] = w
		if p.known.has(w.id) {
			single = append(single, w)
		} else {
			batch = append(batch, w)
		}
	}
	return batch, single
}

// settle answers w and the repeats that wait for it.
func (p *Publisher) settle(w *pending, ack Ack, err error) {
	p.mu.Lock()
	delete(p.flying, w.id)
	if err == nil {
		p.known.add(w.id)
	}
	p.mu.Unlock()
	w.result <- result{ack, err}
	for _, f := range w.followers {
		f.result <- result{Ack{Sequence: ack.Sequence, Duplicate: true}, err}
	}
}

// publishSingly publishes messages side by side, each with its own
// acknowledgement.
func (p *Publisher) publishSingly(work *sync.WaitGroup, ws []*pending) {
	for _, w := range ws {
		work.Go(func() {
			ack, err := p.one(context.Background(), w.msg)
			p.settle(w, ack, err)
		})
	}
}

// maxBatchTries bounds how often a batch is tried without the repeats that
// were found in it. More than one is found in a row only while somebody else
// publishes the same ids.
const maxBatchTries = 3

// commit stores a batch. When it is not acknowledged, because the server knows
// one of its ids or because nothing was heard, the ids are asked for, all at
// once; those stored are answered, and the others tried again.
func (p *Publisher) commit(batch []*pending) {
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Timeout)
	defer cancel()
	for range maxBatchTries {
		if len(batch) < max(p.cfg.MinBatch, 2) {
			break
		}
		first, err := p.publishBatch(ctx, batch)
		if err == nil {
			for i, w := range batch {
				p.settle(w, Ack{Sequence: first + uint64(i)}, nil)
			}
			return
		}
		if refused(err) && !isCode(err, jetstreamext.JSErrCodeBatchPublishDuplicateMsgID) {
			break // some message is at fault, or there is no room: each gets its own answer
		}
		if batch = p.settleKnown(ctx, batch); ctx.Err() != nil {
			for _, w := range batch { // their senders have been told so
				p.settle(w, Ack{}, fmt.Errorf("%w: %w", ErrUnavailable, err))
			}
			return
		}
	}
	if len(batch) == 1 { // the usual case of a light load
		ack, err := p.one(ctx, batch[0].msg)
		p.settle(batch[0], ack, err)
		return
	}
	var work sync.WaitGroup
	p.publishSingly(&work, batch)
	work.Wait()
}

// publishBatch stores messages atomically and returns the sequence of the
// first.
func (p *Publisher) publishBatch(ctx context.Context, batch []*pending) (uint64, error) {
	msgs := make([]*nats.Msg, len(batch))
	for i, w := range batch {
		msgs[i] = w.msg
	}
	// Nothing is asked of the server before the commit: its errors come there.
	return p.atomically(ctx, msgs, jetstreamext.BatchFlowControl{})
}

// settleKnown asks the server which ids of a batch it knows, answers those and
// returns the others.
func (p *Publisher) settleKnown(ctx context.Context, batch []*pending) (unknown []*pending) {
	asked := make([]*delivery, len(batch))
	for i, w := range batch {
		asked[i] = p.ask(w.msg)
	}
	for i, w := range batch {
		if ack, ok := p.answered(ctx, asked[i]); ok {
			p.settle(w, ack, nil)
			continue
		}
		unknown = append(unknown, w)
	}
	return unknown
}

// refused reports whether the server has answered, and said no.
func refused(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api)
}

// recent remembers the last ids that were stored, to keep probable duplicates
// out of a batch. It decides nothing: the server does.
type recent struct {
	ids  map[string]struct{}
	ring []string
	next int
}

func newRecent(size int) *recent {
	return &recent{ids: make(map[string]struct{}), ring: make([]string, size)}
}

func (r *recent) has(id string) bool {
	_, ok := r.ids[id]
	return ok
}

func (r *recent) add(id string) {
	if _, ok := r.ids[id]; ok {
		return
	}
	delete(r.ids, r.ring[r.next])
	r.ids[id], r.ring[r.next] = struct{}{}, id
	r.next = (r.next + 1) % len(r.ring)
}
