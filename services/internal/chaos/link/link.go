// Package link passes TCP connections on to a server and lets the way between
// fail as a network does: cut, silent, slow, or ended in the middle of an answer.
//
// Programs that are to be parted are given the address of a [Link] each, so that
// one of them can lose the server while the others keep it.
package link

import (
	"errors"
	"net"
	"sync"
	"time"
)

// dialTimeout bounds how long a link tries to reach its server for a connection.
const dialTimeout = 5 * time.Second

// Link passes connections on to one server. Its methods may be called by several
// goroutines; what they change holds for open connections and new ones alike.
type Link struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup // goroutines, of which none outlives Close

	mu    sync.Mutex // guards what follows
	state state
	// changed is closed and replaced whenever state has changed.
	changed chan struct{}
	pairs   map[*pair]bool
}

// state is how a link fails.
type state struct {
	cut, held, closed bool
	delay             time.Duration // each way
	// budget is how many more bytes pass to the server before all connections
	// are reset, unless it is negative.
	budget int
	deaf   bool // all connections are reset at the next answer
}

// sound is the state of a link that passes everything.
var sound = state{budget: -1}

// Listen returns a link to the server at target, on a loopback address of its
// own. Nobody needs to listen at target yet. Close it.
func Listen(target string) (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{
		listener: listener, target: target, state: sound,
		changed: make(chan struct{}), pairs: map[*pair]bool{},
	}
	l.running.Go(l.accept)
	return l, nil
}

// Addr is the host and port where the link takes connections.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// InUse reports whether a connection goes over l.
func (l *Link) InUse() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pairs) > 0
}

// Cut resets all connections, and new ones as soon as they are made.
func (l *Link) Cut() {
	l.change(func(s *state) { s.cut = true })
	l.reset()
}

// Hold passes nothing on, neither bytes nor the ends of connections, although
// connections stay and new ones are taken: a network that drops every packet.
// What is sent meanwhile waits.
func (l *Link) Hold() { l.change(func(s *state) { s.held = true }) }

// Delay passes everything on after d, each way, in place of an earlier delay.
func (l *Link) Delay(d time.Duration) { l.change(func(s *state) { s.delay = d }) }

// ResetAfter resets all connections, once, when n more bytes have passed to the
// server. New ones are taken.
func (l *Link) ResetAfter(n int) { l.change(func(s *state) { s.budget = n }) }

// ResetAtAnswer resets all connections, once, in place of the next answer of the
// server, which has then done what it was asked and nobody knows. New ones are
// taken.
func (l *Link) ResetAtAnswer() { l.change(func(s *state) { s.deaf = true }) }

// Mend ends every failure that was asked for. What waits is passed on at once.
func (l *Link) Mend() {
	l.change(func(s *state) { *s = state{budget: -1, closed: s.closed} })
}

// Close resets all connections and takes no more. It is an error to close a link
// twice.
func (l *Link) Close() error {
	l.change(func(s *state) { s.closed = true })
	err := l.listener.Close()
	l.reset()
	l.running.Wait()
	return err
}

func (l *Link) change(how func(*state)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	how(&l.state)
	close(l.changed)
	l.changed = make(chan struct{})
}

// look returns the state, and a channel that is closed when it is another.
func (l *Link) look() (state, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.changed
}

func (l *Link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.pairs {
		p.reset()
	}
	l.state.budget, l.state.deaf = -1, false
}

func (l *Link) accept() {
	for {
		client, err := l.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // such as a lack of descriptors, which passes
			time.Sleep(10 * time.Millisecond)
		default:
			l.running.Go(func() { l.serve(client) })
		}
	}
}

// serve passes one connection on until it has ended.
func (l *Link) serve(client net.Conn) {
	p := newPair(client)
	defer l.remove(p)
	if !l.add(p) || !l.await(p, time.Now()) || !p.dial(l.target) {
		p.reset()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.pass(p, p.client, p.server, l.toServer) })
	both.Go(func() { l.pass(p, p.server, p.client, l.toClient) })
	both.Wait()
	p.close()
}

func (l *Link) add(p *pair) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.cut || l.state.closed {
		return false
	}
	l.pairs[p] = true
	return true
}

func (l *Link) remove(p *pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pairs, p)
}

// await waits until what was sent at a time may pass; false if p has ended before.
func (l *Link) await(p *pair, sent time.Time) bool {
	for {
		s, changed := l.look()
		wait := time.Until(sent.Add(s.delay))
		if s.held {
			wait = time.Hour // until it changes
		}
		if wait <= 0 {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-p.dead:
		}
		timer.Stop()
		select {
		case <-p.dead:
			return false
		default:
		}
	}
}

// toServer returns how many of n bytes pass before all connections are reset.
func (l *Link) toServer(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.state.budget < 0:
		return n
	case l.state.budget < n:
		return l.state.budget
	}
	l.state.budget -= n
	return n
}

func (l *Link) toClient(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.deaf {
		return 0
	}
	return n
}
