package hostile_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// floods are what keeps connections busy, each sent and left so. There may be 256
// connections to the ingress, and 64 requests in hand.
func floods(w *world) map[string]string {
	good := w.signed("bad", unstored, goodBody).String()
	elsewhere := strings.Replace(good, "/v1/bad", "/v1/nobody", 1)
	return map[string]string{
		"nothing":                        "",
		"half a header":                  good[:40],
		"a header without its end":       good[:strings.Index(good, "\r\n\r\n")],
		"half a body":                    good[:len(good)-5],
		"half a body to no source":       elsewhere[:len(elsewhere)-5],
		"a large body that doesn't come": strings.Replace(good, "Content-Length: 21", "Content-Length: 1000000", 1),
		"one request, then nothing":      "GET /v1/bad HTTP/1.1\r\nHost: a\r\n\r\n",
	}
}

// flooding is for how long they go on: until those that came first are out of time,
// and others have taken their places.
const flooding = 2 * readTimeout

// A crowd that is slow on purpose, and comes again when it is sent away, takes its own
// source's room, and no one else's. (Promise 10.)
func TestFloodsLeaveRoomForTheNeighbour(t *testing.T) {
	w := start(t, part{sources: badSource, services: []string{"ingress"}, budget: "64MiB"})
	before := w.stored()
	w.neighbour.while(time.Second, func() {})
	base := w.footprint()
	quiet := w.neighbour.while(2*time.Second, func() {})
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); w.flood(ctx, floods(w)) }()
	flooded := w.neighbour.while(time.Duration(max(*rounds, 1))*flooding, func() {})
	cancel()
	<-over
	w.compare(quiet, flooded)
	w.recovered(base)
	if err := w.alive(); err != nil {
		t.Error(err)
	}
	if got := w.stored() - before - uint64(w.neighbour.sent); got != 0 {
		t.Errorf("%d events of attackers are stored", got)
	}
	w.nowhere(unstored)
}

// each is how many connections each kind of flood keeps: together more than there
// may be.
const each = 60

// flood keeps connections that have sent a text until ctx ends, from an address of
// their own. One that is ended is made anew.
func (w *world) flood(ctx context.Context, texts map[string]string) {
	var going sync.WaitGroup
	for _, text := range texts {
		for range each {
			going.Go(func() {
				for ctx.Err() == nil {
					w.linger(ctx, text)
				}
			})
		}
	}
	going.Wait()
}

// linger sends text and reads until the connection is ended; then it waits a moment,
// as an attacker with other things to do would.
func (w *world) linger(ctx context.Context, text string) {
	elsewhere := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	if c, err := elsewhere.DialContext(ctx, "tcp", w.ingress); err == nil {
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		_, _ = io.WriteString(c, text)
		_, _ = io.Copy(io.Discard, c)
		stop()
		_ = c.Close()
	}
	select {
	case <-ctx.Done():
	case <-time.After(200 * time.Millisecond):
	}
}
