// Command ingress takes webhooks in: it verifies them and stores them in JetStream before it answers.
package main

import (
	"os"
	"runtime/debug"

	"github.com/tercelhq/tercel/services/ingress"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// gcPercent is for a process whose live memory is mostly its connections' and
// the ids that it has seen: a tenth less of it at the peak for a hundredth more
// processor time.
const gcPercent = 80

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(boot.Main("ingress", func(env boot.Env) (boot.Service, error) {
		accounts, err := env.Accounts()
		if err != nil {
			return nil, err
		}
		return ingress.New(ingress.Config{Ingress: env.File.Ingress, Sources: env.File.Sources, Streams: env.File.Streams},
			ingress.Deps{Conn: env.Conn, Log: env.Log, Accounts: accounts})
	}))
}
