package main

import (
	"context"
	"os"
	"time"

	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/embednats"
)

// part is what a child process is told. Each role reads what it needs.
type part struct {
	NATS       string              `json:"nats"`
	Listen     string              `json:"listen"`
	Dir        string              `json:"dir"`
	Durability topology.Durability `json:"durability"`
	Hold       time.Duration       `json:"hold"` // what a sync takes longer
	DSN        string              `json:"dsn"`
	Source     string              `json:"source"`
	API        string              `json:"api"`
	Workers    int                 `json:"workers"`
	Records    int                 `json:"records"`
}

// roles are what a child process is. It is killed when its parent ends.
var roles = map[string]func(context.Context, part) error{
	"server":  serve,
	"handler": serveBare,
	"api":     serveAPI,
	"fetch":   func(ctx context.Context, p part) error { return enrichBare(ctx, p, (*bareEnricher).fetch) },
	"pipe":    func(ctx context.Context, p part) error { return enrichBare(ctx, p, (*bareEnricher).pipe) },
	"get":     func(ctx context.Context, p part) error { return enrichBare(ctx, p, (*bareEnricher).get) },
	"batch":   func(ctx context.Context, p part) error { return deliverBare(ctx, p, writeBatch) },
	"rows":    func(ctx context.Context, p part) error { return deliverBare(ctx, p, writeRows) },
	"ledger":  func(ctx context.Context, p part) error { return compareAs(ctx, p, compareLedger) },
	"blocks":  func(ctx context.Context, p part) error { return compareAs(ctx, p, compareBlocks) },
	"keys":    func(ctx context.Context, p part) error { return compareAs(ctx, p, compareKeys) },
	"release": func(_ context.Context, p part) error { letGo(listenerFile, p.Hold); return nil },
}

// serve runs a NATS server until it is told to end.
func serve(ctx context.Context, p part) error {
	if p.Hold > 0 && os.Getenv(heldVariable) == "" {
		return serveHeld(p)
	}
	s, err := embednats.Start(embednats.Config{Dir: p.Dir, Listen: "127.0.0.1:0", Durability: p.Durability})
	if err != nil {
		return err
	}
	defer s.Shutdown()
	<-ctx.Done()
	return nil
}
