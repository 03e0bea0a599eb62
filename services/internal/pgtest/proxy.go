package pgtest

import (
	"errors"
	"io"
	"net"
	"sync"
)

// Proxy passes connections on to a server, until it is told to fail.
type Proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex // guards what follows
	cond  *sync.Cond // signals that frozen or dead changed
	conns map[net.Conn]bool
	// down refuses connections.
	down bool
	// frozen passes nothing on, in either direction.
	frozen bool
	// budget is how many more bytes pass to the server before all connections
	// are cut, unless it is negative.
	budget int
	// deaf cuts all connections at the next answer of the server.
	deaf   bool
	closed bool
}

// NewProxy returns a proxy for the server at target, on an address of its own.
// Close it.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, conns: map[net.Conn]bool{}, budget: -1}
	p.cond = sync.NewCond(&p.mu)
	go p.accept()
	return p, nil
}

// Addr is the proxy's host and port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close cuts all connections and takes no more.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Cut()
	return p.listener.Close()
}

// Cut cuts all connections. New ones are taken.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

func (p *Proxy) cut() {
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, as a lost network gives
		}
		_ = c.Close()
	}
	clear(p.conns)
	p.budget, p.deaf = -1, false
	p.cond.Broadcast()
}

// Down cuts all connections and refuses new ones, until Up.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	p.cut()
}

// Up takes connections again.
func (p *Proxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// Freeze passes nothing on until Thaw; connections stay.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
}

// Thaw passes on what waits.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = false
	p.cond.Broadcast()
}

// CutAfter cuts all connections once n more bytes have passed to the server.
func (p *Proxy) CutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budget = n
}

// CutAtAnswer cuts all connections at the next answer of the server, which has
// then done what it was asked and nobody knows.
func (p *Proxy) CutAtAnswer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = true
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(client)
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	if !p.add(client) {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if !p.add(server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _ = p.copy(server, client, p.toServer); _ = server.Close(); _ = client.Close() })
	both.Go(func() { _ = p.copy(client, server, p.toClient); _ = server.Close(); _ = client.Close() })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, client)
	delete(p.conns, server)
}

func (p *Proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down || p.closed {
		return false
	}
	p.conns[c] = true
	return true
}

var errCut = errors.New("cut")

// copy passes on what check lets through.
func (p *Proxy) copy(to io.Writer, from io.Reader, check func(n int) int) error {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			pass := check(n)
			if _, err := to.Write(buf[:pass]); err != nil {
				return err
			}
			if pass < n {
				p.Cut()
				return errCut
			}
		}
		if err != nil {
			return err
		}
	}
}

// toServer returns how many of n bytes pass.
func (p *Proxy) toServer(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaitThaw()
	switch {
	case p.budget < 0:
		return n
	case p.budget < n:
		return p.budget
	}
	p.budget -= n
	return n
}

func (p *Proxy) toClient(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaitThaw()
	if p.deaf {
		return 0
	}
	return n
}

func (p *Proxy) awaitThaw() {
	for p.frozen && !p.closed {
		p.cond.Wait()
	}
}
