// Package boot is what every program of Tercel does around its service: flags,
// configuration, logs, telemetry, the NATS connection, health and signals.
package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

// Exit codes of every program.
const (
	OK     = 0 // done
	Failed = 1 // the thing asked for failed
	Usage  = 2 // the command line is wrong
)

// Service is a stage of the pipeline.
type Service interface {
	// Run works until ctx ends, finishes what is in hand and returns nil.
	Run(ctx context.Context) error
	// Healthy says why the service can't do its work, or nil.
	Healthy(ctx context.Context) error
}

// Env is what a service is built from.
type Env struct {
	File      *pipeline.File
	Conn      *nats.Conn
	JetStream jetstream.JetStream
	Log       *slog.Logger

	accounts *accounts
}

// accounts are opened by the service that needs them.
type accounts struct{ set *account.Set }

func (a *accounts) close() {
	if a.set != nil {
		a.set.Close()
	}
}

// Accounts opens the accounts of the file's sources; they end with the service.
func (e Env) Accounts() (*account.Set, error) {
	set, err := account.Open(account.Config{Sources: e.File.Sources, Streams: e.File.Streams, SealKeys: e.File.SealKeys},
		account.Deps{Conn: e.Conn, Log: e.Log})
	e.accounts.set = set
	return set, err
}

type flags struct {
	Config  string           `short:"c" help:"The pipeline file." env:"TERCEL_CONFIG" default:"tercel.yaml"`
	NATS    string           `name:"nats" help:"Address of the NATS servers, instead of the file's nats.url." env:"TERCEL_NATS" placeholder:"URL"`
	Health  string           `help:"Address of health and metrics, instead of the file's telemetry.listen." env:"TERCEL_HEALTH" placeholder:"HOST:PORT"`
	Version kong.VersionFlag `help:"Print the version and exit."`
}

// Main runs one service until SIGTERM or SIGINT and returns the exit code.
func Main(name string, build func(Env) (Service, error)) int {
	var f flags
	parser, err := kong.New(&f, kong.Name(name), kong.Vars{"version": Version()},
		kong.Description("The "+name+" of a Tercel pipeline. It runs until SIGTERM, then finishes what is in hand."))
	if err != nil {
		panic(err) // the flags above are wrong
	}
	if _, err := parser.Parse(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\nRun \"%s --help\" for its flags.\n", name, err, name)
		return Usage
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err = run(ctx, name, f, build)
	switch {
	case err == nil:
		return OK
	case errors.As(err, new(config.Faults)): // each line begins with its place
		fmt.Fprintln(os.Stderr, err)
	default:
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, err)
	}
	return Failed
}

func run(ctx context.Context, name string, f flags, build func(Env) (Service, error)) error {
	file, err := pipeline.Load(f.Config)
	if err != nil {
		return err
	}
	if f.NATS != "" {
		file.NATS.URL = f.NATS
	}
	if f.Health != "" {
		file.Telemetry.Listen = f.Health
	}
	log := NewLogger(os.Stderr, file.Telemetry.LogLevel).With(slog.String("service", name))
	tel, err := StartTelemetry(ctx, name, file.Telemetry, log)
	if err != nil {
		return err
	}
	defer tel.Shutdown()
	return Group{
		Log: log, Metrics: tel.Handler(), Listen: file.Telemetry.Listen,
		Services: map[string]Service{name: &starter{name: name, file: file, log: log, build: build}},
	}.Run(ctx)
}

// NewLogger returns the JSON logger of every program.
func NewLogger(w io.Writer, level pipeline.LogLevel) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l}))
}

// Version is the program's version: the module's, or the revision that it was
// built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			version += " " + s.Value[:12]
		}
	}
	return version
}

// Group is services that run side by side in one process.
type Group struct {
	Log      *slog.Logger
	Services map[string]Service
	// Metrics serves /metrics at Listen, beside /livez and /readyz.
	Metrics http.Handler
	Listen  string
	// Started, if set, is told the address of the health server.
	Started func(addr string)
}

// Run runs the group until ctx ends or a service fails; then it stops the
// others, waits for them and returns what failed.
func (g Group) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	health, stopHealth, err := serveHealth(g.Listen, g.Services, g.Metrics)
	if err != nil {
		return err
	}
	defer stopHealth()
	g.Log.Info("started", slog.String("version", Version()), slog.String("health", "http://"+health))
	if g.Started != nil {
		g.Started(health)
	}
	type end struct {
		name string
		err  error
	}
	ends := make(chan end)
	for name, s := range g.Services {
		go func() { ends <- end{name, s.Run(ctx)} }()
	}
	var errs []error
	for range g.Services {
		e := <-ends
		if e.err == nil && ctx.Err() == nil {
			e.err = errors.New("ended by itself")
		}
		if e.err != nil && len(g.Services) > 1 {
			e.err = fmt.Errorf("%s: %w", e.name, e.err)
		}
		if e.err != nil {
			errs = append(errs, e.err)
		}
		cancel()
	}
	g.Log.Info("stopped")
	return errors.Join(errs...)
}
