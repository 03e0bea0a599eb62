// Command enricher gets the full record behind every trigger and publishes enriched events.
package main

import (
	"os"

	"github.com/tercelhq/tercel/services/enricher"
	"github.com/tercelhq/tercel/services/internal/boot"
)

func main() {
	os.Exit(boot.Main("enricher", func(env boot.Env) (boot.Service, error) {
		return enricher.New(enricher.Config{Config: env.File.Enricher, Sources: env.File.Sources, Streams: env.File.Streams},
			enricher.Deps{Conn: env.Conn, Log: env.Log})
	}))
}
