package publish_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/publish"
)

// Promise 4: a repeat costs its neighbours nothing. What the publisher knows
// goes beside a batch, which would be refused whole for it, and what is in the
// batch already waits for its outcome.
func TestKnownRepeatsStayOutOfBatches(t *testing.T) {
	t.Parallel()
	const n = 40
	var batches [][]string // of ids; the responder's
	singles := map[string]int{}
	held := make(chan *nats.Msg, 1)
	_, p, subject := answering(t, publish.Config{Group: true, MinBatch: 2, Queue: n}, func(m *nats.Msg) {
		id, place := m.Header.Get(jetstream.MsgIDHeader), m.Header.Get("Nats-Batch-Sequence")
		switch {
		case strings.HasPrefix(id, "held"):
			held <- m
		case place == "":
			singles[id]++
			_ = m.Respond(fmt.Appendf(nil, `{"stream":"S","seq":1,"duplicate":%t}`, singles[id] > 1))
		default:
			if place == "1" {
				batches = append(batches, nil)
			}
			last := &batches[len(batches)-1]
			if *last = append(*last, id); m.Header.Get("Nats-Batch-Commit") != "" {
				_ = m.Respond(fmt.Appendf(nil, `{"stream":"S","seq":%d,"batch":%q,"count":%s}`, 1000*len(batches), m.Header.Get("Nats-Batch-Id"), place))
			}
		}
	})
	send := func(id string) (publish.Ack, error) {
		m := message(id)
		m.Subject = subject
		return p.Publish(context.WithoutCancel(t.Context()), m)
	}
	if _, err := send("known"); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	acks, full := map[string][]publish.Ack{}, make(chan struct{})
	var wg sync.WaitGroup
	later := func(id string) {
		wg.Go(func() {
			ack, err := send(id)
			switch {
			case errors.Is(err, publish.ErrBusy):
				close(full)
			case err != nil:
				t.Errorf("Publish(%s) = %v", id, err)
			}
			mu.Lock()
			defer mu.Unlock()
			acks[id] = append(acks[id], ack)
		})
	}
	later("held, goes alone")
	alone := <-held
	later("held, is committed")
	committed := <-held
	for _, id := range []string{"known", "twice", "twice"} {
		later(id)
	}
	for i := range n - 2 {
		later("id " + strconv.Itoa(i)) // one of all finds no place
	}
	<-full
	_ = alone.Respond([]byte(`{"stream":"S","seq":2}`))
	_ = committed.Respond([]byte(`{"stream":"S","seq":3}`))
	wg.Wait()
	if len(batches) != 1 {
		t.Fatalf("%d batches, want one of all that waited", len(batches))
	}
	times := map[string]int{}
	for _, id := range batches[0] {
		times[id]++
	}
	// One of the three may have been the one without a place.
	if times["known"] > 0 || times["twice"] > 1 {
		t.Errorf("the batch has %v, want known not at all and twice once", batches[0])
	}
	if a := acks["twice"]; a[0].Sequence > 0 && a[1].Sequence > 0 && (a[0].Sequence != a[1].Sequence || a[0].Duplicate == a[1].Duplicate) {
		t.Errorf("twice the same was acknowledged with %+v, want one place and one duplicate", a)
	}
	if a := acks["known"][0]; a.Sequence > 0 && !a.Duplicate {
		t.Errorf("a repeat of what is stored was acknowledged with %+v, want a duplicate", a)
	}
}

// A batch has no more messages than the server takes, whatever is configured.
func TestBatchesFitTheServer(t *testing.T) {
	t.Parallel()
	const n = 1500
	held, sizes := make(chan *nats.Msg, 1), []string{}
	cfg := publish.Config{Group: true, MaxBatch: 5000, Queue: n, Timeout: time.Minute}
	_, p, subject := answering(t, cfg, func(m *nats.Msg) {
		place := m.Header.Get("Nats-Batch-Sequence")
		switch {
		case strings.HasPrefix(m.Header.Get(jetstream.MsgIDHeader), "held"):
			held <- m
		case place == "":
			_ = m.Respond([]byte(`{"stream":"S","seq":1}`))
		case m.Header.Get("Nats-Batch-Commit") != "":
			sizes = append(sizes, place)
			_ = m.Respond(fmt.Appendf(nil, `{"stream":"S","seq":%d,"batch":%q,"count":%s}`, 10_000*len(sizes), m.Header.Get("Nats-Batch-Id"), place))
		}
	})
	var wg sync.WaitGroup
	full := make(chan struct{})
	later := func(id string) {
		wg.Go(func() {
			m := message(id)
			m.Subject = subject
			_, err := p.Publish(context.WithoutCancel(t.Context()), m)
			switch {
			case errors.Is(err, publish.ErrBusy):
				close(full)
			case err != nil:
				t.Errorf("Publish(%s) = %v", id, err)
			}
		})
	}
	later("held, goes alone")
	alone := <-held
	later("held, is committed")
	committed := <-held
	for i := range n + 1 {
		later(strconv.Itoa(i)) // one of all finds no place
	}
	<-full
	_ = alone.Respond([]byte(`{"stream":"S","seq":1}`))
	_ = committed.Respond([]byte(`{"stream":"S","seq":2}`))
	wg.Wait()
	if !slices.Equal(sizes, []string{"1000", "500"}) {
		t.Errorf("batches of %v messages, want 1000 and 500", sizes)
	}
}

// Promise 10: repeats leave the queue, for the first of them or to go beside a
// group, and count all the same.
func TestRepeatsAreBoundedToo(t *testing.T) {
	t.Parallel()
	release, answered := make(chan struct{}), 0
	_, p, subject := answering(t, publish.Config{Group: true, MaxBatch: 4, Queue: 4, Timeout: time.Hour}, func(m *nats.Msg) {
		<-release
		answered++
		_ = m.Respond(fmt.Appendf(nil, `{"stream":"S","seq":1,"duplicate":%t}`, answered > 1))
	})
	var busy atomic.Int32
	var senders sync.WaitGroup
	for range 40 {
		senders.Go(func() {
			for {
				_, err := p.Publish(context.WithoutCancel(t.Context()), to(subject))
				if !errors.Is(err, publish.ErrBusy) {
					return
				}
				busy.Add(1)
				<-time.After(time.Millisecond)
			}
		})
	}
	// Were there room for all of them, they would wait in silence.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); busy.Load() < 5000; <-tick.C {
		if time.Now().After(end) {
			t.Error("more repeats wait than may")
			break
		}
	}
	close(release)
	senders.Wait()
}
