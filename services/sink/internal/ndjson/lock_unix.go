//go:build unix

package ndjson

import (
	"errors"
	"os"
	"syscall"

	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// lockFolder opens dir and keeps other processes from writing to it until the
// returned file is given to unlockFolder. The system releases it when the process dies.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = delivery.ErrHeld
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// unlockFolder ends what lockFolder began. Closing alone would leave the lock to a
// child that is being started at the moment and still has all open files.
func unlockFolder(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// syncFolder writes the names in the folder to disk.
func syncFolder(dir *os.File) error { return dir.Sync() }
