package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/services/internal/embednats"
)

// pipelineFlags find a running pipeline.
type pipelineFlags struct {
	NATS  string `name:"nats" help:"Address of the pipeline's NATS server. Defaults to the server of the tercel up that runs on --data, else nats://127.0.0.1:4222." env:"TERCEL_NATS" placeholder:"URL"`
	Creds string `help:"A .creds file for the server." env:"TERCEL_NATS_CREDS" type:"existingfile"`
	Data  string `help:"Data folder of the tercel up to look into." default:"tercel-data" env:"TERCEL_DATA"`
}

// connection is an open way into a running pipeline. Close it.
type connection struct {
	*nats.Conn
	js jetstream.JetStream
}

// connect opens the connection; the error says where it looked and what to do.
func (p pipelineFlags) connect() (*connection, error) {
	url, hint := p.NATS, ""
	if url == "" {
		found, ok := embednats.FindURL(p.Data)
		if url = found; !ok {
			url = nats.DefaultURL
			hint = fmt.Sprintf(" (no tercel up runs on %s; start one, or name the server with --nats or the folder with --data)", p.Data)
		}
	}
	opts := []nats.Option{nats.Name("tercel-cli"), nats.Timeout(5 * time.Second)}
	if p.Creds != "" {
		opts = append(opts, nats.UserCredentials(p.Creds))
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w%s", withoutToken(url), err, hint)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &connection{nc, js}, nil
}

// withoutToken keeps the credentials of an address out of messages.
func withoutToken(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if _, host, has := strings.Cut(rest, "@"); ok && has {
		return scheme + "://" + host
	}
	return url
}
