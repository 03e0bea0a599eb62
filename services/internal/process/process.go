// Package process runs programs that are made to fail: started, killed, paused,
// stopped and started again, and measured meanwhile. Tests of the whole pipeline,
// the fault suite and benchmarks share it. It needs Linux.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// Process is a program that may be started many times, one run after the other.
// Set the exported fields before the first start. Its methods are safe for
// concurrent use.
type Process struct {
	// Path is the program's file, Args are its arguments.
	Path string
	Args []string
	// Env are variables beside those of the parent, as NAME=VALUE.
	Env []string
	// Dir is the folder to run in. Defaults to the parent's.
	Dir string
	// Log is the file that both outputs are appended to, in a folder that exists.
	Log string
	// Ready is nil when the program is ready, see [Listens] and [Answers].
	// Defaults to ready as soon as it runs.
	Ready func(context.Context) error

	mu     sync.Mutex    // guards what follows
	cmd    *exec.Cmd     // nil before the first start
	exited chan struct{} // closed when cmd has ended
	err    error         // how it ended; read it after exited
}

// ErrNotRunning is returned for a program that was not started, or has ended.
var ErrNotRunning = errors.New("not running")

// Name is the base name of the program's file.
func (p *Process) Name() string { return filepath.Base(p.Path) }

// Launch starts the program and doesn't wait for it. It is killed when this
// process ends, however that happens.
func (p *Process) Launch() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return fmt.Errorf("start %s: it runs already", p.Name())
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name(), err)
	}
	defer func() { _ = log.Close() }() // the program has its own
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env, cmd.Dir = append(os.Environ(), p.Env...), p.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name(), err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited, p.err = cmd, exited, nil
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.err = err // no other run can have begun
		close(exited)
	}()
	return nil
}

// Start starts the program and waits until it is ready or ctx ends.
func (p *Process) Start(ctx context.Context) error {
	if err := p.Launch(); err != nil {
		return err
	}
	return p.AwaitReady(ctx)
}

// AwaitReady waits until the program is ready. It returns an error with the end
// of its log when it has ended, or when ctx ends before.
func (p *Process) AwaitReady(ctx context.Context) error {
	gone, cancel := context.WithCancel(ctx)
	defer cancel()
	exited := p.ended()
	go func() {
		select {
		case <-exited:
			cancel()
		case <-gone.Done():
		}
	}()
	err := Await(gone, func(ctx context.Context) error {
		if p.Ready == nil {
			return nil
		}
		return p.Ready(ctx)
	})
	select {
	case <-exited:
		return fmt.Errorf("%s has ended: %w\n%s", p.Name(), errors.Join(p.exit(), err), p.Output())
	default:
	}
	if err != nil {
		return fmt.Errorf("%s is not ready: %w\n%s", p.Name(), err, p.Output())
	}
	return nil
}

// Kill ends the program as a crash would, and returns when it is gone. It does
// nothing to one that has ended.
func (p *Process) Kill() {
	if p.Signal(syscall.SIGKILL) == nil {
		<-p.ended()
	}
}

// Stop asks the program to end and returns when it has, with an error unless it
// did so by itself and well. It is killed when ctx ends before.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", p.Name(), err)
	}
	select {
	case <-p.ended():
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("%s did not end after SIGTERM: %w\n%s", p.Name(), ctx.Err(), p.Output())
	}
	if err := p.exit(); err != nil {
		return fmt.Errorf("%s after SIGTERM: %w\n%s", p.Name(), err, p.Output())
	}
	return nil
}

// Pause makes the program stand still, with its connections open, until
// [Process.Resume].
func (p *Process) Pause() error { return p.Signal(syscall.SIGSTOP) }

// Resume lets a paused program go on.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }

// PID is the id of the running program, or 0.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0
	}
	return p.cmd.Process.Pid
}

// Output is the end of what the program has written, in all its runs.
func (p *Process) Output() string {
	const enough = 8_000
	b, _ := os.ReadFile(p.Log)
	return string(b[max(0, len(b)-enough):])
}

// Signal sends the running program a signal.
func (p *Process) Signal(s os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return ErrNotRunning
	}
	return p.cmd.Process.Signal(s)
}

// running tells whether there is a run that has not been seen to end. p.mu is
// held.
func (p *Process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// ended is closed when the current run has ended.
func (p *Process) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exited == nil {
		none := make(chan struct{})
		close(none)
		return none
	}
	return p.exited
}

// exit is how the last run ended.
func (p *Process) exit() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return ErrNotRunning
	}
	return p.err
}
