// Package natstest runs a real JetStream server inside a test.
package natstest

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/freeport"
)

// Server is a JetStream server with its own store in a temporary folder. It
// listens on a free loopback port and ends with the test.
type Server struct {
	t    testing.TB
	opts server.Options
	srv  *server.Server

	mu    sync.Mutex // guards conns
	conns []*nats.Conn
}

// Start starts a server. sync makes it write every message to disk before it
// is acknowledged, as production does.
func Start(t testing.TB, sync bool) *Server {
	t.Helper()
	s := newServer(t, sync)
	s.Resume()
	t.Cleanup(s.Stop)
	return s
}

func newServer(t testing.TB, sync bool) *Server {
	t.Helper()
	return &Server{t: t, opts: server.Options{
		Host: "127.0.0.1", Port: freePort(t), NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: storeDir(t), SyncAlways: sync,
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 2 << 30,
	}}
}

func freePort(t testing.TB) int {
	t.Helper()
	port, err := freeport.Find()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// storeDir makes a folder that is removed with the test. That of testing.TB
// would be removed at one go: a server that was waited for may still write what
// was sent to it before it ended.
func storeDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "natstest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var err error
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
			if err = os.RemoveAll(dir); err == nil {
				return
			}
		}
		t.Errorf("remove the server's folder: %v", err)
	})
	return dir
}

// Name is the server's name, as a stream's information gives its leader.
func (s *Server) Name() string { return s.srv.Name() }

// URL is where clients connect. It stays the same over Stop and Resume.
func (s *Server) URL() string { return s.srv.ClientURL() }

// StoreDir is where the server keeps its streams. Copied while the server is
// stopped, and put back, it is what a power cut leaves.
func (s *Server) StoreDir() string { return s.opts.StoreDir }

// RequireToken makes the server refuse, from the next Resume on, whoever
// connects without token; Connect is among them.
func (s *Server) RequireToken(token string) { s.opts.Authorization = token }

// Stop ends the server and waits until it is down, and until the connections that
// Connect opened have noticed: what is sent from then on is kept for Resume, after
// which they reconnect, while what is sent into a dead connection is lost.
func (s *Server) Stop() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, nc := range s.conns {
		for deadline := time.Now().Add(time.Minute); nc.IsConnected(); <-time.After(time.Millisecond) {
			if time.Now().After(deadline) {
				s.t.Error("nats server: a connection lives on a minute after its end")
				return
			}
		}
	}
}

// Resume starts the server again on the same port with the same store.
func (s *Server) Resume() {
	s.t.Helper()
	opts := s.opts
	srv, err := server.NewServer(&opts)
	if err != nil {
		s.t.Fatalf("nats server: %v", err)
	}
	said := &said{}
	srv.SetLoggerV2(said, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(time.Minute) {
		s.t.Fatalf("nats server: not ready within a minute, it says: %q", said.all())
	}
	s.srv, s.opts.Port = srv, opts.Port
}

// said is what the server says of itself that it can't do.
type said struct {
	mu    sync.Mutex // guards texts
	texts []string
}

func (s *said) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.texts)
}

// Errorf keeps an error.
func (s *said) Errorf(format string, v ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts = append(s.texts, fmt.Sprintf(format, v...))
}

// Fatalf keeps why the server can't go on. It returns, and so does the server.
func (s *said) Fatalf(format string, v ...any) { s.Errorf(format, v...) }

// Warnf, Noticef, Debugf and Tracef are of no interest here.
func (*said) Warnf(string, ...any) {}

func (*said) Noticef(string, ...any) {}

func (*said) Debugf(string, ...any) {}

func (*said) Tracef(string, ...any) {}

// Lose makes the server lose whatever is sent to subject from now on, until Stop: who
// asks there waits in vain, as for an answer that went away with its leader.
func (s *Server) Lose(subject string) {
	s.t.Helper()
	const lost = "natstest.lost"
	nc := s.Connect() // somebody has to listen, or the server says that nobody does
	_, err := nc.Subscribe(lost, func(*nats.Msg) {})
	if err == nil {
		err = nc.Flush()
	}
	if err == nil {
		err = s.srv.GlobalAccount().AddMapping(subject, lost)
	}
	if err != nil {
		s.t.Fatalf("lose %s: %v", subject, err)
	}
}

// Connect opens a connection that ends with the test and keeps reconnecting
// meanwhile.
func (s *Server) Connect() *nats.Conn {
	s.t.Helper()
	nc := connect(s.t, s.URL())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, nc)
	return nc
}

func connect(t testing.TB, urls string) *nats.Conn {
	t.Helper()
	// On a machine that is busy with other tests two seconds, the default, may be too few.
	nc, err := nats.Connect(urls, nats.Timeout(30*time.Second), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Patient has requests wait for as long as a loaded machine may take, and not so
// long that one which is lost with its server takes up all of a test's patience.
func Patient() jetstream.JetStreamOpt { return jetstream.WithDefaultTimeout(20 * time.Second) }

// Run starts a server and returns a JetStream context on it: what most tests
// need.
func Run(t testing.TB) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(Start(t, false).Connect(), Patient())
	if err != nil {
		t.Fatalf("jetstream: %v", err)
	}
	return js
}
