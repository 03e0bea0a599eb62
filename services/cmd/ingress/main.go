// Command ingress takes webhooks in: it verifies them and stores them in JetStream before it answers.
package main

import (
	"os"

	"github.com/tercelhq/tercel/services/ingress"
	"github.com/tercelhq/tercel/services/internal/boot"
)

func main() {
	os.Exit(boot.Main("ingress", func(env boot.Env) (boot.Service, error) {
		accounts, err := env.Accounts()
		if err != nil {
			return nil, err
		}
		return ingress.New(ingress.Config{Ingress: env.File.Ingress, Sources: env.File.Sources, Streams: env.File.Streams},
			ingress.Deps{Conn: env.Conn, Log: env.Log, Accounts: accounts})
	}))
}
