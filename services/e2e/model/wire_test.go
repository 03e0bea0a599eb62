package model_test

import (
	"bytes"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
)

// errCut is what a dead service's connection says.
var errCut = errors.New("cut")

// wire is a service's connection to the server, that a crash cuts in front of
// one of the messages that the service sends. What went before has left it, as
// from a process that was killed there; that message has not, and no answer
// arrives any more.
type wire struct {
	net.Conn
	fuse *fuse
	line []byte // begun, and not yet ended
	skip int    // bytes of a message's payload that are still to come
}

// fuse says which message a service dies at.
type fuse struct {
	mu     sync.Mutex // guards those below
	armed  bool
	prefix string
	left   int
	blown  chan struct{} // closed when it has died
}

// arm makes the service die at one of the messages whose subjects begin so,
// after so many of them.
func (f *fuse) arm(prefix string, after int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.prefix, f.left = true, prefix, after
}

func (f *fuse) disarm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = false
}

// cut reports whether the service has died by the time that it sends to subject.
func (f *fuse) cut(subject string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.isBlown() {
		return true
	}
	if !f.armed || !strings.HasPrefix(subject, f.prefix) {
		return false
	}
	if f.left > 0 {
		f.left--
		return false
	}
	close(f.blown)
	return true
}

// blow kills the service now.
func (f *fuse) blow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.isBlown() {
		close(f.blown)
	}
}

func (f *fuse) isBlown() bool {
	select {
	case <-f.blown:
		return true
	default:
		return false
	}
}

// Write sends what the client says, up to the message that it dies at.
func (w *wire) Write(b []byte) (int, error) {
	if w.fuse.isBlown() {
		return 0, errCut
	}
	for at := 0; at < len(b); {
		if w.skip > 0 {
			n := min(w.skip, len(b)-at)
			w.skip, at = w.skip-n, at+n
			continue
		}
		begun := at
		end := bytes.IndexByte(b[at:], '\n')
		if end < 0 {
			w.line = append(w.line, b[at:]...)
			break
		}
		at += end + 1
		words := strings.Fields(string(append(w.line, b[begun:at]...)))
		w.line = w.line[:0]
		if len(words) < 3 || words[0] != "PUB" && words[0] != "HPUB" {
			continue
		}
		if w.fuse.cut(words[1]) {
			_, _ = w.Conn.Write(b[:begun])
			_ = w.Close()
			return begun, errCut
		}
		size, err := strconv.Atoi(words[len(words)-1])
		if err != nil {
			return 0, err
		}
		w.skip = size + len("\r\n")
	}
	return w.Conn.Write(b)
}

// dialer connects a service whose end is f.
type dialer struct{ f *fuse }

// Dial connects to the server; nats.go asks for it.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	if d.f.isBlown() {
		return nil, errCut
	}
	c, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return &wire{Conn: c, fuse: d.f}, nil
}
