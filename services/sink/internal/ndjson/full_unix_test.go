//go:build unix

package ndjson_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/services/sink/internal/ndjson"
)

// fullDisk tells this program to run into a limit of the system's on the size
// of files, which fails in the middle of a write as a full disk does.
const fullDisk = "TERCEL_TEST_FULL_DISK"

func TestMain(m *testing.M) {
	if dir := os.Getenv(fullDisk); dir != "" {
		if err := fillDisk(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func fillDisk(dir string) error {
	signal.Ignore(syscall.SIGXFSZ) // writes past the limit fail instead
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	unlimited := limit
	f, err := ndjson.Open(context.Background(), ndjson.Config{Dir: dir, MaxSize: 1 << 20})
	if err != nil {
		return err
	}
	count := func(from, to int) (written, duplicates int) {
		for _, r := range f.Write(context.Background(), items(from, to)) {
			if r.Err == nil {
				written++
			}
			if r.Duplicate {
				duplicates++
			}
		}
		return written, duplicates
	}
	if n, _ := count(0, 10); n != 10 {
		return fmt.Errorf("%d of 10 written before the limit", n)
	}
	limit.Cur = 8000 // some 20 lines
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if n, _ := count(10, 50); n != 0 {
		return fmt.Errorf("%d of 40 acknowledged past the limit", n)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &unlimited); err != nil {
		return err
	}
	if n, duplicates := count(0, 50); n != 50 || duplicates != 10 {
		return fmt.Errorf("%d written, %d of them duplicates, want 50 and 10", n, duplicates)
	}
	return f.Close()
}

// Promise 5: a write that fails midway leaves nothing behind that could be
// taken for an acknowledged event, and the next one goes on cleanly.
func TestPromise5AFullDiskLeavesNothingHalf(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), fullDisk+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(read(t, name(dir, 1)), "\n"), "\n")
	for n, line := range lines {
		if !strings.Contains(line, fmt.Sprintf(`"evt-%05d"`, n)) || !jsontext.Value(line).IsValid() {
			t.Errorf("line %d is %s", n, line)
		}
	}
	if len(lines) != 50 {
		t.Errorf("%d lines, want 50", len(lines))
	}
}

// Promise 5: what can't be synced isn't acknowledged. The null device takes
// every write and refuses to be synced.
func TestPromise5WhatIsNotSyncedIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, dir, 1<<20)
	if err := os.Remove(name(dir, 1)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(os.DevNull, name(dir, 1)); err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(name(dir, 1), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := null.Sync(); err == nil {
		t.Skip("this system syncs its null device")
	}
	if err := f.Replace(null); err != nil {
		t.Fatal(err)
	}
	for i, r := range f.Write(t.Context(), items(0, 3)) {
		if r.Err == nil {
			t.Errorf("item %d was acknowledged", i)
		}
	}
}
