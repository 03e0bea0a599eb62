package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a child that is measured.
type process struct {
	cmd  *exec.Cmd
	addr string
}

// startServer starts a NATS server, and returns where it is and what a sync
// takes there.
func (b *bench) startServer(s scenario) (p *process, url, sync string, err error) {
	cmd, err := b.self("-role", "server", "-dir", filepath.Join(b.dir, s.name), "-durability", string(s.durability))
	if err != nil {
		return nil, "", "", err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", "", err
	}
	if s.hold > 0 {
		err = startHeld(cmd, s.hold)
	} else {
		err = cmd.Start()
	}
	if err != nil {
		return nil, "", "", err
	}
	if _, err := fmt.Fscanln(stdout, &url, &sync); err != nil {
		return nil, "", "", fmt.Errorf("nats server: %w", err)
	}
	return &process{cmd: cmd}, url, sync, nil
}

func (b *bench) startYardstick(url string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	cmd, err := b.self("-role", "yardstick", "-nats", url, "-listen", addr)
	if err != nil {
		return nil, err
	}
	return start(cmd, addr)
}

const pipelineFile = `
sources:
  stripe: {preset: stripe, secrets: [env:BENCH_SECRET]}
  hub: {preset: github, secrets: [env:BENCH_SECRET]}
streams: {durability: %s}
ingress: {listen: %q}
telemetry: {listen: "127.0.0.1:0", sample: 0.01, log_level: warn}
`

func (b *bench) startIngress(url string, s scenario) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, s.name+".yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, pipelineFile, s.durability, addr), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(b.ingress, "-c", file, "--nats", url)
	cmd.Env = append(os.Environ(), "BENCH_SECRET="+secret)
	return start(cmd, addr)
}

// self makes a command of this program, which ends when this one does: its
// standard input then does.
func (b *bench) self(args ...string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return cmd, nil
}

// start starts a command and waits until it listens.
func start(cmd *exec.Cmd, addr string) (*process, error) {
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, addr: addr}
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return p, c.Close()
		}
		if time.Now().After(deadline) {
			p.stop()
			return nil, fmt.Errorf("%s doesn't listen: %w", cmd.Path, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

// clockTick is the unit of times in /proc, the same on all Linux machines.
const clockTick = 10 * time.Millisecond

// cpu is the processor time that the process has used.
func (p *process) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name may have spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * clockTick
}

// resetPeak makes peakMiB begin anew (proc_pid_clear_refs(5)).
func (p *process) resetPeak() {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0)
}

// peakMiB is the most memory that the process has had at once since resetPeak.
func (p *process) peakMiB() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(value)[0])
			return float64(kib) / 1024
		}
	}
	return 0
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
