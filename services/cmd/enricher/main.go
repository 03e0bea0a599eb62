// Command enricher gets the full record behind every trigger and publishes enriched events.
package main

import (
	"os"

	"github.com/tercelhq/tercel/services/enricher"
	"github.com/tercelhq/tercel/services/internal/boot"
)

func main() {
	os.Exit(boot.Main("enricher", func(env boot.Env) (boot.Service, error) {
		accounts, err := env.Accounts()
		if err != nil {
			return nil, err
		}
		return enricher.New(enricher.Config{
			Config: env.File.Enricher, Sources: env.File.Sources, Streams: env.File.Streams, SealKeys: env.File.SealKeys,
		}, enricher.Deps{Conn: env.Conn, Log: env.Log, Accounts: accounts})
	}))
}
