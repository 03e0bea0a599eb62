package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/console"
	"github.com/tercelhq/tercel/services/enricher"
	"github.com/tercelhq/tercel/services/ingress"
	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/internal/embednats"
	"github.com/tercelhq/tercel/services/reconciler"
	"github.com/tercelhq/tercel/services/sink"
)

type upCmd struct {
	Config     string `short:"c" help:"The pipeline file." default:"tercel.yaml" env:"TERCEL_CONFIG"`
	Data       string `help:"Folder for streams and the default destination." default:"tercel-data" env:"TERCEL_DATA"`
	Health     string `help:"Address of health and metrics, instead of the file's telemetry.listen." env:"TERCEL_HEALTH" placeholder:"HOST:PORT"`
	NATSListen string `name:"nats-listen" help:"Loopback address of the embedded server, for the other commands." default:"127.0.0.1:4222"`
}

// Help is shown by --help.
func (upCmd) Help() string {
	return `Runs ingress, enricher, sink, reconciler and console until SIGTERM or Ctrl-C, then finishes what is
in hand. Without destinations in the file, events go to DATA/tercel.db (SQLite).

Example:
  tercel init --preset github && GITHUB_WEBHOOK_SECRET=… tercel up`
}

// Run runs the command.
func (c upCmd) Run(a *app) error {
	file, err := pipeline.Load(c.Config)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; write one with \"tercel init\"", err)
	}
	if err != nil {
		return err
	}
	if c.Health != "" {
		file.Telemetry.Listen = c.Health
	}
	return runAll(a.ctx, file, allOptions{
		DataDir: c.Data, NATSListen: c.NATSListen, Log: boot.NewLogger(a.err, file.Telemetry.LogLevel),
		Ready: func(r running) {
			fmt.Fprintf(a.err, "tercel is up: webhooks at %s/v1/SOURCE, admin API at %s, health and metrics at %s\n",
				r.IngressURL, r.ConsoleURL, r.TelemetryURL)
		},
	})
}

// allOptions are how the whole pipeline runs in one process.
type allOptions struct {
	// DataDir keeps the streams and the default destination.
	DataDir string
	// NATSListen is where other processes reach the embedded server; "" means
	// nowhere.
	NATSListen string
	Log        *slog.Logger
	// Ready, if set, is called once webhooks are taken in.
	Ready func(running)
}

// running is where a pipeline in this process can be reached.
type running struct {
	Conn         *nats.Conn
	IngressURL   string
	ConsoleURL   string
	TelemetryURL string
}

// runAll runs an embedded server and all services until ctx ends.
func runAll(ctx context.Context, file *pipeline.File, o allOptions) error {
	if file.Streams.Replicas != 1 {
		return fmt.Errorf("streams.replicas: %d, but the embedded server is one; leave it at 1 or run the services against a cluster", file.Streams.Replicas)
	}
	srv, err := embednats.Start(embednats.Config{Dir: o.DataDir, Listen: o.NATSListen, Durability: file.Streams.Durability, Log: o.Log})
	if err != nil {
		return err
	}
	defer srv.Shutdown()
	tel, err := boot.StartTelemetry(ctx, "up", file.Telemetry, o.Log)
	if err != nil {
		return err
	}
	defer tel.Shutdown()
	nc, err := boot.Connect(pipeline.NATS{}, "up", o.Log, srv.Options()...)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	if err := topology.Ensure(ctx, js, file.Streams); err != nil {
		return fmt.Errorf("set up streams: %w", err)
	}
	if len(file.Destinations) == 0 {
		file.Destinations = map[string]pipeline.Destination{"local": {
			SQLite: &pipeline.SQLite{Path: filepath.Join(o.DataDir, "tercel.db")}, Subscribe: []string{">"},
		}}
	}
	accounts, err := account.Open(account.Config{Sources: file.Sources, Streams: file.Streams, SealKeys: file.SealKeys},
		account.Deps{Conn: nc, Log: o.Log})
	if err != nil {
		return err
	}
	defer accounts.Close()
	if file.Console.Index == "" {
		file.Console.Index = filepath.Join(o.DataDir, "index")
	}
	services, in, co, err := buildAll(file, nc, js, accounts, o.Log)
	if err != nil {
		return err
	}
	health := make(chan string, 1)
	go func() {
		for _, ready := range []<-chan struct{}{in.Ready(), co.Ready()} {
			select {
			case <-ready:
			case <-ctx.Done():
				return
			}
		}
		if o.Ready != nil {
			scheme := "http://"
			if file.Ingress.TLS.Cert != "" {
				scheme = "https://"
			}
			o.Ready(running{nc, scheme + in.Addr(), co.URL(), "http://" + <-health})
		}
	}()
	return boot.Group{
		Log: o.Log, Services: services, Metrics: tel.Handler(), Listen: file.Telemetry.Listen,
		Started: func(addr string) { health <- addr },
	}.Run(ctx)
}

func buildAll(f *pipeline.File, nc *nats.Conn, js jetstream.JetStream, accounts *account.Set, log *slog.Logger) (
	map[string]boot.Service, *ingress.Service, *console.Service, error,
) {
	named := func(name string) *slog.Logger { return log.With(slog.String("service", name)) }
	in, errIn := ingress.New(ingress.Config{Ingress: f.Ingress, Sources: f.Sources, Streams: f.Streams},
		ingress.Deps{Conn: nc, Log: named("ingress"), Accounts: accounts})
	en, errEn := enricher.New(enricher.Config{Config: f.Enricher, Sources: f.Sources, Streams: f.Streams, SealKeys: f.SealKeys},
		enricher.Deps{Conn: nc, Log: named("enricher"), Accounts: accounts})
	si, errSi := sink.New(sink.Config{Config: f.Sink, Destinations: f.Destinations},
		sink.Deps{JetStream: js, Log: named("sink")})
	re, errRe := reconciler.New(reconciler.Config{
		Reconciler: f.Reconciler, Sources: f.Sources, Streams: f.Streams, SealKeys: f.SealKeys, Destinations: f.Compared(),
		Delivered: slices.Sorted(maps.Keys(f.Destinations)),
	},
		reconciler.Deps{Conn: nc, Log: named("reconciler"), Accounts: accounts})
	co, errCo := console.New(console.Config{
		Console: f.Console, Sources: f.Sources, Destinations: f.Destinations, Redact: f.Redactions(), Open: true, Version: boot.Version(),
	}, console.Deps{Conn: nc, Log: named("console")})
	if err := errors.Join(errIn, errEn, errSi, errRe, errCo); err != nil {
		return nil, nil, nil, err
	}
	return map[string]boot.Service{"ingress": in, "enricher": en, "sink": si, "reconciler": re, "console": co}, in, co, nil
}

// isTerminal reports whether w is a terminal, where a line can be rewritten.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}
