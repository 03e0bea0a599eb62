package account_test

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
)

// gate is a dialer that a test can shut.
type gate struct {
	mu   sync.Mutex // guards shut
	shut bool
}

// Dial connects while the gate is open.
func (g *gate) Dial(network, address string) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return nil, net.ErrClosed
	}
	return net.Dial(network, address)
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
}

// A bucket that was replaced while the connection was away is read from its
// beginning: what a new one has counts, though its revisions begin anew.
func TestABucketReplacedMeanwhileIsReadAnew(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	for i := range 20 { // revisions that the next bucket doesn't reach
		b.put(fmt.Sprint("old-", i), b.sealed(fmt.Sprint("old-", i), "{}"))
	}
	door := &gate{}
	nc, err := nats.Connect(b.server.URL(), nats.Timeout(30*time.Second), nats.SetCustomDialer(door), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	set, _ := open(t, b.source, nc)
	table := set.Of("orders")
	eventually(t, table, "old-19", "0 keys")
	door.set(true)
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	wait(t, "the connection is lost", func() bool { return !nc.IsConnected() })
	js, err := jetstream.New(b.server.Connect(), natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(t.Context(), "tercel_accounts"); err != nil {
		t.Fatal(err)
	}
	b.open()
	b.put("new", b.sealed("new", "{}"))
	door.set(false)
	eventually(t, table, "new", "0 keys")
	eventually(t, table, "old-19", unknown)
}
