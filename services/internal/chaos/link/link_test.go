package link_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/chaos/link"
)

// patience bounds every wait of a test.
const patience = time.Minute

// serve runs a server that answers every connection with handle.
func serve(t *testing.T, handle func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				handle(conn.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}

// echo answers with what it is sent.
func echo(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) }

func listen(t *testing.T, target string) *link.Link {
	t.Helper()
	l, err := link.Listen(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func dial(t *testing.T, l *link.Link) *net.TCPConn {
	t.Helper()
	conn, err := tryDial(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func tryDial(l *link.Link) (*net.TCPConn, error) {
	conn, err := net.DialTimeout("tcp", l.Addr(), patience)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), conn.SetDeadline(time.Now().Add(patience))
}

// ask sends a word to an echo and reads it back.
func ask(conn net.Conn) error {
	if _, err := conn.Write([]byte("word")); err != nil {
		return err
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != "word" {
		return errors.New("the echo answers " + string(got))
	}
	return nil
}

// try asks over a new connection.
func try(l *link.Link) error {
	conn, err := tryDial(l)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return ask(conn)
}

// mustAsk checks that a new connection over l works.
func mustAsk(t *testing.T, l *link.Link) *net.TCPConn {
	t.Helper()
	conn := dial(t, l)
	if err := ask(conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

// isReset says whether err is how a connection ends that was reset.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// All bytes arrive, in order, and so does the end of either direction alone.
func TestEverythingIsPassedOn(t *testing.T) {
	t.Parallel()
	tests := map[string]time.Duration{"at once": 0, "late": time.Millisecond}
	for name, delay := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// It answers only once it has read all, and then to its own end.
			l := listen(t, serve(t, func(conn *net.TCPConn) {
				all, _ := io.ReadAll(conn)
				_, _ = conn.Write(all)
			}))
			l.Delay(delay)
			conn := dial(t, l)
			want := make([]byte, 5<<20)
			_, _ = rand.NewChaCha8([32]byte{}).Read(want)
			if _, err := conn.Write(want); err != nil {
				t.Fatal(err)
			}
			if err := conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes of %d came back, or others, and %v", len(got), len(want), err)
			}
		})
	}
}

// A cut ends open connections and new ones by a reset, until it is mended.
func TestCut(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	open := mustAsk(t, l)
	l.Cut()
	for name, err := range map[string]error{"open": ask(open), "new": try(l)} {
		if !isReset(err) {
			t.Errorf("%s connection over a cut link: %v, want a reset", name, err)
		}
	}
	l.Mend()
	mustAsk(t, l)
}

// A link is in use for as long as a connection goes over it.
func TestInUse(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	if l.InUse() {
		t.Error("a link is in use that nobody has used")
	}
	conn := mustAsk(t, l)
	if !l.InUse() {
		t.Error("a link with a connection is not in use")
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); l.InUse(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a link is in use whose connection has ended")
		}
	}
}

// While a link is held nothing passes, neither what either side sends nor that it
// ends nor new connections; all of it passes when the link is mended.
func TestHold(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	early := make(chan string, 10) // what passed before
	passed := make(chan string, 10)
	pass := func(what string) {
		if !mended.Load() {
			early <- what
		}
		passed <- what
	}
	speak := make(chan struct{})
	target := serve(t, func(conn *net.TCPConn) {
		_, _ = conn.Write([]byte("welcome"))
		buf := make([]byte, 10)
		for {
			n, err := conn.Read(buf)
			switch what := string(buf[:n]); {
			case err != nil:
				pass("the end")
				return
			case what == "speak":
				<-speak
				_, _ = conn.Write([]byte("spoken"))
			case what == "echo":
				_, _ = conn.Write([]byte("echo"))
			default:
				pass(what)
			}
		}
	})
	held, sound := listen(t, target), listen(t, target)
	writer, ender, listener, other := welcomed(t, held), welcomed(t, held), welcomed(t, held), welcomed(t, sound)
	write(t, listener, "speak")

	held.Hold()
	close(speak)
	go func() {
		buf := make([]byte, 10)
		n, _ := listener.Read(buf)
		pass(string(buf[:n]))
	}()
	write(t, writer, "written")
	_ = ender.Close()
	write(t, dial(t, held), "new")
	for range 200 { // time enough for what should not pass
		write(t, other, "echo")
		read(t, other, "echo")
	}
	mended.Store(true)
	held.Mend()
	want := map[string]bool{"spoken": true, "written": true, "the end": true, "new": true}
	for len(want) > 0 {
		select {
		case what := <-passed:
			delete(want, what)
		case <-time.After(patience):
			t.Fatalf("%v did not pass when the link was mended", want)
		}
	}
	if len(early) > 0 {
		t.Errorf("%q passed while the link was held", <-early)
	}
}

// welcomed returns a connection that the server has taken.
func welcomed(t *testing.T, l *link.Link) *net.TCPConn {
	t.Helper()
	conn := dial(t, l)
	read(t, conn, "welcome")
	return conn
}

func write(t *testing.T, conn net.Conn, what string) {
	t.Helper()
	if _, err := conn.Write([]byte(what)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("read %q and %v, want %q", got, err, want)
	}
}

// A delay holds for each way, but not for each piece of what is sent, and ends
// with the mending even for what is on its way.
func TestDelay(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	conn := mustAsk(t, l)
	const delay = 50 * time.Millisecond
	l.Delay(delay)
	begun := time.Now()
	if err := ask(conn); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < 2*delay {
		t.Errorf("there and back took %s, want at least twice %s", took, delay)
	}

	l.Delay(time.Hour)
	for range 10 { // each read by the link alone, most likely
		write(t, conn, "word")
	}
	l.Mend()
	for range 10 {
		read(t, conn, "word")
	}
}

// Connections end after so many bytes to the server, or in place of its answer,
// once; new ones are taken.
func TestResets(t *testing.T) {
	t.Parallel()
	got := make(chan []byte, 10)
	l := listen(t, serve(t, func(conn *net.TCPConn) {
		buf := make([]byte, 100)
		n, _ := io.ReadAtLeast(conn, buf, 3)
		got <- buf[:n]
		_, _ = conn.Write(buf[:n])
		_, _ = io.Copy(conn, conn)
	}))
	tests := map[string]struct {
		ask  func()
		want string // what the server is told before the reset
	}{
		"after bytes": {ask: func() { l.ResetAfter(3) }, want: "wor"},
		"at answer":   {ask: l.ResetAtAnswer, want: "word"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.ask()
			if err := try(l); !isReset(err) {
				t.Errorf("%v, want a reset", err)
			}
			if told := string(<-got); told != tt.want {
				t.Errorf("the server was told %q, want %q", told, tt.want)
			}
			mustAsk(t, l)
			<-got
		})
	}
}

// A server that isn't there, or resets, is told as a reset too.
func TestNoServer(t *testing.T) {
	t.Parallel()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	rude := serve(t, func(conn *net.TCPConn) { _ = conn.SetLinger(0) })
	for name, target := range map[string]string{"no server": gone.Addr().String(), "a server that resets": rude} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := try(listen(t, target)); !isReset(err) {
				t.Errorf("%v, want a reset", err)
			}
		})
	}
}

// Close ends what waits, however the link fails.
func TestClose(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*link.Link){
		"sound": func(*link.Link) {},
		"held":  (*link.Link).Hold,
		"slow":  func(l *link.Link) { l.Delay(time.Hour) },
	}
	for name, fail := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			silent := serve(t, func(conn *net.TCPConn) {
				_, _ = conn.Write([]byte("welcome"))
				_, _ = io.Copy(io.Discard, conn)
			})
			l, err := link.Listen(silent)
			if err != nil {
				t.Fatal(err)
			}
			open := welcomed(t, l)
			fail(l)
			fresh := dial(t, l)
			write(t, open, "word")
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			for name, conn := range map[string]net.Conn{"open": open, "fresh": fresh} {
				if _, err := io.ReadAll(conn); !isReset(err) {
					t.Errorf("%s connection after the link was closed: %v, want a reset", name, err)
				}
			}
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed twice: %v, want %v", err, net.ErrClosed)
			}
		})
	}
}
