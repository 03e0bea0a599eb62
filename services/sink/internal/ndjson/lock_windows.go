package ndjson

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// lockFolder keeps other processes from writing to dir until the returned file
// is closed: it is open to nobody else. The system closes it when the process
// dies.
func lockFolder(dir string) (*os.File, error) {
	path := filepath.Join(dir, ".lock")
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	const shareNothing = 0
	h, err := syscall.CreateFile(name, syscall.GENERIC_WRITE, shareNothing, nil, syscall.OPEN_ALWAYS,
		syscall.FILE_ATTRIBUTE_NORMAL, 0)
	const sharingViolation syscall.Errno = 32
	if errors.Is(err, sharingViolation) {
		err = delivery.ErrHeld
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(h), path), nil
}

// unlockFolder ends what lockFolder began.
func unlockFolder(f *os.File) error { return f.Close() }

// syncFolder does nothing: the file system keeps names in a journal.
func syncFolder(*os.File) error { return nil }
