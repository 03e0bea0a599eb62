// Package disk makes file systems of a test's or a fault's own, whose disk can be
// full or lose power under the programs that write to it.
//
// A [Disk] is ext4 on a loop device over an image file. Its power is cut by the
// kernel's own means of shutting a file system down at once (EXT4_IOC_SHUTDOWN
// without a flush of the journal, as xfstests does it): nothing that had not got
// to the device by then ever does, and when the file system is mounted again its
// journal is replayed as after a real power cut. What a program had synced is
// there, what it had only written isn't, unless the kernel had happened to write
// it back. The journal is committed on demand only, rather than every five
// seconds, so that little survives by luck.
//
// What this doesn't show is a disk that lies: whatever reached the loop device is
// kept, whether the kernel had asked for it to be flushed or not.
//
// It needs Linux, root's right to mount, loop devices and mkfs.ext4; [Possible]
// says whether they are there.
package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// MinSize is the least size of a disk, in bytes: a smaller one has no journal.
const MinSize = 16 << 20

// Disk is a mounted file system. Its methods are for one goroutine.
type Disk struct {
	image, path string
	// keeper is a process that unmounts the disk when this one has ended, however
	// it did; it learns that from the end of its input.
	keeper *exec.Cmd
	alive  io.Closer
}

// Possible returns nil where disks can be made, used and unmade, and otherwise
// why not. It tries it, the first time.
var Possible = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "tercel-disk-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d, err := New(dir, MinSize)
	if err != nil {
		return fmt.Errorf("no file system of one's own: %w", err)
	}
	if err := errors.Join(d.Cut(), d.Restore(), d.Close()); err != nil {
		return fmt.Errorf("no power cut: %w", err)
	}
	return nil
})

// New makes an empty file system of size bytes, with its image and the folder
// where it is mounted in dir. Close it; if the process ends before, it is unmounted
// all the same. The image takes only the space of what is written.
func New(dir string, size int64) (*Disk, error) {
	root, err := os.MkdirTemp(dir, "disk-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(root, 0o711); err != nil { // so that any user's programs get to it
		return nil, err
	}
	d := &Disk{image: filepath.Join(root, "image"), path: filepath.Join(root, "mounted")}
	if err := d.make(size); err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	if err := d.keep(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	if err := d.mount(); err != nil {
		return nil, errors.Join(err, d.dismiss())
	}
	if err := os.Remove(filepath.Join(d.path, "lost+found")); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Disk) make(size int64) error {
	if err := errors.Join(os.Mkdir(d.path, 0o755), os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, size)); err != nil {
		return err
	}
	// Without blocks that only root may fill: programs may run as root.
	return run("mkfs.ext4", "-q", "-F", "-b", strconv.Itoa(blockSize), "-m", "0", d.image)
}

const blockSize = 4096

// keeping is what a keeper does: it waits for the end of its input and removes
// what is left. It must not be stopped by what stops this process.
const keeping = `trap '' INT TERM HUP QUIT; read -r _; umount -l "$1/mounted" 2>/dev/null; rmdir "$1/mounted" && rm -f "$1/image" && rmdir "$1"`

func (d *Disk) keep() error {
	d.keeper = exec.Command("sh", "-c", keeping, "sh", filepath.Dir(d.path))
	in, err := d.keeper.StdinPipe()
	if err != nil {
		return err
	}
	d.alive = in
	return d.keeper.Start()
}

// dismiss has the keeper do its work, and waits for it.
func (d *Disk) dismiss() error {
	return errors.Join(d.alive.Close(), d.keeper.Wait())
}

// mount replays the journal, if there is need.
func (d *Disk) mount() error {
	// The loop device goes away with the mount.
	return run("mount", "-t", "ext4", "-o", "loop,commit=3600", d.image, d.path)
}

// unmountWithin is how long a file system may be busy with programs that end.
const unmountWithin = 5 * time.Second

func (d *Disk) unmount() error {
	for deadline := time.Now().Add(unmountWithin); ; time.Sleep(20 * time.Millisecond) {
		err := run("umount", d.path)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// Path is the folder where the file system is mounted.
func (d *Disk) Path() string { return d.path }

// Cut cuts the power: from now on nothing gets to the disk, and every call fails
// with an I/O error. To cut the power of several disks, or to have no program act
// on such an error, stop the programs first (SIGSTOP) and kill them after.
func (d *Disk) Cut() error {
	if err := shutDown(d.path); err != nil {
		return fmt.Errorf("cut the power of %s: %w", d.path, err)
	}
	return nil
}

// Restore mounts the file system again after [Disk.Cut]. The programs that had
// files open on it must have ended; they are waited for a few seconds.
func (d *Disk) Restore() error { return errors.Join(d.unmount(), d.mount()) }

// ballast is the file that fills a disk.
const ballast = "ballast"

// Fill takes all space that is left.
func (d *Disk) Fill() error {
	f, err := os.OpenFile(filepath.Join(d.path, ballast), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(allocateAll(f), f.Close())
}

// Release gives the space back that [Disk.Fill] took.
func (d *Disk) Release() error { return os.Remove(filepath.Join(d.path, ballast)) }

// Close unmounts the file system and removes it. If a program still uses it, that
// is an error; it then goes away with the program.
func (d *Disk) Close() error { return errors.Join(d.unmount(), d.dismiss()) }

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
