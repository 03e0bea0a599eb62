package config_test

import (
	"fmt"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
)

func ExampleDecode() {
	file := `
listen: :8080
max_body: 1MiB
api:
  bsae: https://orders.example.com
  token: literally-a-secret
  timeout: 1 hour
`
	settings := struct {
		Listen  string       `yaml:"listen"`
		MaxBody config.Bytes `yaml:"max_body"`
		API     struct {
			Base    string        `yaml:"base"`
			Token   config.Secret `yaml:"token"`
			Timeout time.Duration `yaml:"timeout"`
		} `yaml:"api"`
	}{}
	err := config.Decode("tercel.yaml", []byte(file), &settings)
	fmt.Println(err)
	fmt.Println(settings.Listen, settings.MaxBody)
	// Output:
	// tercel.yaml:5:3: api.bsae: unknown key; did you mean "base"?
	// tercel.yaml:6:10: api.token: found [redacted], want a reference, env:NAME or file:/path, instead of the secret itself
	// tercel.yaml:7:12: api.timeout: found "1 hour", want a duration such as 30s, 5m or 7d
	// :8080 1MiB
}
