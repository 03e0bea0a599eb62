package cursor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

const name = "reconcile.orders._.order"

func acquire(t *testing.T, js jetstream.JetStream, ttl time.Duration) *cursor.Lease {
	t.Helper()
	l, err := cursor.Acquire(t.Context(), js, name, ttl)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Release)
	return l
}

// acquireWithin tries until the lease is to be had.
func acquireWithin(t *testing.T, js jetstream.JetStream, bound time.Duration) *cursor.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	for {
		l, err := cursor.Acquire(t.Context(), js, name, time.Second)
		if err == nil {
			t.Cleanup(l.Release)
			return l
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("lease not to be had within %s: %v", bound, err)
		}
	}
}

func TestLeaseHasOneHolder(t *testing.T) {
	t.Parallel()
	js := setup(t)
	l := acquire(t, js, 15*time.Second)
	who, err := cursor.Holder(t.Context(), js, name)
	if err != nil || who == "" {
		t.Fatalf("Holder() = %q, %v", who, err)
	}
	_, err = cursor.Acquire(t.Context(), js, name, 15*time.Second)
	if !errors.Is(err, cursor.ErrHeld) || !strings.Contains(err.Error(), who) {
		t.Fatalf("Acquire() = %v, want ErrHeld by %s", err, who)
	}
	l.Release()
	if l.Context().Err() == nil {
		t.Error("a released lease's context goes on")
	}
	acquire(t, js, 15*time.Second) // at once, not after 15s
}

// A lease outlives its time to live by being renewed, and the renewal keeps
// the time to live: a holder that goes keeps nobody out for longer.
func TestLeaseIsRenewedAndStillExpires(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, false)
	mine, other := jet(t, server), jet(t, server)
	if err := topology.Ensure(t.Context(), mine, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	const ttl = 3 * time.Second
	l := acquire(t, mine, ttl)
	for end := time.Now().Add(ttl * 5 / 2); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		if _, err := cursor.Acquire(t.Context(), other, name, time.Second); !errors.Is(err, cursor.ErrHeld) {
			t.Fatalf("Acquire() while the lease is renewed = %v, want ErrHeld", err)
		}
	}
	if err := context.Cause(l.Context()); err != nil {
		t.Fatalf("lease ended: %v", err)
	}
	mine.Conn().Close() // the holder is cut off
	acquireWithin(t, other, time.Minute)
	// It knew before the other could have it.
	if err := context.Cause(l.Context()); !errors.Is(err, cursor.ErrLost) {
		t.Errorf("the cut off holder's context ended with %v, want ErrLost", err)
	}
}

func TestLeaseTakenAwayIsLost(t *testing.T) {
	t.Parallel()
	js := setup(t)
	l := acquire(t, js, time.Second)
	kv, err := js.KeyValue(t.Context(), topology.BucketLeases)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), name, "somebody else"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Context().Done():
	case <-time.After(time.Minute):
		t.Fatal("the lease's context goes on")
	}
	if err := context.Cause(l.Context()); !errors.Is(err, cursor.ErrLost) {
		t.Errorf("cause %v, want ErrLost", err)
	}
	l.Release()
	if who, _ := cursor.Holder(t.Context(), js, name); who != "somebody else" {
		t.Errorf("releasing a lost lease took it from its holder; now %q", who)
	}
}

func TestLeaseIsGivenBackAfterItsContextEnded(t *testing.T) {
	t.Parallel()
	js := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	l, err := cursor.Acquire(ctx, js, name, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	l.Release()
	acquire(t, js, time.Minute)
}

func TestLeaseNeedsWholeSeconds(t *testing.T) {
	t.Parallel()
	js := setup(t)
	for _, ttl := range []time.Duration{0, 500 * time.Millisecond, 1500 * time.Millisecond} {
		if _, err := cursor.Acquire(t.Context(), js, name, ttl); err == nil {
			t.Errorf("Acquire() for %s = nil, want an error", ttl)
		}
	}
}

func jet(t *testing.T, s *natstest.Server) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// What was released can be acquired at once, also in the moment in which the
// server forgets the mark of the release.
func TestReleasedLeaseIsFree(t *testing.T) {
	t.Parallel()
	js := setup(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			name := fmt.Sprint("lease-", i)
			l, err := cursor.Acquire(t.Context(), js, name, 10*time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			l.Release()
			<-time.After(900*time.Millisecond + time.Duration(i)*2*time.Millisecond)
			if l, err = cursor.Acquire(t.Context(), js, name, 10*time.Second); err != nil {
				t.Errorf("Acquire() after Release() = %v", err)
				return
			}
			l.Release()
		})
	}
	wg.Wait()
}

// deaf is a client that hears nothing of its first renewal of a lease, whether
// the server gets it or not.
type deaf struct {
	jetstream.JetStream
	stored   bool
	renewals atomic.Int32  // that were answered
	once     sync.Once     // the first
	sent     chan struct{} // closed when that is on its way or stored
}

func (d *deaf) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	first := false
	d.once.Do(func() { first = true })
	if !first {
		ack, err := d.JetStream.PublishMsg(ctx, m, opts...)
		if err == nil {
			d.renewals.Add(1)
		}
		return ack, err
	}
	if d.stored {
		if _, err := d.JetStream.PublishMsg(context.WithoutCancel(ctx), m, opts...); err != nil {
			return nil, err
		}
	}
	close(d.sent)
	<-ctx.Done()
	return nil, ctx.Err()
}

// One answer that doesn't come, as when the bucket's leader goes, costs no lease.
func TestARenewalWithoutAnAnswerCostsNoLease(t *testing.T) {
	t.Parallel()
	for name, stored := range map[string]bool{"the request got lost": false, "the answer got lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := &deaf{JetStream: setup(t), stored: stored, sent: make(chan struct{})}
			l := acquire(t, js, 6*time.Second)
			for end := time.Now().Add(time.Minute); js.renewals.Load() == 0; <-time.After(20 * time.Millisecond) {
				if err := context.Cause(l.Context()); err != nil || time.Now().After(end) {
					t.Fatalf("the lease isn't renewed again; it has ended by: %v", err)
				}
			}
		})
	}
}

// A renewal that is cut off by the release has been stored, or will be.
func TestALeaseIsGivenBackWhileItIsRenewed(t *testing.T) {
	t.Parallel()
	js := &deaf{JetStream: setup(t), stored: true, sent: make(chan struct{})}
	l := acquire(t, js, 6*time.Second)
	select {
	case <-js.sent:
	case <-time.After(time.Minute):
		t.Fatal("the lease isn't renewed")
	}
	l.Release()
	acquire(t, js, 6*time.Second)
}
