package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/internal/embednats"
)

// pipelineFlags find the NATS server of a pipeline, for what operators do with
// secrets that no API takes: the accounts in a bucket.
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
	servers, hint := p.NATS, ""
	if servers == "" {
		found, ok := embednats.FindURL(p.Data)
		if servers = found; !ok {
			servers = nats.DefaultURL
			hint = fmt.Sprintf(" (no tercel up runs on %s; start one, or name the server with --nats or the folder with --data)", p.Data)
		}
	}
	opts := []nats.Option{nats.Name("tercel-cli"), nats.Timeout(5 * time.Second)}
	if p.Creds != "" {
		opts = append(opts, nats.UserCredentials(p.Creds))
	}
	nc, err := nats.Connect(servers, opts...)
	if err != nil {
		if errors.Is(err, nats.ErrAuthorization) {
			hint = " (--data FOLDER of the running tercel up has its token; else give --creds, or --nats with a user and password or a token)"
		}
		return nil, fmt.Errorf("connect to %s: %w%s", withoutToken(servers), boot.WithoutAddress(err), hint)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &connection{nc, js}, nil
}

// withoutToken keeps the credentials of addresses out of messages.
func withoutToken(urls string) string {
	var shown []string
	for address := range strings.SplitSeq(urls, ",") {
		if address = strings.TrimSpace(address); !strings.Contains(address, "://") {
			address = "nats://" + address
		}
		if u, err := url.Parse(address); err == nil {
			shown = append(shown, u.Scheme+"://"+u.Host)
		} else {
			shown = append(shown, "[not a URL]")
		}
	}
	return strings.Join(shown, ",")
}
