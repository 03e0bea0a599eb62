package disk_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/chaos/disk"
)

// newDisk makes a disk for a test, which is skipped where none can be made.
func newDisk(t *testing.T) *disk.Disk {
	t.Helper()
	if err := disk.Possible(); err != nil {
		t.Skip(err)
	}
	d, err := disk.New(t.TempDir(), disk.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// write writes text to a file, and syncs it or not.
type write struct {
	how        func(name, text string) error
	file, text string
}

// appended writes as nats-server does to its blocks of messages.
func appended(name, text string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// unsynced writes as it does when it isn't told to sync.
func unsynced(name, text string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// replaced writes as it does its states and settings.
func replaced(name, text string) error {
	f, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_SYNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close(), os.Rename(name+".tmp", name)); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// What was synced before the power was cut is there after it, in files that are
// new, longer or replaced, and what was not is gone.
func TestAPowerCutKeepsWhatWasSyncedAndNothingElse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		writes []write
		want   map[string]string
	}{
		"a synced file is kept": {
			[]write{{appended, "a", "1"}, {appended, "a", "2"}},
			map[string]string{"a": "12"},
		},
		"what was added later is gone": {
			[]write{{appended, "a", "1"}, {unsynced, "a", strings.Repeat("2", 100_000)}},
			map[string]string{"a": "1"},
		},
		"a sync is of all of the file": {
			[]write{{unsynced, "a", "1"}, {appended, "a", "2"}},
			map[string]string{"a": "12"},
		},
		"a replaced file is kept": {
			[]write{{replaced, "a", "1"}, {replaced, "a", "2"}},
			map[string]string{"a": "2"},
		},
		"a new file is gone": {
			[]write{{appended, "a", "1"}, {unsynced, "b", "2"}},
			map[string]string{"a": "1"},
		},
		"so is a large one": {
			[]write{{unsynced, "b", strings.Repeat("2", 4<<20)}},
			map[string]string{},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDisk(t)
			for cut := range 3 { // what a cut has left is cut again
				dir := filepath.Join(d.Path(), fmt.Sprint(cut))
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				for _, w := range tt.writes {
					if err := w.how(filepath.Join(dir, w.file), w.text); err != nil {
						t.Fatal(err)
					}
				}
				cutAndRestore(t, d)
				if got := contents(t, dir); fmt.Sprint(got) != fmt.Sprint(tt.want) {
					t.Errorf("after cut %d there is %.100q, want %.100q", cut, got, tt.want)
				}
			}
		})
	}
}

func cutAndRestore(t *testing.T, d *disk.Disk) {
	t.Helper()
	if err := d.Cut(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Path(), "late"), nil, 0o600); !errors.Is(err, syscall.EIO) {
		t.Errorf("a write without power gives %v, want an I/O error", err)
	}
	if err := d.Restore(); err != nil {
		t.Fatal(err)
	}
}

// contents are the files of a folder, which may be gone.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(text)
	}
	return all
}

// A full disk refuses the smallest write, and takes it when there is room again.
// What it had is there.
func TestAFullDiskTakesNothing(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	name := filepath.Join(d.Path(), "a")
	if err := appended(name, strings.Repeat("1", 4096)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Fill(); err != nil {
			t.Fatal(err)
		}
		if err := appended(name, "2"); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a write to a full disk gives %v, want no space left", err)
		}
		if err := d.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if err := appended(name, "3"); err != nil {
		t.Errorf("a write when there is room again: %v", err)
	}
	if got, want := contents(t, d.Path()), strings.Repeat("1", 4096)+"3"; got["a"] != want {
		t.Errorf("the file has %d bytes, want %d", len(got["a"]), len(want))
	}
}

// A disk goes away with the process that made it, however that ends.
func TestADiskGoesAwayWithItsProcess(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("DISK_TEST_DIR"); dir != "" { // the process
		d, err := disk.New(dir, disk.MinSize)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(d.Path())
		select {}
	}
	if err := disk.Possible(); err != nil {
		t.Skip(err)
	}
	for name, sig := range map[string]syscall.Signal{"interrupted": syscall.SIGINT, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cmd := exec.Command(os.Args[0], "-test.run", "^TestADiskGoesAwayWithItsProcess$")
			cmd.Env = append(os.Environ(), "DISK_TEST_DIR="+dir)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			path := strings.TrimSpace(line)
			if !mounted(t, path) {
				t.Errorf("%q, %v: nothing is mounted there", line, err)
			}
			_ = cmd.Process.Signal(sig)
			_ = cmd.Wait()
			over := time.After(time.Minute)
			for gone := false; !gone; {
				left, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				gone = len(left) == 0 && !mounted(t, path)
				select {
				case <-time.After(10 * time.Millisecond):
				case <-over:
					t.Fatalf("a minute later %s is mounted: %t; there is %v", path, mounted(t, path), left)
				}
			}
		})
	}
}

// mounted reports whether something is mounted at path.
func mounted(t *testing.T, path string) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), " "+path+" ")
}

// The disk of a process that uses it still is closed all the same.
func TestABusyDiskIsClosed(t *testing.T) {
	t.Parallel()
	if err := disk.Possible(); err != nil {
		t.Skip(err)
	}
	d, err := disk.New(t.TempDir(), disk.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(d.Path(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := d.Close(); err == nil {
		t.Error("a disk in use was closed without an error")
	}
	if mounted(t, d.Path()) {
		t.Error("it is mounted still")
	}
}
