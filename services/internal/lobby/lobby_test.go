package lobby_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tercelhq/tercel/services/internal/lobby"
)

// street is where connections come from, of any address.
type street struct{ coming chan net.Conn }

func (s street) Accept() (net.Conn, error) { return <-s.coming, nil }
func (s street) Close() error              { return nil }
func (s street) Addr() net.Addr            { return &net.TCPAddr{} }

// sent is a connection that came from an address.
type sent struct {
	net.Conn
	from string
}

func (s sent) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(s.from), 1234))
}

// came is a connection that was let in, and its other end.
type came struct{ in, out net.Conn }

// closed reports whether the lobby has closed it.
func (c came) closed() bool {
	_ = c.out.SetReadDeadline(time.Now())
	_, err := c.out.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

// house is a lobby at a street.
type house struct {
	*lobby.Lobby
	street street
}

func newHouse(most int) house {
	s := street{make(chan net.Conn, 1)}
	return house{lobby.New(s, most), s}
}

// come lets a connection in.
func (h house) come(from string) (came, error) {
	out, theirs := net.Pipe()
	h.street.coming <- sent{theirs, from}
	in, err := h.Accept()
	return came{in, out}, err
}

// enter lets in a connection from each address.
func (h house) enter(t *testing.T, from ...string) (all []came) {
	t.Helper()
	for _, addr := range from {
		c, err := h.come(addr)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// Promise 10: who has most connections that wait makes room for the next one, and who
// has one keeps it.
func TestWhoMakesRoom(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		from []string // the last of them is one more than there is room for
		gone int
	}{
		"the one that has waited longest, of one neighbourhood": {[]string{"192.0.2.1", "192.0.2.1", "192.0.2.1"}, 0},
		"of that which has most":                                {[]string{"192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3"}, 1},
		"of some that have as many":                             {[]string{"192.0.2.4", "192.0.2.3", "192.0.2.2", "192.0.2.1", "192.0.2.5"}, 0},
		"of some that have as many and others more": {
			[]string{"192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3", "192.0.2.3", "192.0.2.4", "192.0.2.4", "192.0.2.5"}, 1,
		},
		"all networks of an IPv6 site are one neighbourhood": {
			[]string{"2001:db8:1::1", "2001:db8:2:1::1", "2001:db8:2:2::1", "2001:db8:3::1", "2001:db8:4::1"}, 1,
		},
		"an IPv4 address written as IPv6 is the same": {[]string{"192.0.2.1", "::ffff:192.0.2.2", "192.0.2.2", "192.0.2.3"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := newHouse(len(tt.from)-1).enter(t, tt.from...)
			for i, c := range all {
				if got := c.closed(); got != (i == tt.gone) {
					t.Errorf("connection %d, of %s: closed %t, want that of %d", i, tt.from[i], got, tt.gone)
				}
			}
		})
	}
}

// A connection with a request in hand doesn't wait, and does again behind it. What is
// told twice counts once.
func TestRequestsInHandMakeNoRoom(t *testing.T) {
	t.Parallel()
	h := newHouse(2)
	next := func() came {
		c, err := h.come("192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	busy, idle := next(), next()
	h.Follow(busy.in, http.StateActive)
	third := next()
	if busy.closed() || !idle.closed() {
		t.Errorf("with a request in hand: closed %t; without: closed %t, want only the latter", busy.closed(), idle.closed())
	}
	for range 3 {
		h.Follow(busy.in, http.StateIdle)
	}
	h.Follow(third.in, http.StateActive)
	fourth := next()
	if !busy.closed() || third.closed() {
		t.Errorf("behind its request: closed %t, want it to make room", busy.closed())
	}
	h.Follow(busy.in, http.StateIdle) // it was on its way
	h.Follow(third.in, http.StateIdle)
	next()
	if last := next(); last.closed() || !third.closed() || !fourth.closed() {
		t.Errorf("closed %t, %t, want those that came before", third.closed(), fourth.closed())
	}
}

// net/http keeps a connection for half a second behind an answer to one that still
// writes, which by then comes again. So it makes room, and none that has yet to say
// what it wants has to, however many requests of a flood are refused.
func TestWhoHasItsAnswerMakesRoom(t *testing.T) {
	t.Parallel()
	h := newHouse(4)
	all := h.enter(t, "192.0.2.2", "192.0.2.1", "192.0.2.1", "192.0.2.1")
	for _, c := range all[1:] {
		h.Follow(c.in, http.StateActive)
	}
	answered := func(c came) {
		h.Follow(c.in, http.StateActive)
		if err := c.in.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	answered(all[2])
	answered(all[3])
	all = append(all, h.enter(t, "192.0.2.1")...)
	for i, c := range all {
		if c.closed() != (i == 2) {
			t.Errorf("connection %d: closed %t, want the first that has its answer", i, c.closed())
		}
	}
	answered(all[2]) // it was on its way
	if h.Follow(all[4].in, http.StateActive); all[3].closed() {
		t.Error("who is gone made room again")
	}
}

// Promise 10: so does who is refused before its request has come as a whole, and sends
// the rest slowly. Who only has less time than before doesn't.
func TestWhoseRestCountsNoMoreMakesRoom(t *testing.T) {
	t.Parallel()
	h := newHouse(3)
	all := h.enter(t, "192.0.2.1", "192.0.2.1", "192.0.2.1")
	for _, c := range all {
		h.Follow(c.in, http.StateActive)
	}
	for i, left := range []time.Duration{lobby.Rest + time.Minute, lobby.Rest, -time.Minute} {
		if err := all[i].in.SetReadDeadline(time.Now().Add(left)); err != nil {
			t.Fatal(err)
		}
	}
	h.enter(t, "192.0.2.1")
	for i, c := range all {
		if c.closed() != (i == 1) {
			t.Errorf("connection %d: closed %t, want the one that is refused", i, c.closed())
		}
	}
}

// Promise 10: who doesn't read what it is sent makes room, however many requests it has
// sent before. Who reads in time isn't cut off for the next one, nor is a request in hand
// behind a part that was read late.
func TestWhoDoesntReadMakesRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(3)
		busy := func() came {
			c, err := h.come("192.0.2.1")
			if err != nil {
				t.Error(err)
			}
			h.Follow(c.in, http.StateActive)
			return c
		}
		write := func(c came) <-chan error {
			written := make(chan error, 1)
			go func() {
				_, err := c.in.Write([]byte("part"))
				written <- err
			}()
			return written
		}
		// read has the other end read after a while.
		read := func(c came, after time.Duration) {
			written := write(c)
			time.Sleep(after)
			if _, err := io.ReadFull(c.out, make([]byte, len("part"))); err != nil {
				t.Errorf("read after %s: %v", after, err)
			}
			if err := <-written; err != nil {
				t.Errorf("written in %s: %v", after, err)
			}
		}
		late, prompt, deaf := busy(), busy(), busy()
		read(late, time.Minute)
		let := make(chan came)
		go func() { let <- busy() }()
		read(prompt, time.Second/2)
		written := write(deaf)
		next := <-let
		if err := <-written; err == nil || !deaf.closed() {
			t.Error("who doesn't read is still there")
		}
		for name, c := range map[string]came{"late": late, "prompt": prompt, "next": next} {
			if c.closed() {
				t.Errorf("%s made room", name)
			}
			_ = c.in.Close()
		}
	})
}

// Promise 10: so do the connections of a server whose answers aren't read.
func TestUnreadAnswersMakeRoom(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := lobby.New(ln, 2)
	answering := make(chan struct{}, 2)
	large := make([]byte, 64<<20) // more than is on its way
	srv := &http.Server{ConnState: l.Follow, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			answering <- struct{}{}
			_, _ = w.Write(large)
		}
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer func() {
		_ = srv.Close()
		<-served
	}()
	ask := func(path string) net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for range 2 {
		defer func(c net.Conn) { _ = c.Close() }(ask("/large"))
		<-answering
	}
	c := ask("/")
	defer func() { _ = c.Close() }()
	if text, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(text, []byte("HTTP/1.1 200 ")) {
		t.Errorf("answered %q, %v, want 200", text, err)
	}
}

// Who has to wait is let in when somebody leaves, and not any more once the lobby is
// closed.
func TestAFullLobbyWaits(t *testing.T) {
	t.Parallel()
	h := newHouse(1)
	busy, err := h.come("192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	h.Follow(busy.in, http.StateActive)
	let := make(chan error)
	come := func() {
		_, err := h.come("192.0.2.2")
		let <- err
	}
	go come()
	if err := busy.in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-let; err != nil || !busy.closed() {
		t.Errorf("after somebody has left: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	go come()
	if err := <-let; err == nil {
		t.Error("let in behind a closed door")
	}
}

// A client that still writes is told that nothing more comes, as without a lobby.
func TestHalfClosedConnections(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := lobby.New(ln, 1)
	defer func() { _ = l.Close() }()
	out, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	_ = out.SetDeadline(time.Now().Add(time.Minute))
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	half, ok := in.(interface{ CloseWrite() error })
	if !ok {
		t.Fatal("no CloseWrite")
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
		t.Errorf("read %q, %v, want an end", rest, err)
	}
	if _, err := out.Write([]byte("more")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(in, got); err != nil || !bytes.Equal(got, []byte("more")) {
		t.Errorf("read %q, %v, want what was written behind it", got, err)
	}
}
