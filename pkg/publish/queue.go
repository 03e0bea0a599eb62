package publish

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// pending is a message that waits to be committed with others.
type pending struct {
	msg      *nats.Msg
	id       string
	hash     uint64 // of the id
	deadline time.Time
	result   chan result // holds the one

	// Guarded by Publisher.mu:
	answered  bool
	followers []*pending // repeats that share its outcome, until it is settled
}

var pendings = sync.Pool{New: func() any { return &pending{result: make(chan result, 1)} }}

// grouped has msg committed with others, or at once by itself where there are
// none.
func (p *Publisher) grouped(ctx context.Context, msg *nats.Msg, id string) (Ack, error) {
	defer p.inHand.Add(-1)
	if p.inHand.Add(1) > int64(p.cfg.Queue+p.cfg.MaxBatch) { // repeats leave the queue for their first, or go beside a group
		return Ack{}, ErrBusy
	}
	w := pendings.Get().(*pending) //nolint:forcetypeassert // the pool's New makes nothing else
	w.msg, w.id, w.hash, w.deadline, w.answered, w.followers = msg, id, maphash.String(p.seed, id), time.Now().Add(p.cfg.Timeout), false, nil
	alone, err := p.enter(w)
	if err != nil {
		return Ack{}, err
	}
	if alone {
		began := time.Now()
		ack, err := p.one(ctx, msg)
		p.settle(w, ack, err)
		p.measure(ctx, 1, time.Since(began))
	}
	var r result
	if ctx.Done() == nil {
		r = <-w.result
	} else {
		select {
		case r = <-w.result:
		case <-ctx.Done():
			p.mu.Lock()
			p.answer(w, result{err: fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())})
			p.mu.Unlock()
			r = <-w.result
		}
	}
	if r.err == nil { // else it may still be in somebody's hands
		w.msg = nil
		pendings.Put(w)
	}
	return r.ack, r.err
}

// enter puts w into the queue. It may go alone at once if nothing else is to be
// done and no others are expected; it then is on its way.
func (p *Publisher) enter(w *pending) (alone bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over:
		return false, ErrClosed
	case len(p.flying) == 0 && len(p.queue) == 0 && !p.busy():
		p.flying[w.hash] = w
		return true, nil
	case len(p.queue) >= p.cfg.Queue:
		return false, ErrBusy
	}
	if p.queue = append(p.queue, w); len(p.queue) == p.wanted {
		p.wake <- struct{}{} // has room: it is emptied before anything is wanted
		p.wanted = 0
	}
	return false, nil
}

// answer tells who waits for w, once. p.mu must be held.
func (p *Publisher) answer(w *pending, r result) {
	if !w.answered {
		w.answered = true
		w.result <- r
	}
}

// watch tells those who wait that their time is over, or that the publisher is.
func (p *Publisher) watch() {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case now := <-look.C:
			p.expire(now)
		case <-p.ended:
			p.mu.Lock()
			defer p.mu.Unlock()
			p.over = true
			for _, w := range p.queue { // behind the last commit
				p.answer(w, result{err: ErrClosed})
			}
			return
		}
	}
}

// expire answers those whose deadline is over. What is in the queue will be left
// out of its group; what is on its way may still be stored.
func (p *Publisher) expire(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	check := func(ws ...*pending) {
		for _, w := range ws {
			if now.After(w.deadline) {
				p.answer(w, result{err: fmt.Errorf("%w within %s", ErrUnavailable, p.cfg.Timeout)})
			}
		}
	}
	check(p.queue...)
	for _, w := range p.flying {
		check(w)
		check(w.followers...)
	}
}

// gather waits until there is something to commit, or returns false at the end.
// It takes what waits, up to the limits of a group. Who has given up waiting is
// left out: a provider that was answered 503 sends again anyway.
//
// Under load it waits for those that the last group has answered: they send
// again within moments of each other, and a batch costs so much the less.
// Without that, half of the senders are always a group behind the others.
func (p *Publisher) gather() (together []*pending, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.await(1, nil); len(p.queue) == 0 {
		return nil, false
	}
	if p.busy() {
		expected := min(len(p.queue)+p.last.n, p.cfg.MaxBatch)
		lull := time.NewTimer(time.Hour)
		defer lull.Stop()
		for before := 0; before < len(p.queue) && p.busy(); {
			before = len(p.queue)
			lull.Reset(p.last.took / 8)
			p.await(expected, lull.C)
		}
	}
	size, taken := 0, 0
	for taken < len(p.queue) && len(together) < p.cfg.MaxBatch && size < p.cfg.MaxBatchBytes {
		w := p.queue[taken]
		taken++
		if !w.answered {
			together, size = append(together, w), size+len(w.msg.Data)
		}
	}
	p.queue = slices.Delete(p.queue, 0, taken)
	return together, true
}

// await waits until n are in the queue, or for the end of a time or the
// publisher. p.mu must be held; it isn't during the wait.
func (p *Publisher) await(n int, end <-chan time.Time) {
	if len(p.queue) >= n {
		return
	}
	select {
	case <-p.wake: // of a wait that ended otherwise
	default:
	}
	p.wanted = n
	p.mu.Unlock()
	select {
	case <-p.wake:
	case <-end:
	case <-p.done:
	}
	p.mu.Lock()
	p.wanted = 0
}
