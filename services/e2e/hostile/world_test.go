package hostile_test

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/freeport"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/process"
)

// patience bounds every wait for something that has to come. Nothing depends on how
// soon it does.
const patience = 2 * time.Minute

// readTimeout is the ingress's: the time that a slow sender has.
const readTimeout = 3 * time.Second

// rounds is how often each part of the corpus is sent once the programs are warm. 0 is
// once, and without the parts that take a minute each.
var rounds = flag.Int("rounds", 0, "how often each part of the corpus is sent; 0 leaves out the slow parts")

// slow leaves a test out unless rounds are asked for.
func slow(t *testing.T) {
	t.Helper()
	if *rounds == 0 {
		t.Skip("left to scripts/hostile, or -rounds 1: it takes a minute")
	}
}

// built is the folder of the programs under test. They are built for each run, unless
// a folder is given that has them.
var (
	built string
	given bool
)

func TestMain(m *testing.M) {
	flag.StringVar(&built, "programs", "", "a folder that has the programs")
	flag.Parse()
	if given = built != ""; given {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "tercel-hostile-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// programs builds the services and a NATS server.
var programs = sync.OnceValue(func() error {
	if given {
		return nil
	}
	args := []string{"build", "-o", built + "/", "github.com/nats-io/nats-server/v2"}
	for _, name := range services {
		args = append(args, "../../cmd/"+name)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
})

// services are the programs under test.
var services = []string{"ingress", "enricher", "sink", "reconciler", "console"}

// world is a pipeline whose parts are processes.
type world struct {
	t    *testing.T
	file *pipeline.File // as the services read it
	js   jetstream.JetStream
	api  *sourceAPI

	ingress, console string // addresses
	parts            map[string]*process.Process
	health           map[string]string // addresses, by program
	archive          string            // the folder of a destination of files

	neighbour *neighbour
	made      int // ids that were new
}

// unique is an id that is new each time.
func (w *world) unique() string {
	w.made++
	return fmt.Sprintf("new-%d", w.made)
}

// part is what one part of the corpus needs of the pipeline.
type part struct {
	sources      string // entries of sources, beside the neighbour's; @API@ is the API
	destinations string // entries of destinations
	services     []string
	env          map[string]string
	answers      func(canary string) map[string]answerer // of APIs, by the first part of the path

	budget    string // of bodies; 1GiB unless that is the subject
	encrypted bool   // the console is
}

const consoleToken = "the operator's token, long enough"

// settings are the pipeline's but for sources and destinations. What is waited for
// is generous where it isn't the subject.
const settings = `
ingress: {listen: %q, drain_grace: 0s, read_timeout: %s, store_timeout: 1m, max_in_flight: 64, body_budget: %s}
console: {listen: %q, tokens: {olivia: {role: operator, token: env:CONSOLE_TOKEN}}%s}
enricher: {workers: 4, max_attempts: 3, retry_min: 50ms, retry_max: 100ms, ack_wait: 10s, timeout: 5s}
sink: {max_attempts: 3, retry_min: 50ms, retry_max: 100ms}
reconciler: {lease_ttl: 3s, audit_every: 5s, collect: {ack_wait: 5s}}
telemetry: {log_level: info}
streams: {durability: relaxed}
`

// start runs the pipeline until the test ends.
func start(t *testing.T, p part) *world {
	t.Helper()
	if err := programs(); err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, api: serveAPI(t, p.answers), ingress: freeAddr(t), console: freeAddr(t), archive: filepath.Join(t.TempDir(), "archive"),
		parts: map[string]*process.Process{}, health: map[string]string{},
	}
	env := map[string]string{"NEIGHBOUR_SECRET": neighbourSecret, "CONSOLE_TOKEN": consoleToken}
	for name, value := range p.env {
		env[name] = value
	}
	tls := ""
	if p.encrypted {
		tls = ", tls: " + certificate(t)
	}
	text := "sources:\n" + strings.ReplaceAll(neighbourSource+p.sources, "@API@", w.api.url) +
		"destinations:\n  archive: {files: {dir: " + w.archive + "}}\n" + p.destinations +
		fmt.Sprintf(settings, w.ingress, readTimeout, cmp.Or(p.budget, "1GiB"), w.console, tls)
	file := filepath.Join(t.TempDir(), "tercel.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	w.file, err = pipeline.Load(file, config.WithLookupEnv(func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}))
	if err != nil {
		t.Fatal(err)
	}
	w.run(file, p.services, env)
	w.neighbour = newNeighbour(w)
	return w
}

// run starts the NATS server and the programs.
func (w *world) run(file string, names []string, env map[string]string) {
	w.t.Helper()
	addr, dir := freeAddr(w.t), w.t.TempDir()
	conf := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: %q\nmax_payload: 16MB\njetstream: {store_dir: %q, max_mem: 64M, max_file: 4G}\n", addr, filepath.Join(dir, "store"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.launch(&process.Process{Path: filepath.Join(built, "nats-server"), Args: []string{"-c", conf}, Ready: process.Listens(addr)})
	var vars []string
	for name, value := range env {
		vars = append(vars, name+"="+value)
	}
	for _, name := range names {
		health := freeAddr(w.t)
		w.health[name] = health
		w.launch(&process.Process{
			Path: filepath.Join(built, name), Env: vars, Ready: process.Answers("http://" + health + "/readyz"),
			Args: []string{"--config", file, "--nats", "nats://" + addr, "--health", health},
		})
	}
	nc, err := nats.Connect(addr, nats.MaxReconnects(-1))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(time.Minute)); err != nil {
		w.t.Fatal(err)
	}
}

// launch starts a program. It is stopped when the test ends, which it has to do
// well: whatever it went through.
func (w *world) launch(p *process.Process) {
	w.t.Helper()
	p.Log = filepath.Join(w.t.ArtifactDir(), p.Name()+".log")
	w.parts[p.Name()] = p
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			w.t.Error(err)
		}
	})
	if err := p.Start(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// eventually waits for a condition.
func (w *world) eventually(what string, ok func(context.Context) error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := process.Await(ctx, ok); err != nil {
		w.t.Fatalf("%s: %v", what, errors.Join(err, w.alive()))
	}
}

// alive returns an error for each program that has ended, and for each whose log
// tells of a panic that it survived.
func (w *world) alive() error {
	var errs []error
	for name, p := range w.parts {
		if p.PID() == 0 {
			errs = append(errs, fmt.Errorf("%s has ended\n%s", name, p.Output()))
		}
		text, err := os.ReadFile(p.Log)
		if err != nil {
			errs = append(errs, err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") {
				errs = append(errs, fmt.Errorf("%s: %s", name, line))
			}
		}
	}
	return errors.Join(errs...)
}

func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
