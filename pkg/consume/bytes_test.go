package consume_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// sendLarge publishes n messages of so many bytes, which begin with their ids.
func (f *fixture) sendLarge(n, size int) {
	f.t.Helper()
	for i := range n {
		m := nats.NewMsg("tercel.raw.orders._.order.paid")
		m.Header.Set(event.HeaderID, fmt.Sprint("evt_", i))
		m.Data = append(fmt.Appendf(nil, "%d ", i), bytes.Repeat([]byte("x"), size)...)
		if _, err := f.js.PublishMsg(f.t.Context(), m); err != nil {
			f.t.Fatal(err)
		}
	}
}

// inHand is how many messages the server has handed out and has no answer for.
func (f *fixture) inHand() int {
	f.t.Helper()
	c, err := f.js.Consumer(f.t.Context(), topology.StreamRaw, topology.EnrichDurable("orders"))
	if err != nil {
		f.t.Fatal(err)
	}
	return c.CachedInfo().NumAckPending
}

// Promise 10: what is in hand is bounded in bytes, however large the messages
// are and however many wait.
func TestBytesInHandAreBounded(t *testing.T) {
	t.Parallel()
	const body, n = 512 << 10, 24
	for name, tt := range map[string]struct {
		max  config.Bytes
		most int // messages in hand
	}{
		"several fit":                      {4 << 20, 7},
		"one fits into a half":             {2 << 20, 3},
		"one is more than a half":          {768 << 10, 1},
		"one alone is more than is wanted": {64 << 10, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.cfg.Workers, f.cfg.MaxBytes, f.cfg.AckWait = 16, tt.max, 30*time.Second
			f.sendLarge(n, body)
			begun, release := make(chan struct{}, n), make(chan struct{})
			f.start(consume.Each(func(context.Context, consume.Message) error {
				begun <- struct{}{}
				<-release
				return nil
			}))
			for range n {
				select {
				case <-begun:
				case <-time.After(time.Minute):
					t.Fatal("no message within a minute: those that are too large stand in the way")
				}
				// Nothing is answered meanwhile but what the server may be reading still.
				f.eventually(fmt.Sprintf("at most %d messages of 512 KiB are in hand", tt.most), func() bool {
					return f.inHand() <= tt.most
				})
				release <- struct{}{}
			}
			f.settled()
		})
	}
}

// What a large message needs doesn't hold up those that are handled already, and
// small ones behind it come again side by side.
func TestSmallMessagesAreNotLeftAloneBehindALargeOne(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cfg.MaxBytes, f.cfg.AckWait = 64<<10, 30*time.Second
	f.sendLarge(1, 512<<10)
	f.sendLarge(4, 10)
	together, all := make(chan struct{}, 5), make(chan struct{})
	f.start(consume.Each(func(ctx context.Context, m consume.Message) error {
		if len(m.Data) > 1000 {
			return nil
		}
		together <- struct{}{}
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}))
	f.eventually("the small ones are in hand together", func() bool { return len(together) == 4 })
	close(all)
	f.settled()
}

// A batch that lingers is handed over when there is no room for more.
func TestALingeringBatchIsHandedOverWhenTheBytesAreUsedUp(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cfg.Workers, f.cfg.Batch, f.cfg.Linger, f.cfg.MaxBytes = 1, 100, time.Hour, 2<<20
	f.sendLarge(6, 512<<10)
	sizes := make(chan int, 6)
	stop := f.start(func(_ context.Context, msgs []consume.Message) []error {
		sizes <- len(msgs)
		return make([]error, len(msgs))
	})
	for range 3 {
		select {
		case n := <-sizes:
			if n != 2 {
				t.Errorf("a batch of %d messages, want 2: the half of what may be in hand", n)
			}
		case <-time.After(time.Minute):
			t.Fatal("no batch within a minute: it waits for what there is no room for")
		}
	}
	stop()
}
