// Package freeport finds ports for servers that tests and benchmarks start, stop
// and start again.
//
// A port that the system chose is no good for that: while its server is down the
// system may give it to somebody else, even to an outgoing connection.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// Systems choose from 32768 (Linux) or 49152 upwards; what is known by a fixed
// port mostly stands below 10000.
const lowest, beyond = 10000, 32768

// given are the ports that this process has been given, each with its lock.
var given sync.Map

// Find returns a port of 127.0.0.1 that nobody listens on, that no system gives
// to those who ask for any, and that is given to no one else as long as this process
// runs, whether it listens there or not. It is safe for concurrent use.
func Find() (int, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprint("tercel-ports-", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("free port: %w", err)
	}
	for range 1000 {
		port := lowest + rand.IntN(beyond-lowest)
		if _, taken := given.LoadOrStore(port, nil); taken {
			continue
		}
		lock, err := reserve(filepath.Join(dir, strconv.Itoa(port)))
		if err != nil {
			return 0, fmt.Errorf("free port: %w", err)
		}
		if lock == nil {
			continue // another process was given it
		}
		given.Store(port, lock) // an open file keeps its lock, and one that nothing holds is closed
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port found")
}

// Addr is [Find] as an address to listen on.
func Addr() (string, error) {
	port, err := Find()
	return fmt.Sprint("127.0.0.1:", port), err
}

// reserve locks a file until the process ends, or returns nil if another has it.
func reserve(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, f.Close()
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	return f, nil
}
