package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// acks sends messages and brings the server's acknowledgements of them back,
// all over one subscription. It does what futures of package jetstream do, in
// two thirds of the time: nothing is made anew for a message but its reply
// subject, and no JSON decoder runs for the usual answer.
type acks struct {
	nc     *nats.Conn
	sub    *nats.Subscription
	prefix string // of the subjects that answers come to

	mu      sync.Mutex           // guards those below
	status  chan nats.Status     // nil when all is over; closed by then
	waiting map[uint64]*delivery // by the number that ends the reply subject
	last    uint64
	closed  bool
}

// delivery is a message that waits for its answer.
type delivery struct {
	number uint64
	answer chan result // holds the one
	timer  *time.Timer
}

var deliveries = sync.Pool{New: func() any {
	return &delivery{answer: make(chan result, 1), timer: time.NewTimer(time.Hour)}
}}

func newAcks(nc *nats.Conn) (*acks, error) {
	a := &acks{nc: nc, prefix: nc.NewInbox() + ".", waiting: map[uint64]*delivery{}}
	var err error
	if a.sub, err = nc.Subscribe(a.prefix+"*", a.receive); err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	a.status = nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	go a.watch(a.status)
	return a, nil
}

// watch tells those who wait that their answers are lost with the connection.
func (a *acks) watch(status <-chan nats.Status) {
	for range status {
		a.mu.Lock()
		lost := a.waiting
		a.waiting = map[uint64]*delivery{}
		a.endIfIdle()
		a.mu.Unlock()
		for _, d := range lost {
			d.answer <- result{err: nats.ErrDisconnected}
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
	if a.closed && len(a.waiting) == 0 && a.status != nil {
		_ = a.sub.Unsubscribe() // of a closed connection it is gone already
		a.nc.RemoveStatusListener(a.status)
		a.status = nil
	}
}

// inFlight is how many answers are waited for.
func (a *acks) inFlight() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting)
}

// send publishes msg. Its answer must be waited for with await.
func (a *acks) send(msg *nats.Msg) (*delivery, error) {
	d := deliveries.Get().(*delivery) //nolint:forcetypeassert // the pool's New makes nothing else
	a.mu.Lock()
	a.last++
	d.number = a.last
	a.waiting[d.number] = d
	a.mu.Unlock()
	var subject [64]byte
	msg.Reply = string(strconv.AppendUint(append(subject[:0], a.prefix...), d.number, 36))
	if err := a.nc.PublishMsg(msg); err != nil {
		if !a.forget(d) {
			<-d.answer
		}
		deliveries.Put(d)
		return nil, err
	}
	return d, nil
}

// await waits for the answer until ctx ends or a time is over.
func (a *acks) await(ctx context.Context, d *delivery, most time.Duration) (ack Ack, err error) {
	d.timer.Reset(most)
	select {
	case r := <-d.answer:
		ack, err = r.ack, r.err
	case <-ctx.Done():
		ack, err = a.abandon(d, ctx.Err())
	case <-d.timer.C:
		ack, err = a.abandon(d, context.DeadlineExceeded)
	}
	d.timer.Stop()
	deliveries.Put(d)
	return ack, err
}

// abandon waits no longer, unless the answer is there already.
func (a *acks) abandon(d *delivery, why error) (Ack, error) {
	if a.forget(d) {
		return Ack{}, why
	}
	r := <-d.answer
	return r.ack, r.err
}

// forget takes d out of those that wait. If it returns false, somebody else has
// and is about to answer.
func (a *acks) forget(d *delivery) bool {
	_, ok := a.take(d.number)
	return ok
}

func (a *acks) take(number uint64) (*delivery, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, ok := a.waiting[number]
	delete(a.waiting, number)
	a.endIfIdle()
	return d, ok
}

func (a *acks) receive(m *nats.Msg) {
	number, err := strconv.ParseUint(m.Subject[len(a.prefix):], 36, 64)
	if err != nil {
		return
	}
	if d, ok := a.take(number); ok {
		ack, err := readAck(m)
		d.answer <- result{ack, err}
	}
}

// readAck reads an answer: an acknowledgement, the server's refusal, or that
// nobody serves the stream.
func readAck(m *nats.Msg) (Ack, error) {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return Ack{}, nats.ErrNoResponders
	}
	if seq, ok := plainAck(m.Data); ok {
		return Ack{Sequence: seq}, nil
	}
	var a struct {
		Error     *jetstream.APIError `json:"error"`
		Sequence  uint64              `json:"seq"`
		Duplicate bool                `json:"duplicate"`
	}
	switch err := json.Unmarshal(m.Data, &a); {
	case err != nil:
		return Ack{}, jetstream.ErrInvalidJSAck
	case a.Error != nil:
		return Ack{}, a.Error
	case a.Sequence == 0:
		return Ack{}, jetstream.ErrInvalidJSAck
	}
	return Ack{Sequence: a.Sequence, Duplicate: a.Duplicate}, nil
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
