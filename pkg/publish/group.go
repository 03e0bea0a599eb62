package publish

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// commitLoop takes what waits and commits it, one group after the other: while
// one is on its way to disk, the next gathers. After Close it commits what is
// left and returns.
func (p *Publisher) commitLoop() {
	defer close(p.ended)
	for {
		select {
		case w := <-p.queue:
			p.commit(p.gather(w))
		case <-p.done:
			for {
				select {
				case w := <-p.queue:
					p.commit(p.gather(w))
				default:
					return
				}
			}
		}
	}
}

func (p *Publisher) gather(first *pending) []*pending {
	group, size := []*pending{first}, len(first.msg.Data)
	for len(group) < p.cfg.MaxBatch && size < p.cfg.MaxBatchBytes {
		select {
		case w := <-p.queue:
			group, size = append(group, w), size+len(w.msg.Data)
		default:
			return group
		}
	}
	return group
}

// commit stores one group. The server refuses a whole batch for one id that it
// knows, without saying which, so repeats inside the group and ids published
// of late go beside the batch, where the server tells them apart by itself.
func (p *Publisher) commit(group []*pending) {
	var batch, single []*pending
	var followers map[string][]*pending
	seen := make(map[string]bool, len(group))
	for _, w := range group {
		switch {
		case seen[w.id]:
			if followers == nil {
				followers = map[string][]*pending{}
			}
			followers[w.id] = append(followers[w.id], w)
		case p.known.has(w.id):
			single = append(single, w)
		default:
			batch = append(batch, w)
		}
		seen[w.id] = true
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Timeout)
	defer cancel()
	answer := func(w *pending, ack Ack, err error) {
		if err == nil {
			p.known.add(w.id)
		}
		w.result <- result{ack, err}
		for _, f := range followers[w.id] {
			f.result <- result{Ack{Sequence: ack.Sequence, Duplicate: true}, err}
		}
	}
	var wg sync.WaitGroup
	publishSingly := func(ws []*pending) {
		for _, w := range ws {
			wg.Go(func() {
				ack, err := p.one(ctx, w.msg)
				answer(w, ack, err)
			})
		}
	}
	publishSingly(single)
	if len(batch) < 2 || !p.commitBatch(ctx, batch, answer) {
		publishSingly(batch)
	}
	wg.Wait()
}

// commitBatch stores the batch atomically and answers its members. It reports
// false when the batch was not acknowledged; its members must then be
// published one by one, which settles those that had been stored after all as
// duplicates of themselves.
func (p *Publisher) commitBatch(ctx context.Context, batch []*pending, answer func(*pending, Ack, error)) bool {
	msgs := make([]*nats.Msg, len(batch))
	for i, w := range batch {
		msgs[i] = w.msg
	}
	// Half of the time is kept for publishing one by one. Nothing is asked of
	// the server before the commit: its errors come there.
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout/2)
	defer cancel()
	ack, err := jetstreamext.PublishMsgBatch(ctx, p.js, msgs, jetstreamext.BatchFlowControl{})
	if err != nil {
		for _, m := range msgs {
			m.Reply = ""
			m.Header.Del(jetstreamext.BatchIDHeader)
			m.Header.Del(jetstreamext.BatchSeqHeader)
			m.Header.Del(jetstreamext.BatchCommitHeader)
		}
		return false
	}
	first := ack.Sequence - uint64(len(batch)) + 1
	for i, w := range batch {
		answer(w, Ack{Sequence: first + uint64(i)}, nil)
	}
	return true
}

// recent remembers the last ids that were stored, to keep probable duplicates
// out of a batch. It decides nothing: the server does.
type recent struct {
	mu   sync.Mutex // guards all below: members of a group are answered side by side
	ids  map[string]struct{}
	ring []string
	next int
}

func newRecent(size int) *recent {
	return &recent{ids: make(map[string]struct{}, size), ring: make([]string, size)}
}

func (r *recent) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.ids[id]
	return ok
}

func (r *recent) add(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.ids[id]; ok {
		return
	}
	delete(r.ids, r.ring[r.next])
	r.ids[id], r.ring[r.next] = struct{}{}, id
	r.next = (r.next + 1) % len(r.ring)
}
