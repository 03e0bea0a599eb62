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
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
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

// Main runs one service until SIGTERM or SIGINT and returns the exit code.
func Main(name string, build func(Env) (Service, error)) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return command(ctx, name, os.Args[1:], os.Stdout, os.Stderr, build)
}

// command runs one command line of a service and returns the exit code.
func command(ctx context.Context, name string, args []string, out, errs io.Writer, build func(Env) (Service, error)) int {
	f, err := parseFlags(name, args, out)
	switch {
	case errors.Is(err, errHelp):
		return OK
	case err != nil:
		fmt.Fprintf(errs, "%s: %s\nRun \"%s --help\" for its flags.\n", name, err, name)
		return Usage
	case f.version:
		fmt.Fprintln(out, Version())
		return OK
	}
	switch err := run(ctx, name, f, errs, build); {
	case err == nil:
		return OK
	case errors.As(err, new(config.Faults)): // each line begins with its place
		fmt.Fprintln(errs, err)
	default:
		fmt.Fprintf(errs, "%s: %s\n", name, err)
	}
	return Failed
}

func run(ctx context.Context, name string, f flags, errs io.Writer, build func(Env) (Service, error)) error {
	if f.probe && f.health != "" {
		return Probe(ctx, f.health) // without the file and its secrets
	}
	file, err := pipeline.Load(f.config)
	if err != nil {
		return err
	}
	if f.nats != "" {
		file.NATS.URL = f.nats
	}
	if f.health != "" {
		file.Telemetry.Listen = f.health
	}
	switch {
	case f.probe:
		return Probe(ctx, file.Telemetry.Listen)
	case f.check:
		return nil
	}
	log := NewLogger(errs, file.Telemetry.LogLevel).With(slog.String("service", name))
	tel, err := StartTelemetry(ctx, name, file.Telemetry, log)
	if err != nil {
		return err
	}
	defer tel.Shutdown()
	return Group{
		Log: log, Metrics: tel.Handler(), Listen: file.Telemetry.Listen,
		Services: map[string]Service{name: &starter{name: name, file: file, log: log, build: build, ensure: topology.Ensure}},
	}.Run(ctx)
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
