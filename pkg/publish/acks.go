package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// acks sends messages and brings the server's acknowledgements of them back,
// all over one subscription. It does what futures of package jetstream do, in
// half of the time: no JSON decoder runs for the usual answer, and subjects that
// answers come to are used again, so that the server knows the way.
//
// A subject that was used before could bring a second answer to the message
// before, if two servers had thought themselves the stream's leader. So there
// only the acknowledgement of a later place in the stream is believed. After any
// other answer the message is sent again under a fresh subject, and after one
// that didn't come the subject isn't used any more.
type acks struct {
	nc     *nats.Conn
	sub    *nats.Subscription
	prefix string // of the subjects that answers come to

	mu      sync.Mutex           // guards those below
	status  chan nats.Status     // nil when all is over; closed by then
	all     map[uint64]*delivery // by the number that ends the reply subject
	free    []*delivery          // of all, the ones that no message waits for
	waiting int
	last    uint64 // number
	closed  bool
}

// delivery is a subject for answers, and the message that waits for its own.
type delivery struct {
	number uint64
	reply  string
	answer chan result // holds the one

	// Guarded by acks.mu:
	waits    bool
	deadline time.Time
	stored   uint64 // sequence of the last message that was acknowledged here, or 0
}

// errUnsure is the outcome of a message whose answer could be another's. Sent
// again under a fresh subject it gets its own.
var errUnsure = errors.New("unexpected answer under a used subject")

func newAcks(nc *nats.Conn) (*acks, error) {
	a := &acks{nc: nc, prefix: nc.NewInbox() + ".", all: map[uint64]*delivery{}}
	var err error
	if a.sub, err = nc.Subscribe(a.prefix+"*", a.receive); err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	a.status = nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	go a.watch(a.status)
	return a, nil
}

// lookEvery is how often deadlines are looked at. A timer for each message
// would cost more than its answer.
const lookEvery = 50 * time.Millisecond

// watch tells those who wait that their time is over, or that their answers are
// lost with the connection.
func (a *acks) watch(status <-chan nats.Status) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case now := <-look.C:
			a.giveUp(context.DeadlineExceeded, func(d *delivery) bool { return now.After(d.deadline) })
		case _, more := <-status:
			if !more {
				return
			}
			a.giveUp(nats.ErrDisconnected, func(*delivery) bool { return true })
		}
	}
}

// giveUp ends the wait for some answers.
func (a *acks) giveUp(why error, which func(*delivery) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == 0 {
		return
	}
	for _, d := range a.all {
		if d.waits && which(d) {
			a.settle(d, result{err: why})
		}
	}
}

// close ends the subscription when nobody waits any more.
func (a *acks) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.endIfIdle()
}

// endIfIdle needs a.mu to be held.
func (a *acks) endIfIdle() {
	if a.closed && a.waiting == 0 && a.status != nil {
		_ = a.sub.Unsubscribe() // of a closed connection it is gone already
		a.nc.RemoveStatusListener(a.status)
		a.status = nil
	}
}

// inFlight is how many answers are waited for.
func (a *acks) inFlight() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.waiting
}

// send publishes msg. Its answer must be waited for with await; it comes by the
// deadline, if only to say that it is over.
func (a *acks) send(msg *nats.Msg, deadline time.Time, fresh bool) (*delivery, error) {
	d, err := a.expect(deadline, fresh)
	if err != nil {
		return nil, err
	}
	msg.Reply = d.reply
	if err := a.nc.PublishMsg(msg); err != nil {
		a.abandon(d, err)
		return nil, err
	}
	return d, nil
}

// expect finds or makes a subject for an answer. After the end nobody would hear
// it, or look at the deadline.
func (a *acks) expect(deadline time.Time, fresh bool) (*delivery, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.status == nil {
		return nil, ErrClosed
	}
	var d *delivery
	if n := len(a.free) - 1; n >= 0 && !fresh {
		d, a.free = a.free[n], a.free[:n]
	} else {
		a.last++
		d = &delivery{number: a.last, answer: make(chan result, 1)}
		d.reply = string(strconv.AppendUint([]byte(a.prefix), d.number, 36))
		a.all[d.number] = d
	}
	d.waits, d.deadline = true, deadline
	a.waiting++
	return d, nil
}

// await waits for the answer.
func (a *acks) await(ctx context.Context, d *delivery) result {
	var r result
	if ctx.Done() == nil {
		r = <-d.answer
	} else {
		select {
		case r = <-d.answer:
		case <-ctx.Done():
			r = a.abandon(d, ctx.Err())
		}
	}
	if r.err == nil && !r.ack.Duplicate {
		a.mu.Lock()
		a.free = append(a.free, d)
		a.mu.Unlock()
	}
	return r
}

// abandon waits no longer, unless the answer is there already.
func (a *acks) abandon(d *delivery, why error) result {
	a.mu.Lock()
	if d.waits {
		a.settle(d, result{err: why})
	}
	a.mu.Unlock()
	return <-d.answer
}

// settle gives the message that waits its answer. Only under the subject of one
// that was stored another answer can be told from one that comes late. a.mu
// must be held.
func (a *acks) settle(d *delivery, r result) {
	if r.err == nil && !r.ack.Duplicate {
		d.stored = r.ack.Sequence
	} else {
		delete(a.all, d.number)
	}
	d.waits = false
	a.waiting--
	a.endIfIdle()
	d.answer <- r
}

func (a *acks) receive(m *nats.Msg) {
	number, err := strconv.ParseUint(m.Subject[len(a.prefix):], 36, 64)
	if err != nil {
		return
	}
	r := readAck(m)
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.all[number]
	if d == nil || !d.waits {
		return
	}
	if d.stored > 0 && (r.err != nil || r.ack.Duplicate || r.ack.Sequence <= d.stored) { // promise 1
		r = result{err: errUnsure}
	}
	a.settle(d, r)
}

// readAck reads an answer: an acknowledgement, the server's refusal, or that
// nobody serves the stream.
func readAck(m *nats.Msg) result {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return result{err: nats.ErrNoResponders}
	}
	if seq, ok := plainAck(m.Data); ok {
		return result{ack: Ack{Sequence: seq}}
	}
	var a struct {
		Error     *jetstream.APIError `json:"error"`
		Sequence  uint64              `json:"seq"`
		Duplicate bool                `json:"duplicate"`
		Batch     string              `json:"batch"`
		Count     int                 `json:"count"`
	}
	switch err := json.Unmarshal(m.Data, &a); {
	case err != nil:
		return result{err: jetstream.ErrInvalidJSAck}
	case a.Error != nil:
		return result{err: a.Error}
	case a.Sequence == 0:
		return result{err: jetstream.ErrInvalidJSAck}
	}
	return result{ack: Ack{Sequence: a.Sequence, Duplicate: a.Duplicate}, batch: a.Batch, count: a.Count}
}

// plainAck reads the usual answer, {"stream":"TERCEL_RAW","seq":17}, and leaves
// everything else to a decoder.
func plainAck(data []byte) (seq uint64, ok bool) {
	rest, ok := bytes.CutPrefix(data, []byte(`{"stream":"`))
	if !ok {
		return 0, false
	}
	_, rest, _ = bytes.Cut(rest, []byte(`"`))
	digits, ok := bytes.CutPrefix(rest, []byte(`,"seq":`))
	digits, ended := bytes.CutSuffix(digits, []byte(`}`))
	if !ok || !ended || len(digits) > 19 {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		seq = seq*10 + uint64(c-'0')
	}
	return seq, seq > 0
}
