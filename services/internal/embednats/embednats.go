// Package embednats runs a JetStream server inside the process, for tercel up
// and tercel demo.
package embednats

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/topology"
)

// urlFile is where a listening server leaves its address and token, for the
// commands that come to look into the running pipeline.
const urlFile = "nats.url"

// Config is how the server runs.
type Config struct {
	// Dir keeps the streams. It is made if it doesn't exist; one process at a
	// time may use it.
	Dir string
	// Listen is a loopback address for other processes, such as
	// 127.0.0.1:4222; port 0 takes a free one. "" means that only this process
	// can connect.
	Listen string
	// Durability says whether every message is on disk before it is
	// acknowledged.
	Durability topology.Durability
	// Log is told of the server's errors and warnings. Defaults to none.
	Log *slog.Logger
}

// Server is a running server.
type Server struct {
	srv   *server.Server
	lock  *os.File
	token string // that connections need, or "" when nobody else can connect
	url   string
	file  string
}

// Start starts a server and waits until it takes connections. The error says
// what to do when the folder or the port is taken.
func Start(cfg Config) (*Server, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, file: filepath.Join(cfg.Dir, urlFile)}
	opts := &server.Options{
		ServerName: "tercel", DontListen: cfg.Listen == "", NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: cfg.Dir, SyncAlways: cfg.Durability == topology.Synced,
		// The server would take three quarters of the machine's memory.
		JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: -1,
	}
	if cfg.Listen != "" {
		if err := listenOn(opts, cfg.Listen); err != nil {
			return nil, errors.Join(err, lock.Close())
		}
	}
	if s.srv, err = server.NewServer(opts); err != nil {
		return nil, errors.Join(fmt.Errorf("embedded nats server: %w", err), lock.Close())
	}
	said := &said{log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))}
	s.srv.SetLoggerV2(said, false, false, false)
	s.srv.Start()
	if err := said.end(); err != nil {
		s.Shutdown()
		return nil, fmt.Errorf("embedded nats server: %w", err)
	}
	if !s.srv.ReadyForConnections(time.Minute) {
		s.Shutdown()
		return nil, fmt.Errorf("embedded nats server: not ready within a minute; is the disk of %s full or slow?%s", cfg.Dir, said.last())
	}
	if cfg.Listen != "" {
		s.token = opts.Authorization
		s.url = strings.Replace(s.srv.ClientURL(), "://", "://"+s.token+"@", 1)
		if err := os.WriteFile(s.file, []byte(s.url+"\n"), 0o600); err != nil {
			s.Shutdown()
			return nil, fmt.Errorf("leave the server's address: %w", err)
		}
	}
	return s, nil
}

// listenOn fills in where the server listens: on loopback only, and for those
// who can read the data folder only.
func listenOn(opts *server.Options, listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("nats address %q: want HOST:PORT", listen)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("nats address %q: the embedded server listens on loopback only, such as 127.0.0.1:4222; run a NATS server of its own to share it", listen)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("nats address %q: want a port number, 0 to 65535", listen)
	}
	if opts.Port = int(number); opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	} else {
		// The server would say that it could not listen, but not what to do.
		probe, err := net.Listen("tcp", listen)
		if err != nil {
			return fmt.Errorf("nats address %s is taken (%w); choose another with --nats-listen", listen, err)
		}
		_ = probe.Close()
	}
	opts.Host, opts.Authorization = host, rand.Text()
	return nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("data folder %s is in use by another process; choose another with --data", dir), f.Close())
	}
	return f, nil
}

// URL is where other processes connect, its token included, or "".
func (s *Server) URL() string { return s.url }

// Options make nats.Connect connect to the server without a network.
func (s *Server) Options() []nats.Option {
	opts := []nats.Option{nats.InProcessServer(s.srv)}
	if s.token != "" {
		opts = append(opts, nats.Token(s.token))
	}
	return opts
}

// Shutdown ends the server and waits until its streams are closed.
func (s *Server) Shutdown() {
	if s.srv != nil {
		s.srv.Shutdown()
		s.srv.WaitForShutdown()
	}
	_ = os.Remove(s.file)
	_ = s.lock.Close()
}

// FindURL returns the address of a server that runs on dir, if there is one.
func FindURL(dir string) (string, bool) {
	b, err := os.ReadFile(filepath.Join(dir, urlFile))
	if err != nil {
		return "", false
	}
	return strings.TrimSpace(string(b)), true
}
