// Package lobby bounds the connections to a server (promise 10). When there are as
// many as there may be, one that waits for a request, has its last answer or doesn't
// read its answer is closed to make room for the next one: who connects and says or
// hears nothing keeps nobody out. It is one of the neighbourhood that has most of them,
// so that a flood displaces itself, and there the one that has waited longest. A
// request is there when its headers are.
package lobby

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// patience is for how long a connection is not one that waits although the other end
// doesn't read: longer than an answer takes that is read at all.
const patience = time.Second

// Lobby is a listener that has room for so many connections, and the place where they
// wait. Use [New], and [Lobby.Follow] as the server's ConnState.
type Lobby struct {
	net.Listener
	most int

	mu      sync.Mutex // guards what follows
	left    *sync.Cond // on mu: a connection is closed or waits, or the listener is closed
	open    int
	waiting crowd
	closed  bool
}

// New returns a lobby in front of ln with room for so many connections. Closing it
// closes ln.
func New(ln net.Listener, most int) *Lobby {
	l := &Lobby{Listener: ln, most: most}
	l.left = sync.NewCond(&l.mu)
	return l
}

// guest is an open connection.
type guest struct {
	net.Conn
	lobby *Lobby
	from  netip.Prefix

	// Guarded by lobby.mu:
	place *place // among those that wait, or nil
	busy  bool   // with a request in hand
	gone  bool
}

// from is the neighbourhood at the other end.
func from(c net.Conn) netip.Prefix {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	return Neighbourhood(tcp.AddrPort().Addr())
}

// Accept waits for the next connection, and for room.
func (l *Lobby) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: c, lobby: l, from: from(c)}
	if !l.enter(g) {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	return g, nil
}

// enter reports whether the listener is still open.
func (l *Lobby) enter(g *guest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.open >= l.most && !l.closed {
		if one := l.waiting.most(); one != nil {
			l.leave(one)
		} else {
			l.left.Wait() // all have requests in hand, which end, or wait for the other end before long
		}
	}
	if l.closed {
		return false
	}
	l.open++
	l.list(g)
	return true
}

// list and unlist are called with l.mu held.
func (l *Lobby) list(g *guest) {
	if g.place == nil && !g.gone {
		g.place = l.waiting.add(g, g.from)
		l.left.Signal()
	}
}

func (l *Lobby) unlist(g *guest) {
	if g.place != nil {
		l.waiting.remove(g.place)
		g.place = nil
	}
}

// leave closes a connection, once; l.mu is held.
func (l *Lobby) leave(g *guest) {
	if g.gone {
		return
	}
	g.gone = true
	l.unlist(g)
	l.open--
	l.left.Signal()
	_ = g.Conn.Close() // whoever reads from it is told
}

// Close lets nobody in any more. Connections stay open.
func (l *Lobby) Close() error {
	l.mu.Lock()
	l.closed = true
	l.left.Broadcast()
	l.mu.Unlock()
	return l.Listener.Close()
}

// Close gives the connection's place to another one.
func (g *guest) Close() error {
	g.lobby.mu.Lock()
	defer g.lobby.mu.Unlock()
	g.lobby.leave(g)
	return nil
}

// Write makes the connection one that waits while the other end doesn't read: it may have
// sent many requests at once to have as many answers. When it has read it is what it was.
func (g *guest) Write(p []byte) (int, error) {
	written := false // guarded by lobby.mu
	stuck := time.AfterFunc(patience, func() {
		g.lobby.mu.Lock()
		defer g.lobby.mu.Unlock()
		if !written {
			g.lobby.list(g)
		}
	})
	n, err := g.Conn.Write(p)
	if !stuck.Stop() {
		g.lobby.mu.Lock()
		defer g.lobby.mu.Unlock()
		if written = true; g.busy {
			g.lobby.unlist(g)
		}
	}
	return n, err
}

// CloseWrite tells the other end that nothing more comes, as net/http does half a second
// before it closes a connection whose client still writes. Meanwhile it makes room: the
// other end has its answer and may come again, so that a flood of requests that are
// refused would have more connections here than it keeps open.
func (g *guest) CloseWrite() error {
	g.lobby.mu.Lock()
	g.busy = false
	g.lobby.list(g)
	g.lobby.mu.Unlock()
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Rest is how long what is left of a request may take to come that counts no more.
const Rest = time.Second

// SetReadDeadline makes the connection one that waits where it has no more than [Rest]:
// its request is refused, and net/http reads on only to be able to answer. Of deadlines
// that are past or further off none says so.
func (g *guest) SetReadDeadline(t time.Time) error {
	if left := time.Until(t); left > 0 && left <= Rest {
		g.lobby.mu.Lock()
		g.busy = false
		g.lobby.list(g)
		g.lobby.mu.Unlock()
	}
	return g.Conn.SetReadDeadline(t)
}

// Follow is a server's ConnState: it tells who waits from who has a request. It sees
// through what encrypts a connection or mends its answers, by their NetConn.
func (l *Lobby) Follow(c net.Conn, state http.ConnState) {
	g := guestOf(c)
	if g == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateActive:
		g.busy = true
		l.unlist(g)
	case http.StateIdle:
		g.busy = false
		l.list(g)
	}
}

func guestOf(c net.Conn) *guest {
	for c != nil {
		if g, ok := c.(*guest); ok {
			return g
		}
		below, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = below.NetConn()
	}
	return nil
}
