package ingress

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// lobby bounds the connections that are open (promise 10). When there are as many as
// there may be, one that waits for a request is closed to make room for the next one:
// who connects and says nothing keeps nobody out. It is one of the neighbourhood that
// has most of them, so that a flood displaces itself, and there the one that has
// waited longest. A request is there when its headers are.
type lobby struct {
	net.Listener
	most int

	mu      sync.Mutex // guards what follows
	left    *sync.Cond // on mu: a connection is closed or waits, or the listener is closed
	open    int
	waiting map[netip.Prefix]*list.List // of *visitor, the one that has waited longest first
	closed  bool
}

func newLobby(ln net.Listener, most int) *lobby {
	l := &lobby{Listener: ln, most: most, waiting: map[netip.Prefix]*list.List{}}
	l.left = sync.NewCond(&l.mu)
	return l
}

// visitor is an open connection.
type visitor struct {
	net.Conn
	lobby *lobby
	from  netip.Prefix
	place *list.Element // among those that wait, or nil; guarded by lobby.mu
	gone  bool          // guarded by lobby.mu
}

// neighbourhood is what one stranger may have of addresses: one of IPv4, or a network
// of IPv6. Behind a proxy it is the proxy's, which has limits of its own.
func neighbourhood(c net.Conn) netip.Prefix {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip, bits := tcp.AddrPort().Addr().Unmap(), 32
	if ip.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// Accept waits for the next connection, and for room.
func (l *lobby) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	v := &visitor{Conn: c, lobby: l, from: neighbourhood(c)}
	if !l.enter(v) {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	return v, nil
}

// enter reports whether the listener is still open.
func (l *lobby) enter(v *visitor) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.open >= l.most && !l.closed {
		if one := l.dispensable(); one != nil {
			l.leave(one)
		} else {
			l.left.Wait() // all have requests in hand, which end
		}
	}
	if l.closed {
		return false
	}
	l.open++
	l.list(v)
	return true
}

// dispensable is the connection to close for another one, or nil; l.mu is held.
func (l *lobby) dispensable() *visitor {
	var most *list.List
	for _, from := range l.waiting {
		if most == nil || from.Len() > most.Len() {
			most = from
		}
	}
	if most == nil {
		return nil
	}
	return most.Front().Value.(*visitor) //nolint:forcetypeassert // nothing else is put in
}

// list and unlist are called with l.mu held.
func (l *lobby) list(v *visitor) {
	from := l.waiting[v.from]
	if from == nil {
		from = list.New()
		l.waiting[v.from] = from
	}
	v.place = from.PushBack(v)
	l.left.Signal()
}

func (l *lobby) unlist(v *visitor) {
	if v.place == nil {
		return
	}
	from := l.waiting[v.from]
	from.Remove(v.place)
	if v.place = nil; from.Len() == 0 {
		delete(l.waiting, v.from)
	}
}

// leave closes a connection, once; l.mu is held.
func (l *lobby) leave(v *visitor) {
	if v.gone {
		return
	}
	v.gone = true
	l.unlist(v)
	l.open--
	l.left.Signal()
	_ = v.Conn.Close() // whoever reads from it is told
}

// Close lets nobody in any more. Connections stay open.
func (l *lobby) Close() error {
	l.mu.Lock()
	l.closed = true
	l.left.Broadcast()
	l.mu.Unlock()
	return l.Listener.Close()
}

// Close gives the connection's place to another one.
func (v *visitor) Close() error {
	v.lobby.mu.Lock()
	defer v.lobby.mu.Unlock()
	v.lobby.leave(v)
	return nil
}

// follow is a server's ConnState: it tells who waits from who has a request.
func (l *lobby) follow(c net.Conn, state http.ConnState) {
	v := visitorOf(c)
	if v == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case state == http.StateActive:
		l.unlist(v)
	case state == http.StateIdle && !v.gone:
		l.list(v)
	}
}

// visitorOf finds the connection below those that encrypt it or mend its answers.
func visitorOf(c net.Conn) *visitor {
	for c != nil {
		if v, ok := c.(*visitor); ok {
			return v
		}
		below, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = below.NetConn()
	}
	return nil
}
