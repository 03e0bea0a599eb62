package e2e_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/freeport"
	proc "github.com/tercelhq/tercel/services/internal/process"
)

// process is a program that a test runs, stops, kills and starts again. A test
// that is killed takes its programs along.
type process struct {
	t      *testing.T
	name   string
	args   []string
	env    []string
	dir    string       // to run in; "" is the folder of the tests
	suffix string       // of the log's name, for several of one program
	ready  func() error // nil when the program is ready, see answers and listens
	log    string

	run *proc.Process // the latest run
}

// start starts the program and waits until it is ready. It is killed when the
// test ends.
func (p *process) start() {
	p.t.Helper()
	p.log = filepath.Join(logDir(p.t), filepath.Base(p.name)+p.suffix+".log")
	run := &proc.Process{
		Path: p.name, Args: p.args, Env: p.env, Dir: p.dir, Log: p.log,
		Ready: func(context.Context) error { return p.ready() },
	}
	p.run = run
	p.t.Cleanup(run.Kill)
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	if err := run.Start(ctx); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the program as a crash would, and waits until it is gone.
func (p *process) kill() { p.run.Kill() }

// stop asks the program to end and checks that it does so by itself and well.
func (p *process) stop() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.run.Stop(ctx); err != nil {
		p.t.Error(err)
	}
}

// output is the end of what the program has written.
func (p *process) output() string { return p.run.Output() }

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
	return func() error { return proc.Listens(addr)(context.Background()) }
}

// answers is ready when url answers 200.
func answers(url string) func() error {
	return func() error { return proc.Answers(url)(context.Background()) }
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

// freeAddr returns an address for a program to listen on.
func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
