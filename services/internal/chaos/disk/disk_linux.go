package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// The kernel's way to shut a file system down, from fs/ext4/ext4.h of Linux 6.18:
// EXT4_IOC_SHUTDOWN is _IOR('X', 125, __u32).
const (
	iocShutdown       = 0x8004587d
	shutdownNoLogging = 2 // EXT4_GOING_FLAGS_NOLOGFLUSH
)

// shutDown ends the file system that path is the root of, as it is on its device.
func shutDown(path string) error {
	root, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.IoctlSetPointerInt(int(root.Fd()), iocShutdown, shutdownNoLogging), root.Close())
}

// allocateAll makes f take all free blocks, without writing to them.
func allocateAll(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	end := info.Size()
	for size := int64(1 << 30); size >= blockSize; {
		switch err := unix.Fallocate(int(f.Fd()), 0, end, size); {
		case err == nil:
			end += size
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
	return nil
}
