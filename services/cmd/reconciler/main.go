// Command reconciler finds what webhooks missed, repairs it, and keeps dead letters.
package main

import (
	"maps"
	"os"
	"runtime/debug"
	"slices"

	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/reconciler"
)

// gcPercent is for a process whose live memory is mostly ledgers: the collector is
// soon through with them, as they have no pointers, and would let garbage take as
// much again.
const gcPercent = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(boot.Main("reconciler", func(env boot.Env) (boot.Service, error) {
		accounts, err := env.Accounts()
		if err != nil {
			return nil, err
		}
		return reconciler.New(reconciler.Config{
			Reconciler: env.File.Reconciler, Sources: env.File.Sources, Streams: env.File.Streams, SealKeys: env.File.SealKeys,
			Destinations: env.File.Compared(), Delivered: slices.Sorted(maps.Keys(env.File.Destinations)),
		}, reconciler.Deps{Conn: env.Conn, Log: env.Log, Accounts: accounts})
	}))
}
