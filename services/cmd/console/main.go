// Command console is how operators look into a running pipeline and act on it.
package main

import (
	"os"

	"github.com/tercelhq/tercel/services/console"
	"github.com/tercelhq/tercel/services/internal/boot"
)

func main() {
	os.Exit(boot.Main("console", func(env boot.Env) (boot.Service, error) {
		return console.New(console.Config{
			Console: env.File.Console, Sources: env.File.Sources, Destinations: env.File.Destinations,
			Redact: env.File.Redactions(), Version: boot.Version(),
		}, console.Deps{Conn: env.Conn, Log: env.Log})
	}))
}
