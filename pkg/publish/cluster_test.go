package publish_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/topology"
)

type cluster struct {
	servers []*natstest.Server
	js      jetstream.JetStream
	pubs    []*publish.Publisher // of two replicas of a service
}

func setupCluster(t *testing.T) cluster {
	t.Helper()
	servers := natstest.Cluster(t, true)
	c := cluster{servers: servers}
	cfg := topology.DefaultConfig()
	cfg.Replicas = 3
	for range 2 {
		nc := natstest.ConnectAll(t, servers)
		js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		c.js = js
		p, err := publish.New(nc, publish.Config{Replicated: true, Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		c.pubs = append(c.pubs, p)
	}
	if err := topology.Ensure(t.Context(), c.js, cfg); err != nil {
		t.Fatal(err)
	}
	return c
}

// Promise 4: on a replicated stream the repeat of what is still on its way is
// refused by the server ("duplicate message id is in process"). It is no
// success until the first is stored, and then it is.
func TestReplicatedRepeatsWaitForTheFirst(t *testing.T) {
	t.Parallel()
	c := setupCluster(t)
	var firsts atomic.Int64
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			ack, err := c.pubs[i%2].Publish(t.Context(), message(fmt.Sprint("id-", i/40)))
			if err != nil {
				t.Errorf("Publish: %v", err)
			}
			if !ack.Duplicate {
				firsts.Add(1)
			}
		})
	}
	wg.Wait()
	if got := stored(t, c.js); got != 10 || firsts.Load() != 10 {
		t.Errorf("%d stored, %d answered as new, want 10 of each", got, firsts.Load())
	}
}

// Promise 1: while a stream's leader goes away, what is answered with success
// is stored, and what isn't is stored once when it is sent again.
func TestNothingAcknowledgedIsLostWithTheLeader(t *testing.T) {
	t.Parallel()
	c := setupCluster(t)
	s, err := c.js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	leader := s.CachedInfo().Cluster.Leader
	const n = 600
	var wg sync.WaitGroup
	started := make(chan struct{}, n)
	next := make(chan int)
	for w := range 32 {
		wg.Go(func() {
			for i := range next {
				started <- struct{}{}
				publishUntilStored(t, c.pubs[w%2], fmt.Sprint("id-", i))
			}
		})
	}
	wg.Go(func() {
		defer close(next)
		for i := range n {
			next <- i
		}
	})
	for range n / 4 {
		<-started
	}
	for _, server := range c.servers {
		if server.Name() == leader {
			server.Stop()
		}
	}
	wg.Wait()
	if s, err = c.js.Stream(t.Context(), topology.StreamRaw); err != nil {
		t.Fatal(err)
	}
	if now := s.CachedInfo().Cluster.Leader; now == leader {
		t.Errorf("%s still leads", now)
	}
	if got := stored(t, c.js); got != n {
		t.Errorf("%d messages stored, want %d", got, n)
	}
}

// publishUntilStored sends again what could not be stored, as a provider does.
func publishUntilStored(t *testing.T, p *publish.Publisher, id string) {
	deadline := time.Now().Add(60 * time.Second)
	for {
		_, err := p.Publish(t.Context(), message(id))
		if err == nil {
			return
		}
		if !errors.Is(err, publish.ErrUnavailable) || time.Now().After(deadline) {
			t.Errorf("Publish(%s) = %v", id, err)
			return
		}
	}
}
