// Command sink writes enriched events to destinations.
package main

import (
	"os"

	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/sink"
)

func main() {
	os.Exit(boot.Main("sink", func(env boot.Env) (boot.Service, error) {
		return sink.New(sink.Config{Config: env.File.Sink, Destinations: env.File.Destinations},
			sink.Deps{JetStream: env.JetStream, Log: env.Log})
	}))
}
