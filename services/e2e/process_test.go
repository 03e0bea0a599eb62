package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/freeport"
)

// process is a program that a test runs, stops, kills and starts again.
type process struct {
	t      *testing.T
	name   string
	args   []string
	env    []string
	dir    string       // to run in; "" is the folder of the tests
	suffix string       // of the log's name, for several of one program
	ready  func() error // nil when the program is ready, see answers and listens
	log    string

	cmd    *exec.Cmd
	exited chan error // receives the exit, buffered
}

// start starts the program and waits until it is ready. It is killed when the
// test ends.
func (p *process) start() {
	p.t.Helper()
	p.log = filepath.Join(logDir(p.t), filepath.Base(p.name)+p.suffix+".log")
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(p.name, p.args...)
	p.cmd.Env, p.cmd.Dir = append(os.Environ(), p.env...), p.dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A test that is killed takes its programs along.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	_ = log.Close()
	p.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) { exited <- cmd.Wait() }(p.cmd, p.exited)
	p.t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	eventually(p.t, time.Minute, filepath.Base(p.name)+" is ready", func() error {
		select {
		case err := <-p.exited:
			p.exited <- err
			p.t.Fatalf("%s ended at its start: %v\n%s", p.name, err, p.output())
		default:
		}
		return p.ready()
	})
}

// kill ends the program as a crash would, and waits until it is gone.
func (p *process) kill() {
	p.t.Helper()
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// stop asks the program to end and checks that it does so by itself and well.
func (p *process) stop() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.exited:
		if err != nil {
			p.t.Errorf("%s after SIGTERM: %v\n%s", p.name, err, p.output())
		}
	case <-time.After(time.Minute):
		p.t.Errorf("%s did not end within a minute of SIGTERM\n%s", p.name, p.output())
	}
}

// output is the end of what the program has written.
func (p *process) output() string {
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-8_000):])
}

// logDir keeps the programs' logs of a test, until it has passed.
func logDir(t *testing.T) string {
	dir := filepath.Join(os.TempDir(), "tercel-e2e-logs", t.Name())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.RemoveAll(dir)
		}
	})
	return dir
}

// listens is ready when addr takes connections.
func listens(addr string) func() error {
	return func() error {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// answers is ready when url answers 200.
func answers(url string) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		_, _ = body.ReadFrom(resp.Body)
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", resp.Status, body.String())
		}
		return nil
	}
}

// eventually waits for a condition, in steps that grow to a second.
func eventually(t *testing.T, within time.Duration, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %v", within, what, err)
		}
		select {
		case <-time.After(pause):
		case <-t.Context().Done():
			t.Fatal(errors.Join(t.Context().Err(), err))
		}
	}
}

// freePort returns the address of a loopback port for a program to listen on.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := freeport.Find()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint("127.0.0.1:", port)
}
