package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
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
// Its senders are about to send again. p.mu must be held.
func (p *Publisher) busy() bool {
	return p.last.n >= p.cfg.MinBatch && time.Since(p.last.ended) < p.last.took
}

// commitLoop takes what waits and commits it, one group after the other: while
// one is on its way to disk, the next gathers. Two at a time were not faster.
// After Close it commits what is left, and returns once all is answered.
func (p *Publisher) commitLoop() {
	defer close(p.ended)
	var single sync.WaitGroup
	defer single.Wait()
	for {
		together, more := p.gather()
		if !more {
			return
		}
		batch, repeats := p.sort(together)
		p.publishSingly(&single, repeats)
		n, began := len(batch), time.Now()
		if n > 0 {
			p.commit(batch)
			p.measure(context.Background(), n, time.Since(began))
		}
		p.mu.Lock()
		p.last = group{n, time.Now(), min(time.Since(began), maxGather)}
		p.mu.Unlock()
	}
}

// measure tells the size of a group and how long it took to be stored.
func (p *Publisher) measure(ctx context.Context, n int, took time.Duration) {
	p.sizes.Record(ctx, float64(n))
	p.times.Record(ctx, took.Seconds())
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
		leader, flying := p.flying[w.hash]
		switch {
		case flying && leader.id == w.id:
			leader.followers = append(leader.followers, w)
		case flying: // two ids with one hash
			single = append(single, w)
		case p.known.has(w.hash):
			p.flying[w.hash] = w
			single = append(single, w)
		default:
			p.flying[w.hash] = w
			batch = append(batch, w)
		}
	}
	return batch, single
}

// settle answers w and the repeats that wait for it.
func (p *Publisher) settle(w *pending, ack Ack, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flying[w.hash] == w {
		delete(p.flying, w.hash)
	}
	if err == nil {
		p.known.add(w.hash)
	}
	followers := w.followers
	p.answer(w, result{ack: ack, err: err})
	for _, f := range followers {
		p.answer(f, result{ack: Ack{Sequence: ack.Sequence, Duplicate: true}, err: err})
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
// first. Half of the time is kept for what is done when no answer comes.
//
// Nothing is asked of the server before the commit: its errors come there. That
// is jetstreamext.PublishMsgBatch in a third of the time, since nothing is made
// anew for a message.
func (p *Publisher) publishBatch(ctx context.Context, batch []*pending) (first uint64, err error) {
	id := nuid.Next()
	ids := []string{id}
	for i, w := range batch {
		w.msg.Header[jetstreamext.BatchIDHeader], w.msg.Header[jetstreamext.BatchSeqHeader] = ids, places()[i]
	}
	last := batch[len(batch)-1].msg
	last.Header[jetstreamext.BatchCommitHeader] = commitBatch
	defer func() {
		delete(last.Header, jetstreamext.BatchCommitHeader)
		for _, w := range batch {
			delete(w.msg.Header, jetstreamext.BatchIDHeader)
			delete(w.msg.Header, jetstreamext.BatchSeqHeader)
		}
	}()
	for _, w := range batch[:len(batch)-1] {
		w.msg.Reply = ""
		if err := p.acks.nc.PublishMsg(w.msg); err != nil {
			return 0, err
		}
	}
	d, err := p.acks.send(last, time.Now().Add(p.cfg.Timeout/2), true)
	if err != nil {
		return 0, err
	}
	r := p.acks.await(ctx, d)
	if r.err == nil && (r.batch != id || r.count != len(batch) || r.ack.Sequence < uint64(len(batch))) {
		r.err = jetstreamext.ErrInvalidBatchAck // promise 1
	}
	return r.ack.Sequence - uint64(len(batch)) + 1, r.err
}

// Values of headers of batches, which must not be changed.
var (
	commitBatch = []string{"1"}
	places      = sync.OnceValue(func() [][]string {
		all := make([][]string, MaxAll)
		for i := range all {
			all[i] = []string{strconv.Itoa(i + 1)}
		}
		return all
	})
)

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

// refused reports whether the server has answered, and said no, or wasn't asked since
// it would.
func refused(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) || TooLarge(err)
}

// recent remembers the last ids that were stored by their hashes, to keep
// probable duplicates out of a batch. It decides nothing: the server does.
type recent struct {
	sets []hashes
}

// hashes are the last of those that share a set.
type hashes struct {
	of   [8]uint64
	next uint8
}

func newRecent(size int) recent { return recent{make([]hashes, max(1, size/4))} }

func (r recent) set(hash uint64) *hashes { return &r.sets[hash%uint64(len(r.sets))] }

func (r recent) has(hash uint64) bool { return slices.Contains(r.set(hash).of[:], hash) }

func (r recent) add(hash uint64) {
	if s := r.set(hash); !slices.Contains(s.of[:], hash) {
		s.of[s.next%uint8(len(s.of))] = hash
		s.next++
	}
}
