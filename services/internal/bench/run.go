package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// bench is one whole measurement.
type bench struct {
	ingress string
	rounds  int
	time    time.Duration
	dir     string
	js      jetstream.JetStream
}

// scenario is a durability with the connections that it is loaded over.
type scenario struct {
	durability topology.Durability
	flights    []int
}

var scenarios = []scenario{{topology.Relaxed, []int{128}}, {topology.Synced, []int{1, 128, 512}}}

// process is a child that is measured.
type process struct {
	cmd  *exec.Cmd
	addr string
}

// turn is what was measured in one turn of load.
type turn struct {
	rate float64 // events a second
	cpu  float64 // microseconds of processor time for an event, the server's included
}

func (b *bench) run(ctx context.Context) error {
	if b.ingress == "" {
		return errors.New("--ingress: the path of the built program is needed; use scripts/bench")
	}
	var err error
	if b.dir, err = os.MkdirTemp("", "tercel-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "durability\tin flight\tyardstick/s\tingress/s\tratio\tyardstick CPU\tingress CPU\tratio\tpeak RSS")
	for _, s := range scenarios {
		if err := b.scenario(ctx, s, out); err != nil {
			return fmt.Errorf("%s: %w", s.durability, err)
		}
	}
	fmt.Fprintf(out, "\nMedians of %d turns of %s each; CPU in µs an event, nats-server included.\n", b.rounds, b.time)
	return out.Flush()
}

func (b *bench) scenario(ctx context.Context, s scenario, out *tabwriter.Writer) error {
	server, url, err := b.startServer(s.durability)
	if err != nil {
		return err
	}
	defer server.stop()
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	if b.js, err = jetstream.New(nc); err != nil {
		return err
	}
	cfg := topology.DefaultConfig()
	cfg.Durability = s.durability
	if err := topology.Ensure(ctx, b.js, cfg); err != nil {
		return err
	}
	yard, err := b.startYardstick(url)
	if err != nil {
		return err
	}
	defer yard.stop()
	ingress, err := b.startIngress(url, s.durability)
	if err != nil {
		return err
	}
	defer ingress.stop()
	for _, n := range s.flights {
		var yards, ingresses []turn
		for i := range b.rounds + 1 { // the first warms up
			y, err := b.turn(ctx, yard, server, n)
			if err != nil {
				return fmt.Errorf("yardstick: %w", err)
			}
			in, err := b.turn(ctx, ingress, server, n)
			if err != nil {
				return fmt.Errorf("ingress: %w", err)
			}
			if i > 0 {
				yards, ingresses = append(yards, y), append(ingresses, in)
			}
		}
		report(out, s.durability, n, yards, ingresses, ingress)
	}
	return nil
}

func report(out *tabwriter.Writer, d topology.Durability, n int, yards, ingresses []turn, ingress *process) {
	rate, cpu := func(t turn) float64 { return t.rate }, func(t turn) float64 { return t.cpu }
	fmt.Fprintf(out, "%s\t%d\t%.0f\t%.0f\t%.2f\t%.0f\t%.0f\t%.2f\t%.0f MiB\n", d, n,
		median(yards, rate), median(ingresses, rate), ratio(yards, ingresses, rate),
		median(yards, cpu), median(ingresses, cpu), ratio(yards, ingresses, cpu), ingress.peakMiB())
}

// turn loads a process once and proves what it answered.
func (b *bench) turn(ctx context.Context, p, server *process, n int) (turn, error) {
	stream, err := b.js.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return turn{}, err
	}
	if err := stream.Purge(ctx); err != nil {
		return turn{}, err
	}
	before := p.cpu() + server.cpu()
	o, err := load(ctx, p.addr, n, b.time)
	if err != nil {
		return turn{}, err
	}
	used := p.cpu() + server.cpu() - before
	info, err := stream.Info(ctx)
	if err != nil {
		return turn{}, err
	}
	if stored := int(info.State.Msgs); o.refused > 0 || stored != o.firsts {
		return turn{}, fmt.Errorf("%d of %d requests refused, %d events stored of %d", o.refused, o.events, stored, o.firsts)
	}
	return turn{float64(o.events) / o.duration.Seconds(), float64(used.Microseconds()) / float64(o.events)}, nil
}

func median(turns []turn, of func(turn) float64) float64 {
	var values []float64
	for _, t := range turns {
		values = append(values, of(t))
	}
	return middle(values)
}

// ratio is the median of the rounds' ratios: what slows a round slows both.
func ratio(yards, ingresses []turn, of func(turn) float64) float64 {
	var values []float64
	for i := range yards {
		values = append(values, of(ingresses[i])/of(yards[i]))
	}
	return middle(values)
}

func middle(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func (b *bench) startServer(d topology.Durability) (*process, string, error) {
	cmd, err := b.self("-role", "server", "-dir", filepath.Join(b.dir, string(d)), "-durability", string(d))
	if err != nil {
		return nil, "", err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, "", fmt.Errorf("nats server: %w", err)
	}
	return &process{cmd: cmd}, strings.TrimSpace(url), nil
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

func (b *bench) startIngress(url string, d topology.Durability) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, string(d)+".yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, pipelineFile, d, addr), 0o600); err != nil {
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
	p := &process{cmd, addr}
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

// peakMiB is the most memory that the process has had at once.
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
