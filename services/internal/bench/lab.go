package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/freeport"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/process"
)

// lab is where everything is measured.
type lab struct {
	self     string // this program
	programs string // the folder of the built ones
	dir      string // for what is temporary
	quick    bool
	rounds   int
	scenario string // that runs
	stands   int    // that there have been
	report   report
}

func (l *lab) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

// size is a number of events, or what a quick run takes instead.
func (l *lab) size(whole, quick int) int {
	if l.quick {
		return quick
	}
	return whole
}

// length is that of a turn whose time is given.
func (l *lab) length() time.Duration {
	if l.quick {
		return time.Second
	}
	return 2 * time.Second
}

// level is what an acknowledged message survives, and the disk below.
type level struct {
	name       string
	durability topology.Durability
	hold       time.Duration // what a sync takes longer
}

var (
	relaxed = level{name: "relaxed", durability: topology.Relaxed}
	synced  = level{name: "synced", durability: topology.Synced}
	slowly  = level{name: "synced, each sync 2 ms slower", durability: topology.Synced, hold: 2 * time.Millisecond}
)

// stand is a NATS server of its own with Tercel's streams, and what uses it.
type stand struct {
	*lab
	level
	dir    string // the server's
	server *process.Process
	url    string
	nc     *nats.Conn
	js     jetstream.JetStream
	pg     *database // nil where there is none
	last   proc      // that was started
}

// proc is a program that is measured, and where it listens: a stage for its
// health and metrics, all else for its work.
type proc struct {
	*process.Process
	addr string
}

// startWithin bounds the start of any program, on a machine that is busy.
const startWithin = time.Minute

// with has do work at a new stand.
func (l *lab) with(ctx context.Context, at level, do func(*stand) error) error {
	l.stands++
	s := &stand{lab: l, level: at, dir: filepath.Join(l.dir, fmt.Sprint("stand-", l.stands))}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(s.dir) }()
	if err := s.startServer(ctx); err != nil {
		return err
	}
	defer s.stopServer()
	if err := topology.Ensure(ctx, s.js, s.streams()); err != nil {
		return err
	}
	return do(s)
}

// streams are how the stand's are kept.
func (s *stand) streams() topology.Config {
	cfg := topology.DefaultConfig()
	cfg.Durability, cfg.DedupWindow = s.durability, time.Hour
	return cfg
}

func (s *stand) startServer(ctx context.Context) error {
	s.server = s.command("server", part{Dir: s.data(), Durability: s.durability, Hold: s.hold}).Process
	s.server.Ready = func(context.Context) error {
		url, err := os.ReadFile(filepath.Join(s.data(), "nats.url"))
		if err != nil {
			return err
		}
		s.url = strings.TrimSpace(string(url))
		s.nc, err = nats.Connect(s.url, nats.Timeout(time.Minute))
		return err
	}
	if err := start(ctx, s.server); err != nil {
		return err
	}
	var err error
	s.js, err = jetstream.New(s.nc, jetstream.WithDefaultTimeout(time.Minute), jetstream.WithPublishAsyncMaxPending(4096))
	return err
}

func (s *stand) stopServer() {
	s.nc.Close()
	stop(proc{Process: s.server})
}

// data is where the server keeps its streams.
func (s *stand) data() string { return filepath.Join(s.dir, "nats") }

func start(ctx context.Context, p *process.Process) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	return p.Start(ctx)
}

// stop ends programs. What they say about it is not what is measured.
func stop(all ...proc) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, p := range all {
		_ = p.Stop(ctx)
	}
}

// command is this program in one of its other roles. It is ready when it listens.
func (s *stand) command(role string, p part) proc {
	text, _ := json.Marshal(p) // of plain fields
	return proc{&process.Process{
		Path: s.self, Args: []string{"as", role, string(text)}, Log: filepath.Join(s.dir, role+".log"), Ready: process.Listens(p.Listen),
	}, p.Listen}
}

// child starts this program in one of its other roles, which listens somewhere.
func (s *stand) child(ctx context.Context, role string, p part) (proc, error) {
	var err error
	p.NATS = s.url
	if p.Listen, err = freeport.Addr(); err != nil {
		return proc{}, err
	}
	s.last = s.command(role, p)
	return s.last, start(ctx, s.last.Process)
}

// blamed adds to an error what the program said that was started last, if it has
// ended.
func (s *stand) blamed(err error) error {
	if s.last.Process != nil && s.last.PID() == 0 {
		return fmt.Errorf("%w; %s had ended: %s", err, s.last.Name(), s.last.Output())
	}
	return err
}

// service starts one of Tercel's programs with a pipeline file, to which is added
// what all have in common, and waits until it is ready.
func (s *stand) service(ctx context.Context, name, file string) (proc, error) {
	addr, err := freeport.Addr()
	if err != nil {
		return proc{}, err
	}
	at := filepath.Join(s.dir, strings.Replace(addr, ":", "-", 1)+".yaml")
	file += fmt.Sprintf("\nstreams: {durability: %s, dedup_window: 1h}\ntelemetry: {listen: %q, sample: 0.01, log_level: error}\n", s.durability, addr)
	if err := os.WriteFile(at, []byte(file), 0o600); err != nil {
		return proc{}, err
	}
	p := proc{&process.Process{
		Path: filepath.Join(s.programs, name), Args: []string{"-c", at, "--nats", s.url}, Log: filepath.Join(s.dir, name+".log"),
		Env: []string{"BENCH_SECRET=" + secret, "BENCH_KEY=whsec_YSBzZWNyZXQgb2YgdGhlIGJlbmNobWFyaw=="}, Ready: process.Answers("http://" + addr + "/readyz"),
	}, addr}
	if s.pg != nil {
		p.Env = append(p.Env, "BENCH_DSN="+s.pg.dsn())
	}
	s.last = p
	return p, start(ctx, p.Process)
}
