package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// ahead is how many reads of one direction may wait to be passed on: of 32 KB
// each, enough that a delay costs time but hardly any throughput.
const ahead = 64

// pair is a client's connection and the one that is made to the server for it.
type pair struct {
	client *net.TCPConn
	dead   chan struct{} // closed when the pair has ended

	mu     sync.Mutex // guards what follows
	server *net.TCPConn
	over   bool
}

func newPair(client net.Conn) *pair {
	return &pair{client: client.(*net.TCPConn), dead: make(chan struct{})}
}

// dial connects to the server; false if that can't be done or p was reset.
func (p *pair) dial(target string) bool {
	conn, err := net.DialTimeout("tcp", target, dialTimeout)
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		_ = conn.Close()
		return false
	}
	p.server = conn.(*net.TCPConn)
	return true
}

// close ends both connections; what was passed on still arrives.
func (p *pair) close() { p.end(func(*net.TCPConn) {}) }

// reset ends both connections at once, as a server does that is gone.
func (p *pair) reset() { p.end(func(c *net.TCPConn) { _ = c.SetLinger(0) }) }

func (p *pair) end(prepare func(*net.TCPConn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.over = true
	close(p.dead)
	for _, c := range []*net.TCPConn{p.client, p.server} {
		if c != nil {
			prepare(c)
			_ = c.Close()
		}
	}
}

// sent is what one read gave.
type sent struct {
	at    time.Time
	bytes []byte
	err   error // how the direction ended
}

// pass passes on what one end sends until that ends. The other end is told how:
// it may go on to answer who only has nothing more to say.
func (l *Link) pass(p *pair, from, to *net.TCPConn, admit func(n int) int) {
	queue := make(chan sent, ahead)
	var reading sync.WaitGroup
	reading.Go(func() { p.read(from, queue) })
	defer reading.Wait()
	for s := range queue {
		if !l.await(p, s.at) {
			break
		}
		admitted := admit(len(s.bytes))
		if _, err := to.Write(s.bytes[:admitted]); err != nil {
			s.err = err
		}
		switch {
		case admitted < len(s.bytes):
			l.reset()
		case errors.Is(s.err, io.EOF):
			_ = to.CloseWrite()
		case s.err != nil:
			p.reset()
		}
	}
}

// read puts into queue, which it closes, what conn sends, until that ends or p
// has ended.
func (p *pair) read(conn *net.TCPConn, queue chan<- sent) {
	defer close(queue)
	buf := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buf)
		select {
		case queue <- sent{time.Now(), bytes.Clone(buf[:n]), err}:
		case <-p.dead:
			return
		}
		if err != nil {
			return
		}
	}
}
