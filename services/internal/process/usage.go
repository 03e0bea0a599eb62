package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a running program takes.
type Usage struct {
	// Memory is what it has in memory now, Peak the most that it ever had, in
	// bytes.
	Memory, Peak int64
	// CPU is the processor time that it has used.
	CPU time.Duration
	// Descriptors is the number of its open files and connections.
	Descriptors int
}

// clockTick is the unit of times in /proc, the same on all Linux machines.
const clockTick = 10 * time.Millisecond

// Usage reads what the program takes now (proc_pid_stat(5), proc_pid_status(5)).
func (p *Process) Usage() (u Usage, err error) {
	pid := p.PID()
	if pid == 0 {
		return Usage{}, fmt.Errorf("usage of %s: %w", p.Name(), ErrNotRunning)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("usage of %s: %w", p.Name(), err)
		}
	}()
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return Usage{}, err
	}
	if u.CPU, err = processorTime(string(stat)); err != nil {
		return Usage{}, err
	}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return Usage{}, err
	}
	u.Memory, u.Peak = kibibytes(string(status), "VmRSS:"), kibibytes(string(status), "VmHWM:")
	open, err := os.ReadDir(dir + "fd")
	if err != nil {
		return Usage{}, err
	}
	u.Descriptors = len(open)
	return u, nil
}

// FolderSize is what a folder's files have in bytes. Files come and go meanwhile.
func FolderSize(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n, err
}

// processorTime reads a line of /proc/PID/stat, where the name may have spaces.
func processorTime(stat string) (time.Duration, error) {
	const user, system = 11, 12 // behind the name
	_, rest, _ := strings.Cut(stat, ") ")
	fields := strings.Fields(rest)
	if len(fields) <= system {
		return 0, fmt.Errorf("stat has %d fields, want more than %d", len(fields), system)
	}
	var ticks int
	for _, text := range fields[user : system+1] {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// kibibytes finds a value in /proc/PID/status and returns it in bytes, or 0.
func kibibytes(status, key string) int64 {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, key); ok {
			n, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}
