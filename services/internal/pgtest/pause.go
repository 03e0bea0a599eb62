package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Pause makes the whole server stand still, with its connections open, until
// [Server.Resume]. It needs Linux.
func (s *Server) Pause() error {
	// The first process first: it can't start another then.
	if err := s.signal(syscall.SIGSTOP, s.PID()); err != nil {
		return err
	}
	return s.signalChildren(syscall.SIGSTOP)
}

// Resume lets a paused server go on.
func (s *Server) Resume() error {
	return errors.Join(s.signalChildren(syscall.SIGCONT), s.signal(syscall.SIGCONT, s.PID()))
}

func (s *Server) signalChildren(sig syscall.Signal) error {
	pids, err := s.children()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		err = errors.Join(err, s.signal(sig, pid))
	}
	return err
}

// signal sends a signal to one of the server's processes, unless it has ended.
func (*Server) signal(sig syscall.Signal, pid int) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %d to process %d of postgres: %w", sig, pid, err)
	}
	return nil
}

// children are the processes that the first one has started (proc_pid_stat(5)).
func (s *Server) children() (pids []int, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	parent := []byte(strconv.Itoa(s.PID()))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// The name, in brackets, may have any character.
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if len(fields) < 2 || !bytes.Equal(fields[1], parent) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
