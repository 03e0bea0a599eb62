// Package pgtest runs PostgreSQL servers of a test's or a benchmark's own, on
// loopback, and lets them fail: killed, hanging, or behind a [link.Link] that
// cuts connections.
//
// It needs the server's programs, which Debian's package postgresql installs.
package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/tercelhq/tercel/pkg/freeport"
)

// Superuser is the user that owns the server, and Database a database that is
// always there. No password is asked.
const (
	Superuser = "tercel"
	Database  = "postgres"
)

// Server is a running PostgreSQL server. Its methods are for one goroutine.
type Server struct {
	bin, dir, addr string
	cred           *syscall.Credential
	settings       []string

	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has ended
}

// ErrNoPrograms is returned by [Launch] where PostgreSQL isn't installed.
var ErrNoPrograms = errors.New("the programs of a PostgreSQL server are missing (Debian: postgresql)")

// Launch makes a database cluster in a temporary folder and runs a server on
// it, with settings such as "fsync=off". Stop it.
func Launch(settings ...string) (*Server, error) { return LaunchIn("", settings...) }

// LaunchIn is [Launch] with a folder that the temporary one is made in, which the
// user postgres must be let through to. "" is the usual one.
func LaunchIn(parent string, settings ...string) (*Server, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		path, err := exec.LookPath("initdb")
		if err != nil {
			return nil, ErrNoPrograms
		}
		found = append(found, path)
	}
	dir, err := os.MkdirTemp(parent, "tercel-pg-")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: filepath.Dir(found[len(found)-1]), dir: dir, settings: settings}
	if err := s.launch(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

func (s *Server) launch() error {
	var err error
	if s.cred, err = owner(s.dir); err != nil {
		return err
	}
	initdb := exec.Command(filepath.Join(s.bin, "initdb"), "-D", s.data(), "-A", "trust", "-U", Superuser, "--no-sync", "-E", "UTF8")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	initdb.Dir = s.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if s.addr, err = freeport.Addr(); err != nil {
		return err
	}
	return s.Start()
}

// owner is whom the server runs as: it refuses root.
func owner(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("the user that PostgreSQL runs as, instead of root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Addr is the server's host and port. It stays the same over restarts.
func (s *Server) Addr() string { return s.addr }

// PID is the process id of the server's first process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// URL is a connection string for a user and database; addr stands for the
// server's own address unless it is "".
func (s *Server) URL(user, database, addr string) string {
	if addr == "" {
		addr = s.addr
	}
	u := url.URL{Scheme: "postgres", User: url.User(user), Host: addr, Path: "/" + database}
	return u.String()
}

// Start runs the server again after [Server.Kill] and waits until it answers,
// after it has recovered what it must.
func (s *Server) Start() error {
	for deadline := time.Now().Add(time.Minute); ; {
		err := s.run()
		// A killed server's processes may need a moment to notice.
		if err == nil || !bytes.Contains(s.tail(), []byte("still in use")) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *Server) run() error {
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	args := []string{
		"-D", s.data(), "-p", port,
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=" + s.dir, "-c", "max_connections=200",
	}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	// Of this run, but the last one's processes may still tell of their end: behind
	// what stands there, and not where they were in the file that it was.
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	s.cmd = exec.Command(filepath.Join(s.bin, "postgres"), args...)
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.Dir = log, log, s.dir
	// A test that is killed takes its server along.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Pdeathsig: syscall.SIGQUIT}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) { _ = cmd.Wait(); close(exited) }(s.cmd, s.exited)
	return s.awaitReady(port)
}

// awaitReady waits until the server answers: it takes connections before.
func (s *Server) awaitReady(port string) error {
	for deadline := time.Now().Add(time.Minute); ; {
		if exec.Command(filepath.Join(s.bin, "pg_isready"), "-q", "-h", "127.0.0.1", "-p", port, "-U", Superuser, "-d", Database).Run() == nil {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("postgres ended at its start:\n%s", s.tail())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("postgres is not ready within a minute:\n%s", s.tail()), s.Kill())
		}
	}
}

func (s *Server) log() string { return filepath.Join(s.dir, "log") }

// tail is the end of what the server has written.
func (s *Server) tail() []byte {
	b, _ := os.ReadFile(s.log())
	return b[max(0, len(b)-4000):]
}

// Kill ends the server as a crash would, and waits until it is gone. Its other
// processes notice and end too; what was committed is recovered at the next
// start.
func (s *Server) Kill() error {
	_ = s.cmd.Process.Kill()
	return s.await()
}

// Stop asks the server to cancel what it does and to end, and removes its
// folder.
func (s *Server) Stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGINT)
	return errors.Join(s.await(), os.RemoveAll(s.dir))
}

func (s *Server) await() error {
	select {
	case <-s.exited:
		return nil
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill()
		return errors.New("postgres did not end within a minute")
	}
}
