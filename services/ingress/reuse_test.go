package ingress_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/ingress"
)

// Promise 8: the memory of one event is used for others, and yet each is stored
// with its own bytes and headers, also when the server goes away while senders
// give up on what is still on its way.
func TestEachEventKeepsItsOwnBytes(t *testing.T) {
	t.Parallel()
	for name, level := range map[string]topology.Durability{"grouped": topology.Synced, "one by one": topology.Relaxed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, func(c *ingress.Config) { c.Streams.Durability, c.StoreTimeout = level, 200*time.Millisecond })
			const n, senders = 1500, 64
			var next, done atomic.Int64
			var wg sync.WaitGroup
			half := make(chan struct{})
			for range senders {
				wg.Go(func() {
					for i := next.Add(1); i <= n; i = next.Add(1) {
						d := f.delivery("hub", fmt.Sprint("d-", i), fmt.Sprintf(`{"action":"a%d","n":%q}`, i, strings.Repeat("x", int(i%500))))
						for r := f.send(d); r.code != http.StatusOK; r = f.send(d) {
							if r.code != http.StatusServiceUnavailable {
								t.Errorf("answered %+v, want 200 or 503", r)
								break
							}
						}
						if done.Add(1) == n/3 {
							close(half)
						}
					}
				})
			}
			<-half
			f.server.Stop()
			f.server.Resume()
			wg.Wait()
			if stored := f.checkOwnBytes(); stored != n {
				t.Errorf("%d messages stored, want %d", stored, n)
			}
		})
	}
}

// Promise 8: a sender that gives up before the publisher does leaves its message
// in the publisher's hands, which asks for it once more when no answer comes. Its
// memory is nobody else's until then, which the race detector sees.
func TestMessageOfASenderThatGaveUpIsNobodyElses(t *testing.T) {
	t.Parallel()
	var cfg ingress.Config
	f := setup(t, func(c *ingress.Config) {
		c.Streams.Durability, c.StoreTimeout = topology.Synced, 4*time.Second
		cfg = *c
	})
	f.service.Close()
	line := &line{held: make(chan struct{}), released: make(chan struct{})}
	conn, err := nats.Connect(f.server.URL(), nats.Timeout(30*time.Second), nats.SetCustomDialer(line))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	f.conn = conn
	f.serve(cfg)

	const senders = 32
	var next atomic.Int64
	numbered := func() delivery {
		i := next.Add(1)
		return f.delivery("hub", fmt.Sprint("d-", i), fmt.Sprintf(`{"action":"a%d","n":%q}`, i, strings.Repeat("x", int(i%500))))
	}
	impatient, giveUp := context.WithCancel(t.Context())
	var gone, others sync.WaitGroup
	for range senders {
		gone.Go(func() {
			for r := (reply{code: http.StatusOK}); r.code == http.StatusOK; {
				w := httptest.NewRecorder()
				f.service.Handler().ServeHTTP(w, numbered().request(t).WithContext(impatient))
				r = readReply(t, w.Code, w.Header(), w.Body.Bytes())
			}
		})
	}
	<-line.held // a group is on its way, and gets no answer
	giveUp()
	gone.Wait()
	for range 4 * senders {
		others.Go(func() { f.send(numbered()) })
	}
	others.Wait() // none has got an answer either
	close(line.released)
	f.checkOwnBytes()
}

// line is the way to a server, from which nothing comes back between the commit
// of a batch and the release.
type line struct {
	once           sync.Once
	held, released chan struct{}
}

func (l *line) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return lineConn{c, l}, err
}

type lineConn struct {
	net.Conn
	line *line
}

func (c lineConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(jetstreamext.BatchCommitHeader)) {
		c.line.once.Do(func() { close(c.line.held) })
	}
	return c.Conn.Write(b)
}

func (c lineConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.line.held:
		<-c.line.released
	default:
	}
	return n, err
}

// checkOwnBytes holds the messages of source hub against their ids, which have
// their bodies' hashes, and counts them.
func (f *fixture) checkOwnBytes() (count int) {
	f.t.Helper()
	for m, err := range consume.Scan(f.t.Context(), f.jetstream(), consume.ScanOptions{Stream: topology.StreamRaw}) {
		if err != nil {
			f.t.Fatal(err)
		}
		count++
		sum := sha256.Sum256(m.Data)
		if id, want := m.Header.Get(jetstream.MsgIDHeader), "hub:_:sha256:"+hex.EncodeToString(sum[:]); id != want {
			f.t.Errorf("message %d has the id %s and the body of %s", m.Sequence, id, want)
		}
		e, err := event.FromHeader(m.Header)
		if want := e.DeliveryID + "~" + hex.EncodeToString(sum[:8]); err != nil || e.ID != want || e.Type != "issues.a"+strings.TrimPrefix(e.DeliveryID, "d-") {
			f.t.Errorf("message %d: %+v, %v, want the id %s", m.Sequence, e, err, want)
		}
	}
	return count
}

// Nothing of an event is left for the next: no header, and no field of its form.
func TestEventLeavesNothingToTheNext(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, `
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {id: header.X-Delivery, type: body.kind, time: body.at}
  forms:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {type: form.kind}
    request: {content_types: [application/x-www-form-urlencoded]}
`))
	for i := range 20 { // memory isn't always used again
		body := fmt.Sprintf(`{"kind":"order.paid","at":"2026-03-01T12:00:00Z","n":%d}`, i)
		if r := f.send(f.delivery("orders", fmt.Sprint("d-", i), body)); r.Status != "accepted" {
			t.Fatalf("answered %+v, want accepted", r)
		}
		for j := range 2 {
			d := f.delivery("forms", "", fmt.Sprintf("kind=form.%d.%d", i, j))
			d.header.Set("Content-Type", "application/x-www-form-urlencoded")
			if r := f.send(d); r.Status != "accepted" {
				t.Fatalf("answered %+v, want accepted", r)
			}
			m := f.last()
			e, err := event.FromHeader(m.Header)
			if err != nil || e.Type != fmt.Sprintf("form.%d.%d", i, j) || e.DeliveryID != "" || !e.Time.IsZero() || string(m.Data) != d.body {
				t.Fatalf("stored %+v, %v, with the body %s", e, err, m.Data)
			}
		}
	}
}
